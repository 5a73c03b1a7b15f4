# Two commands do all the set-up: `make label` and `make test`.
PYTHON ?= python3.11
IMAGES ?= samples
OUT ?= out
BIN := .venv/bin

.PHONY: label test check setup format

setup: .venv/.ready

# torch comes first and alone: with a torch installed, nothing later asks the index for its newest CUDA build.
.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

label: setup
	$(BIN)/python pipelines/label_corpus.py --images '$(IMAGES)' --out '$(OUT)'

test: setup
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check --no-cache .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
