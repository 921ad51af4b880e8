# `make` alone lists the targets. Everything a target needs is set up by it, once.
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEV := $(VENV)/.dev
TOOLS := $(VENV)/.stack-tools
TESTS := lakehouse_assets_tests/test_
ON_BOTH := $(addprefix $(TESTS),golden.py transforms.py metrics.py properties.py numbers.py)
# needs nothing but a Python, so that the stack needs nothing but Docker
STACK_ENV = $(PYTHON) lakehouse_assets/stack/environment.py
PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 python3))

.DEFAULT_GOAL := help
.PHONY: help setup setup-s3 wheel demo dev test tests-on-sail tests-of-spark tests-of-dev test-spark test-stack fresh test-faults browser test-browser screenshots profiles test-profiles notebooks test-notebooks lint format bench diagrams docs lock clean
.PHONY: stack stack-env stack-images stack-demo stack-down stack-check rehearsal

help: ## list the targets
	@awk -F ':.*## ' '/^##@/ {print "\n" substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Use
setup: $(DEV) ## virtual environment, pinned packages, Java if missing, jars

demo: $(READY) ## sample data -> every table -> a dashboard
	$(BIN)/lakehouse demo

dev: $(READY) ## the Dagster UI on http://127.0.0.1:3000
	$(BIN)/lakehouse dev

profiles: $(READY) ## install what `lakehouse profile` needs, 0.4 GB
	$(BIN)/uv pip install --python $(BIN)/python --quiet --compile-bytecode --require-hashes -r requirements-profile.lock

wheel: $(READY) ## build the package, dist/*.whl
	rm -rf build  # it would put modules that are gone into the wheel
	$(BIN)/uv build --quiet --wheel --no-build-isolation --python $(BIN)/python

setup-s3: $(READY) ## also the jar that a warehouse in an S3 store needs (69 MB)
	$(BIN)/python -m lakehouse_assets.engines.runtime --s3

##@ Stack
stack-env: ## .env with random keys, mode 600, if there is none
	$(STACK_ENV) .env

stack-images: .env ## ask Docker for the digests of the images that are pinned by it (needs a network)
	$(STACK_ENV) .env --digests

.env:
	$(MAKE) stack-env

stack: .env ## build and start the whole stack with Docker; the UI on http://127.0.0.1:3000
	$(STACK_ENV) .env --ports
	docker compose up --detach --wait postgres
	docker compose exec -T postgres psql -U postgres -d polaris -Atc "select to_regclass('polaris_schema.entities')" \
	  | grep -q entities || docker compose run --rm polaris-bootstrap
	docker compose up --build --detach --wait

stack-demo: ## sample data through the stack
	docker compose exec dagster-code lakehouse demo

stack-down: ## stop the stack, Jupyter and the history server too; its volumes stay
	docker compose --profile '*' down

stack-check: $(DEV) $(TOOLS) ## start the stack with a Docker of its own and break it (root, docker.io, iptables, docker-registry, mmdebstrap)
	$(BIN)/python -m lakehouse_assets_tests.stack.check

rehearsal: $(DEV) $(TOOLS) ## the stack as plain processes, without Docker: demo, backfill from the UI's API, same digests
	$(BIN)/python -m lakehouse_assets_tests.stack.rehearsal

##@ Develop
test: $(DEV) ## the test suite in three parts side by side; needs nothing but what `make demo` needs
	@echo "three parts side by side, each shows its tests when it ends"
	@$(MAKE) --no-print-directory --jobs=3 --keep-going --output-sync=target tests-on-sail tests-of-spark tests-of-dev

tests-on-sail: $(DEV)  # a file's tests share a lakehouse, so that a process takes whole files
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --ignore=$(TESTS)dev.py

tests-of-dev: $(DEV)  # which wait for a daemon most of the time
	$(BIN)/python -m pytest $(TESTS)dev.py

