# tpopt: `make` lists the targets. Each target first brings .venv up to date with pyproject.toml, and only when that file changed.

PYTHON   ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
                $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV     ?= .venv
BIN      := $(VENV)/bin
HASH     := $(shell cksum pyproject.toml | tr -d ' \t' | cut -c 1-16)
ENV      := $(VENV)/.env-$(HASH)
SITE     := build/site
SOURCES  := $(shell find tpopt passes cost_models -name '*.py' -o -name py.typed 2>/dev/null)
PYTEST   := $(BIN)/python -m pytest
WORKERS  ?= 2
ARGS     ?=
NONE_OK   = $(if $(ARGS), || test $$? -eq 5)  # with a selection, one of the two halves may be empty

SHELL := /bin/bash
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONUNBUFFERED := 1

.DEFAULT_GOAL := help
.PHONY: help env demo test acceptance lint format types contract gate ci clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(ENV)-run  ## optimize a ResNet-18, check it, time it against eager, and print the report
	$(BIN)/python examples/demo.py

# No restart: after one, loadfile would wait for ever for the file of the worker that crashed.
test: $(ENV)-test  ## the quick tests, at most 15 minutes on 2 cores (ARGS="-k name" for some of them)
	OMP_NUM_THREADS=1 $(PYTEST) -n $(WORKERS) --dist loadfile --max-worker-restart 0 -m "not acceptance and not serial" $(ARGS)$(NONE_OK)
	$(PYTEST) -m "serial and not acceptance" $(ARGS)$(NONE_OK)

acceptance: $(ENV)-bench  ## the long rows: resumable (what passed on the same sources is not run again), logged in logs/
	@mkdir -p logs
	set -o pipefail; $(PYTEST) -m acceptance --resume .acceptance/passed.json --durations=0 $(ARGS) 2>&1 | tee -a logs/acceptance.log

lint: $(ENV)-dev  ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(ENV)-dev  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(ENV)-dev $(SITE)/.stamp  ## mypy --strict, on an ordinary install
	cd $(SITE) && $(abspath $(BIN))/mypy --config-file $(abspath pyproject.toml) --cache-dir $(abspath .mypy_cache) -p tpopt

contract: $(ENV)-dev $(SITE)/.stamp  ## the import contract between the rooms
	cd $(SITE) && $(abspath $(BIN))/lint-imports $(abspath pyproject.toml) --no-cache

gate: $(ENV)-run  ## the benchmark's deterministic figures against the saved ones
	$(BIN)/tpopt bench --suite zoo --choice model --compare tests/golden/bench_gate.json

ci:  ## all that CI runs
	.ci/run

clean:  ## remove what was built, but not .venv
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

env: $(ENV)-dev  ## .venv with everything that development needs

# One environment, in four sizes: what runs tpopt, what tests it, what benches it against its peers, what develops it.
$(ENV)-run: EXTRAS :=
$(ENV)-test: EXTRAS := [test]
$(ENV)-bench: EXTRAS := [bench,test]
$(ENV)-dev: EXTRAS := [dev]
$(ENV)-run $(ENV)-test $(ENV)-bench $(ENV)-dev: | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.$(EXTRAS)'
	@touch $@

# Some systems ship venv without ensurepip: then the pip at hand fills the environment.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo 'no Python 3.11 or newer found; name one: make PYTHON=/path/to/python' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { \
		$(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }

# Static tools do not run import hooks, so they read an ordinary install, where the mapped folders lie inside the package.
$(SITE)/.stamp: $(ENV)-dev pyproject.toml $(SOURCES)
	rm -rf build
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --target $(SITE) .
	rm -rf build/lib build/bdist.*
	@touch $@
