# Plain `make` lists what there is.
PYTHON ?= python3
VENV   ?= .venv
HOST   ?= 127.0.0.1
PORT   ?= 8080
CONFIG ?= configs/demo.yaml
EXTRAS ?= dev

PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c deploy/constraints.txt
comma := ,
STAMP := $(VENV)/.installed-$(subst $(comma),-,$(EXTRAS))

.DEFAULT_GOAL := help
.PHONY: help setup run demo check test bench

help: ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-8s %s\n", $$1, $$2}'

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Pointsman needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "Python lacks venv; on Debian: apt-get install python3-venv"; rm -rf $(VENV); exit 1; }

$(VENV)/.installed: pyproject.toml deploy/constraints.txt | $(VENV)/bin/python
	@echo "Installing pinned dependencies into $(VENV) ..."
	@$(PIP) -e . && touch $@

$(STAMP): pyproject.toml deploy/constraints.txt | $(VENV)/bin/python
	@echo "Installing pinned dependencies ($(EXTRAS)) into $(VENV) ..."
	@$(PIP) -e '.[$(EXTRAS)]' && touch $@ $(VENV)/.installed

setup: $(STAMP) ## Install everything for development (EXTRAS=dev,train adds torch)

run: $(VENV)/.installed ## Serve on http://127.0.0.1:8080 (HOST, PORT, CONFIG override)
	@exec $(VENV)/bin/pointsman serve --config $(CONFIG) --host $(HOST) --port $(PORT)

demo: $(VENV)/.installed ## Send traffic through a gateway and show where it went and what it saved
	@exec $(VENV)/bin/pointsman demo --url http://$(HOST):$(PORT)

check: $(STAMP) ## Lint, types, import order
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-cache

test: check ## Run every test
	@$(VENV)/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile --cov --cov-report=term:skip-covered

bench: $(STAMP) ## Measure speed and memory against a direct connection (LITELLM=python adds the peer)
	@$(VENV)/bin/python -m benchmarks.run $(if $(LITELLM),--litellm-python $(LITELLM))
