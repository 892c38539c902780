# Everything here is thin: the tool does the work, and `make` sets it up and calls it.

PYTHON ?= python3
VENV ?= .venv
# What pip is told besides, such as an --index-url with a CPU build of torch (see pytorch.org/get-started).
PIP_ARGS ?=
# What zooconv is told besides, such as --layout maskdino.
ARGS ?=
# What `make zoo` is about: a family, or a list of names (LIST=lists/common.txt), and how many at once.
FAMILY ?= convnext
LIST ?=
JOBS ?=

BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint types docs docs-check prove catalogue catalogue-check bench bench-batch zoo \
  verify clean

##@ First steps
help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-zA-Z0-9_%-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv with everything in it (PIP_ARGS=… for pip)

$(READY): pyproject.toml constraints.txt plugins/example/pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --constraint constraints.txt \
	  --editable '.[dev]' --editable plugins/example
	touch $@

demo: setup ## Fetch and convert convnext_tiny_22k from a local hub, with random weights
	$(BIN)/python -m zooconv.testing.demo

##@ Convert
convert-%: setup ## Fetch and convert one model: make convert-convnext_tiny_22k ARGS='--layout maskdino'
	$(BIN)/zooconv fetch-convert $* $(ARGS)

zoo: setup ## Fetch and convert many, and again only what changed: make zoo FAMILY=convnext JOBS=2, LIST=lists/common.txt
	$(BIN)/zooconv batch $(if $(LIST),--list $(LIST),--family $(FAMILY)) $(JOBS:%=--jobs %) --keep-going --resume $(ARGS)

verify: setup ## Hash every artifact again and hold it against the registry
	$(BIN)/zooconv verify

##@ Develop
test: setup ## Run the tests, without the slow ones
	$(BIN)/python -m pytest -n auto

test-slow: setup ## Run the slow tests
	$(BIN)/python -m pytest -n auto -m slow

lint: setup ## Check the style
	$(BIN)/ruff check .

types: setup ## Check the types
	$(BIN)/mypy

docs: setup ## Write the generated parts of the documentation anew
	$(BIN)/python -m cogapp -r -I docs README.md docs/*.md docs/*/*.md
	$(BIN)/python -c 'from zooconv.card import schema; print(schema(), end="")' > docs/card.schema.json
	$(BIN)/python -m zooconv.scaffold plugins/example

docs-check: setup ## Check that the generated parts of the documentation are fresh
	$(BIN)/python -m cogapp --check -I docs README.md docs/*.md docs/*/*.md

prove: setup ## Prove every family at full size, with random weights, and write docs/proofs.md; then all of timm
	$(BIN)/python -m zooconv.testing.prove --write docs/proofs.md $(ARGS)
	$(BIN)/python -m zooconv.testing.prove_members --road 12

catalogue: setup ## Write the tables of timm's models and architectures anew, from the timm that is installed
	$(BIN)/python -m zooconv_zoo.timm.catalogue

catalogue-check: setup ## Check that the table of timm's models is fresh
	$(BIN)/python -m zooconv_zoo.timm.catalogue --check

bench: setup ## Measure speed and memory, and write benchmarks/README.md
	$(BIN)/python benchmarks/run.py

bench-batch: setup ## Measure batches, and write benchmarks/batch.md
	$(BIN)/python benchmarks/batch.py

clean: ## Remove what the other targets made
	rm -rf $(VENV) weights dist build benchmarks/data .mypy_cache .pytest_cache .ruff_cache .hypothesis
