# make demo   the main job, end to end, on the embedded default
# make test   style, types and tests
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test lint types unit

demo: $(VENV)/.cpu
	$(BIN)/fedmq demo

test: lint types unit

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

unit: $(VENV)/.dev
	$(BIN)/pytest -q $(ARGS)

$(VENV)/bin/python:
	python3 -m venv $(VENV)

$(VENV)/.cpu: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable ".[cpu]"
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable ".[cpu,export,dev]"
	touch $@
