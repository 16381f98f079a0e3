# syntax=docker/dockerfile:1
# The gateway without torch and without what only training needs, about what `make run` installs.
# It needs a configuration at /etc/pointsman/config.yaml, a key, since it listens on all addresses, and
# the secret that keys are hashed with, since it can't keep one:
#
#   docker build -t pointsman .
#   docker run --read-only --tmpfs /tmp --stop-timeout 40 -p 127.0.0.1:8080:8080 \
#     -e POINTSMAN_ADMIN_KEY -e POINTSMAN_KEY_SECRET \
#     -v ./my.yaml:/etc/pointsman/config.yaml:ro -v pointsman:/var/lib/pointsman pointsman
#
# `ledger.url` and `ledger.journal` belong under /var/lib/pointsman; docs/operations.md has the rest.

FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d AS build

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /srv/pointsman
RUN python -m venv /opt/venv \
 && /opt/venv/bin/pip install setuptools==80.9.0

# Dependencies first, from an empty package: a change of our code does not install them again.
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY deploy/constraints.txt deploy/constraints.txt
RUN mkdir app && touch app/__init__.py \
 && /opt/venv/bin/pip install --no-build-isolation -c deploy/constraints.txt -e '.[postgres,otel]' \
 && /opt/venv/bin/pip uninstall --yes setuptools pip

COPY app app
COPY configs configs
COPY router_models router_models
# Compiled now, since the file system is read-only later.
RUN python -m compileall -q -j 0 app /opt/venv/lib \
 && /opt/venv/bin/pointsman check configs/demo.yaml

FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d

LABEL org.opencontainers.image.title="Pointsman" \
      org.opencontainers.image.description="An OpenAI-compatible gateway that sends each request to the cheapest capable model" \
      org.opencontainers.image.licenses="Apache-2.0"

RUN groupadd --gid 10001 pointsman \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/pointsman --shell /usr/sbin/nologin pointsman \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/pointsman \
 && install -d /etc/pointsman

COPY --from=build /opt/venv /opt/venv
COPY --from=build /srv/pointsman /srv/pointsman

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    POINTSMAN_CONFIG=/etc/pointsman/config.yaml
USER 10001:10001
WORKDIR /var/lib/pointsman
VOLUME /var/lib/pointsman
EXPOSE 8080

HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/livez', timeout=3)"]

ENTRYPOINT ["pointsman"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8080"]
