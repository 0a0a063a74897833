# `make demo` and `make test` do everything on a machine that has only Python 3 and make: each
# makes the environment it needs once (.venv) and again only when pyproject.toml changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Each process begins with a half of its own, so that few kernels are compiled by both.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint format bench dist clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.created:
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.runtime: pyproject.toml | $(VENV)/.created
	$(PIP) install --editable .
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/.created
	$(PIP) install --editable '.[test]'
	@touch $@ $(VENV)/.runtime

demo: $(VENV)/.runtime ## train on the real handwritten digits, draw the graph
	@mkdir -p build
	$(BIN)/lazygrad train digits --epochs 30 --visualize build/digits.svg

lint: $(VENV)/.test ## style, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict lazygrad

format: $(VENV)/.test ## apply the fixes that ruff knows
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint ## lint, types, tests and doctests, on every executor
	$(PYTEST) --lane native
	$(PYTEST) --lane numpy tests
	$(PYTEST) --lane reference tests
	$(BIN)/python -m pytest --lane no-llvm tests

test-all: lint ## the same with all tests on each executor, slow ones, fresh random examples
	HYPOTHESIS_PROFILE=thorough $(PYTEST)
	LAZYGRAD_EXECUTOR=numpy $(PYTEST) -m "not slow" tests
	LAZYGRAD_EXECUTOR=reference $(PYTEST) -m "not slow" tests
	$(BIN)/python -m pytest --lane no-llvm tests

bench: $(VENV)/.runtime ## time and memory per training step
	$(BIN)/python -m benchmarks.steps

dist: $(VENV)/.created ## build the wheel and try it in an empty environment
	rm -rf dist build/wheel-check
	$(PIP) wheel --no-deps --wheel-dir dist .
	$(PYTHON) -m venv --clear build/wheel-check
	build/wheel-check/bin/python -m pip --disable-pip-version-check --quiet install dist/*.whl
	cd build/wheel-check && bin/lazygrad train digits --epochs 1
	@ls -l dist

clean: ## remove everything that make made
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