tests-of-spark: $(DEV)
	$(BIN)/python -m pytest --engine=spark --ignore=$(TESTS)engines.py -m "spark and not (services or faults or browser or profiles)"

test-spark: $(DEV) ## what computes the tables on Spark in place of Sail, and both engines side by side
	$(BIN)/python -m pytest --engine=spark $(TESTS)engines.py $(ON_BOTH)

test-stack: $(DEV) $(TOOLS) ## the tests with an S3 server, a REST catalog, Postgres and a Spark cluster, built once
	$(BIN)/python -m pytest -m "services and not faults"

fresh: $(READY) ## both commands of the README on a minimal Debian in a folder, as root and as another user (root, mmdebstrap)
	$(BIN)/python -m lakehouse_assets_tests.fresh_machine

test-faults: $(DEV) $(TOOLS) ## long campaigns of faults, seeded and bounded
	$(BIN)/python -m pytest -m faults
	$(BIN)/python -m pytest --engine=spark -m faults

browser: ## install Chromium with apt, for the two targets below
	$(if $(filter-out 0,$(shell id -u)),sudo) apt-get install --yes --no-install-recommends chromium fonts-dejavu-core

test-browser: $(DEV) ## the dashboard and Dagster's pages in a real Chromium: 5 minutes
	$(BIN)/python -m pytest -m browser

screenshots: $(DEV) ## the same, and keep its pictures in docs/images
	$(BIN)/python -m pytest -m browser --images=docs/images

test-profiles: $(DEV) profiles ## the tests of profiles, with the package that draws them
	$(BIN)/python -m pytest -m profiles

test-notebooks: $(DEV) ## run the notebooks, 4 minutes
	$(BIN)/python -m pytest --nbmake --nbmake-timeout=600 notebooks

bench: $(DEV) ## a million rows, and one more day, with Sail, with Spark and in DuckDB
	$(BIN)/python -m benchmarks.run --all-tables --more-day -o benchmark.json

lint: $(DEV) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEV) ## mend what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

notebooks: $(DEV) ## run the notebooks' Python files into their .ipynb, outputs and all
	$(BIN)/jupytext --quiet --to ipynb --execute notebooks/*.py

diagrams: $(DEV) ## draw diagrams/*.png again: data flow, components, stages of a table
	$(BIN)/python -m diagrams.draw

docs: $(DEV) ## the docs site in site/: pages made from the code, then all of them, strictly
	$(BIN)/python -m docs.reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lock: $(DEV) ## compile the lock files again
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -q -o requirements.lock pyproject.toml
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -q --extra stack --extra java --extra notebook -c requirements.lock -o requirements-stack.lock pyproject.toml
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -q --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -q --no-deps --group services -o requirements-services.lock
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -q --extra profile -c requirements-dev.lock -o requirements-profile.lock pyproject.toml

clean: ## remove the virtual environment and caches of this folder
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info

# what the lakehouse runs with; a demo waits for no more. What Spark needs is fetched when it is first needed
$(READY): pyproject.toml requirements-build.lock requirements.lock
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || { echo "Python 3.11 or 3.12 is needed; name one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-build.lock
	$(BIN)/uv pip install --python $(BIN)/python --quiet --compile-bytecode --require-hashes -r requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# and what developing it needs, Spark included
$(DEV): $(READY) requirements-dev.lock requirements-java.lock lakehouse_assets/engines/jars.py lakehouse_assets/engines/runtime.py
	$(BIN)/uv pip install --python $(BIN)/python --quiet --compile-bytecode --require-hashes -r requirements-dev.lock
	$(BIN)/python -m lakehouse_assets.engines.runtime
	@touch $@

$(TOOLS): $(DEV) requirements-services.lock lakehouse_assets_tests/stack/tools.py lakehouse_assets_tests/stack/RestCatalog.java lakehouse_assets_tests/stack/Polaris.java
	$(BIN)/python -m lakehouse_assets.engines.runtime --s3
	$(BIN)/python -m lakehouse_assets_tests.stack.tools
	@touch $@
