# Every target sets up what it needs: a virtual environment in .venv, made once, and made anew when pyproject.toml changes.

PYTHON ?= python3
BIN := .venv/bin
DEMO ?=
TEST ?= -m "not slow"
BENCH ?= -m "not slow"

.DEFAULT_GOAL := help
.PHONY: help demo test lint format docs bench clean

help:
	@echo "make demo    long-tailed digits, a classifier with and without synthetic images (DEMO='--dataset ...' for others)"
	@echo "make test    the test suite with coverage (TEST='-m slow --no-cov' for what takes minutes: kills and fuzzing)"
	@echo "make lint    ruff and mypy"
	@echo "make docs    the documentation, in docs/_build"
	@echo "make bench   speed, beside references (BENCH='-k sample' for some of it, BENCH='-m slow' for what takes minutes)"
	@echo "make clean   remove .venv and what was built"

.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; name one: make PYTHON=python3.12") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: .venv/installed
	$(BIN)/gae-augment demo $(DEMO)

test: .venv/installed
	$(BIN)/python -m pytest --cov --cov-report=term $(TEST)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/installed
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet --fresh-env docs docs/_build

bench: .venv/installed
	mkdir -p benchmarks/results/speed
	$(BIN)/python -m pytest benchmarks/speed --benchmark-only --benchmark-json=benchmarks/results/speed/latest.json $(BENCH)

clean:
	rm -rf .venv build dist docs/_build *.egg-info .mypy_cache .pytest_cache .ruff_cache .coverage
