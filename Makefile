# The two commands that a newcomer needs are `make demo` and `make test`; both install what they need.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help venv demo test check wheels test-all bench conformance mutants chaos clean

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= auto
# An assignment of its own: a substitution that fails in front of a command would not stop that command.
WITH_BEANSTALKD = BEANSTALKD="$$(tools/ensure_beanstalkd.sh)" && export BEANSTALKD &&

help: ## Show the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml $(wildcard plugins/*/pyproject.toml) tools/make_venv.sh
	tools/make_venv.sh $(VENV)
	touch $@

venv: $(STAMP) ## Make .venv with everything in it.

demo: $(STAMP) ## Run a few hundred example jobs and show what became of them.
	$(BIN)/kessel demo

test: $(STAMP) ## Run all tests, with coverage, and again from built wheels.
	tools/run_tests.sh $(BIN)/python $(WORKERS)

check: $(STAMP) ## Lint, types, import rules.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(addprefix -p ,kessel_core $(notdir $(wildcard plugins/*)))
	$(BIN)/lint-imports
	$(BIN)/python tools/check_imports.py

wheels: $(STAMP) ## Build wheels, install them in a clean environment, test there.
	tools/test_wheels.sh $(BIN)/python

test-all: $(STAMP) ## Run the tests on every CPython from 3.11 up, and on lowest and newest dependencies.
	tools/test_all.sh

bench: $(STAMP) ## Measure, each figure beside its floor.
	$(WITH_BEANSTALKD) tools/bench.sh $(BIN)/python

conformance: $(STAMP) ## Run the conformance suite at the ci budget for every adapter, and publish the reports.
	$(WITH_BEANSTALKD) $(BIN)/python tools/conformance.py

mutants: $(STAMP) ## Break one rule after another in copies of the adapters, and show how the suite tells.
	$(WITH_BEANSTALKD) $(BIN)/python tests/conformance/source_mutants.py

chaos: $(STAMP) ## Run the long fault tests.
	$(WITH_BEANSTALKD) KESSEL_CHAOS=1 $(BIN)/python -m pytest -k chaos -rP plugins tests

clean: ## Remove what was built.
	rm -rf $(VENV) build dist .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
