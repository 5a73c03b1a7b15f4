# Two commands do all the set-up: `make label` and `make test`.
PYTHON ?= python3.11
IMAGES ?= samples
OUT ?= out
# What `make bench` measures on (annotated photos give mIoU, too), and where its JSON files go.
DATA ?= samples
BENCH ?= runs/bench
BIN := .venv/bin

# Model, weights and data sets of `make reproduce`, such as DATA='sa1b=/data/sa1b coco=/data/val.json lvis=/data/lvis.json'.
SAM ?= tiny
CHECKPOINT ?=

# Empty: Python keeps the modules that it compiles, which --no-compile below leaves to it. Without them on disk each of
# the many processes of Ray would compile all that it imports, seconds of a processor each time.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: label test check docs setup format licences bench reproduce

setup: .venv/.ready

# torch comes first and alone: with a torch installed, nothing later asks the index for its newest CUDA build.
# Modules are compiled when they are first imported: all at once takes a minute, for many that nobody imports.
.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev]'
	touch $@

label: setup
	$(BIN)/python pipelines/label_corpus.py --images '$(IMAGES)' --out '$(OUT)'

# A process of tests that ends is not started again: pytest-xdist would then wait for ever for the rest of its file.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check --no-cache .
	$(BIN)/mypy

# The site of README and docs, in build/site; a link that leads nowhere is an error.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

licences: setup
	$(BIN)/python benchmarks/licences.py

# An hour on two cores, most of it SAM's own generator.
bench: setup
	$(BIN)/python benchmarks/speed.py --data '$(DATA)' --sam tiny=20 mobile_sam=1 vit_b=1 --json '$(BENCH)/speed.json'
	$(BIN)/python benchmarks/speed_table.py --json '$(BENCH)/speed.json'
	$(BIN)/python benchmarks/encoder.py --sam tiny mobile_sam vit_b --json '$(BENCH)/encoder.json'
	$(BIN)/python benchmarks/large.py --json '$(BENCH)/large.json'
	$(BIN)/python benchmarks/pipeline.py --images '$(IMAGES)' --json '$(BENCH)/pipeline.json'
	$(BIN)/python benchmarks/memory.py --images '$(IMAGES)' --json '$(BENCH)/memory.json'
	$(BIN)/python benchmarks/check_floors.py --bench '$(BENCH)'

# The papers' tables with a SAM and data of your own, the papers' figures beside them.
reproduce: setup
	$(BIN)/python pipelines/reproduce.py --sam '$(SAM)' $(if $(CHECKPOINT),--checkpoint '$(CHECKPOINT)') --data $(DATA) --out '$(OUT)'
