# `make demo` and `make test` do everything on a machine that has only Python 3 and make: each
# makes the environment it needs once (.venv) and again only when pyproject.toml changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST := $(BIN)/python -m pytest --numprocesses 2

.DEFAULT_GOAL := help
.PHONY: help demo test test-executors test-all lint format bench dist clean

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

test: lint ## lint, types, tests and doctests
	$(PYTEST) -m "not slow"

test-executors: $(VENV)/.test ## the tests on the other executors
	LAZYGRAD_EXECUTOR=numpy $(PYTEST) -m "not slow" tests
	LAZYGRAD_EXECUTOR=reference $(PYTEST) -m "not slow" tests

test-all: lint test-executors ## the same with the slow tests and fresh random examples
	HYPOTHESIS_PROFILE=thorough $(PYTEST)

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
