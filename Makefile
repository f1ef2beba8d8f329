# make demo   the main job, end to end, on the embedded default
# make test   style, types and tests
# make docs   the documentation as a site, in site/
# make audit  known weaknesses of the dependencies
# make chaos  thousands of federations in which everything goes wrong: make chaos SEEDS=100000 FROM=2000
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test lint types unit docs audit chaos

demo: $(VENV)/.cpu
	$(BIN)/fedmq demo

test: lint types unit

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

unit: $(VENV)/.dev
	$(BIN)/pytest -q --numprocesses auto --dist worksteal $(ARGS)

# Known weaknesses of what is installed; asks a database on the network.
audit: $(VENV)/.dev
	$(BIN)/pip install --quiet pip-audit
	$(BIN)/pip-audit --skip-editable --progress-spinner off --format json | $(BIN)/python .ci/audit.py

docs: $(VENV)/.dev
	$(BIN)/mkdocs build --strict --site-dir site

SEEDS ?= 10000
FROM ?= 0
chaos: $(VENV)/.dev
	CHAOS_SEEDS=$(SEEDS) CHAOS_FROM=$(FROM) $(BIN)/pytest -q tests/test_chaos.py -k survives_every_fault

$(VENV)/bin/python:
	python3 -m venv $(VENV)

$(VENV)/.cpu: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable ".[cpu]"
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable ".[cpu,export,dev,docs]"
	touch $@
