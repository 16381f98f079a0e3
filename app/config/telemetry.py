"""The written form of what is told to other systems: traces."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from app.config.fields import HeaderName, Secret, Written, address


def _collector(text: str) -> str:
    url = address(text, "http://127.0.0.1:4318")
    return text.rstrip("/") + "/v1/traces" if url.path == "/" else text


class Tracing(Written):
    """Spans of each request, sent to an OpenTelemetry collector over OTLP/HTTP."""

    endpoint: Annotated[str, AfterValidator(_collector)] | None = Field(
        default=None,
        description="The collector's address; /v1/traces is added where it has no path. Left out: "
        "OTEL_EXPORTER_OTLP_ENDPOINT, else http://localhost:4318.",
    )
    headers: dict[HeaderName, Secret] = Field(
        default_factory=dict, description="Sent with every export, e.g. the collector's key."
    )
    sample_share: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share of requests that are traced. A client that sends a traceparent has "
        "decided already. Left out: OTEL_TRACES_SAMPLER, else all.",
    )
    propagate: bool = Field(
        default=True, description="Send upstreams a traceparent, so that they can go on with it."
    )
    prompt_text: bool = Field(
        default=False, description="Put the messages' text into spans, in clear."
    )
