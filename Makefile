# The two commands that a newcomer needs are `make demo` and `make test`; both install what they need.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help venv demo test check wheels test-all bench conformance strength mutants mutate mutate-changed chaos prometheus simulate clean

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# How many processes run tests; if it is empty, two for each core.
WORKERS ?=
# An assignment of its own: a substitution that fails in front of a command would not stop that command.
WITH_BEANSTALKD = BEANSTALKD="$$(tools/ensure.sh beanstalkd)" && export BEANSTALKD &&
WITH_POSTGRES = POSTGRES="$$(tools/ensure.sh postgres)" && export POSTGRES && PGBOUNCER="$$(tools/ensure.sh pgbouncer)" && export PGBOUNCER &&
WITH_REDIS = REDIS_SERVER="$$(tools/ensure.sh redis-server)" && export REDIS_SERVER &&

help: ## Show the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

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
	$(BIN)/mypy $(addprefix -p ,kessel_core $(notdir $(wildcard plugins/* examples/*)))
	$(BIN)/lint-imports
	$(BIN)/python tools/check_imports.py

wheels: $(STAMP) ## Build wheels, install them in a clean environment, test there.
	tools/test_wheels.sh $(BIN)/python

test-all: $(STAMP) ## Run the tests on every CPython from 3.11 up, and on lowest and newest dependencies.
	tools/test_all.sh

bench: $(STAMP) ## Measure, each figure beside its floor.
	$(WITH_BEANSTALKD) $(WITH_POSTGRES) $(WITH_REDIS) tools/bench.sh $(BIN)/python

conformance: $(STAMP) ## Run the conformance suite at the ci budget for every adapter, and publish the reports.
	$(WITH_BEANSTALKD) $(WITH_POSTGRES) $(WITH_REDIS) $(BIN)/python tools/conformance.py

strength: $(STAMP) ## Count the planted faults that the conformance suite catches, for the reports and the matrix.
	$(BIN)/python tests/conformance/test_mutants.py

mutants: $(STAMP) ## Break copies of the adapters in small ways, and show what the suite catches, by adapter and clause.
	$(WITH_BEANSTALKD) $(WITH_POSTGRES) $(WITH_REDIS) $(BIN)/python tests/conformance/measure.py $(MUTANTS)

mutate: $(STAMP) ## Put small faults into kessel's own code, and show which of them no test notices; takes hours.
	$(WITH_BEANSTALKD) $(WITH_POSTGRES) $(WITH_REDIS) $(BIN)/python tools/mutate --record $(MODULES)

mutate-changed: $(STAMP) ## The same for lines that differ from main, within 90 seconds; asks the tests as `make test` ran them.
	$(WITH_BEANSTALKD) $(WITH_POSTGRES) $(WITH_REDIS) $(BIN)/python tools/mutate --changed --within 90 $(MODULES)

chaos: $(STAMP) ## Run the long fault tests.
	$(WITH_BEANSTALKD) $(WITH_POSTGRES) $(WITH_REDIS) KESSEL_CHAOS=1 $(BIN)/python -m pytest -k chaos -rP plugins tests

prometheus: $(STAMP) ## Let a real Prometheus scrape workers and the exporter, and check pages and rules with promtool.
	PROMETHEUS="$$(tools/ensure.sh prometheus)" && export PROMETHEUS && $(BIN)/python -m pytest plugins/kessel_prometheus

simulate: $(STAMP) ## Run simulations of whole applications from 2,000 seeds, or from SEEDS, and print what they came to.
	$(BIN)/python -m tests.simulation.scenarios $(or $(SEEDS),2000)

clean: ## Remove what was built.
	rm -rf $(VENV) build dist .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
