# `make report` and `make test` set everything up on a machine with Python 3.11 or later, once, and then work offline.

PYTHON ?= python3
BIN := .venv/bin
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))

# Threads that wait hand their core over: on a busy machine spinning would cost several times the work.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := report
.PHONY: report test test-explain test-others golden lint types wheels clean

report: .venv/installed  ## a report on the bundled model and a bundled clip, in report/report.html
	$(BIN)/explain report conv3d sample:blinking_mnist --out report

test: .venv/installed  ## all tests: those of explain and all others side by side, the output of each as it ends
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target --keep-going test-explain test-others

test-explain: .venv/installed
	$(BIN)/pytest tests/explain

test-others: .venv/installed
	$(BIN)/pytest --ignore=tests/explain

golden: .venv/installed  ## whether pages and printed results are the stored ones (`make golden TASK=store` stores them)
	$(BIN)/python tests/golden $(or $(TASK),compare)

lint: .venv/installed  ## style, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: .venv/installed  ## types
	$(BIN)/mypy

wheels: .venv/installed  ## wheels of all distributions, in dist/
	rm -rf dist
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist . $(PLUGINS:%=./%)
	@ls -s --block-size=1K dist | tail -n +2 | sed 's/^ *\([0-9]*\)/\1 KiB/'

clean:  ## forget the set-up, the wheels and the report
	rm -rf .venv dist report

.venv/installed: pyproject.toml constraints.txt $(PLUGINS:%=%/pyproject.toml)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]' $(PLUGINS:%=--editable %)
	touch $@
