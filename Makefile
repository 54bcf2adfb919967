# Every target sets up what it needs: a virtual environment in .venv, made once, and made anew when pyproject.toml changes.

PYTHON ?= python3
BIN := .venv/bin
DEMO ?=
TEST ?= -m "not slow"
# Tests that depend most on other packages; all tests with LOWEST=tests.
LOWEST ?= $(addprefix tests/,cli data/test_source.py data/test_images.py data/test_formats.py evaluation/test_gain.py \
	fitting/test_fit.py fitting/test_plan.py integrations/test_callbacks.py integrations/test_imblearn.py \
	integrations/test_lightning.py integrations/test_lightning_cache.py mixing models/test_densities.py report \
	augmenter _utils/test_files.py)
# Two at a time, with a thread each: tests with several threads ask for them.
WORKERS ?= 2
PYTEST := -m pytest --numprocesses $(WORKERS) --dist worksteal
BENCH ?= -m "not slow"
UV_INSTALL := $(BIN)/uv pip install --quiet --compile-bytecode

.DEFAULT_GOAL := help
.PHONY: help demo test lowest lint format graph docs audit bench clean

help:
	@echo "make demo    long-tailed digits, a classifier with and without synthetic images (DEMO='--dataset ...' for others)"
	@echo "make test    the test suite with coverage (TEST='-m slow --no-cov' for what takes minutes: kills and fuzzing;"
	@echo "             WORKERS=4 for more at a time)"
	@echo "make lowest  tests with the lowest versions of other packages that pyproject.toml allows (LOWEST=tests for all)"
	@echo "make lint    ruff and mypy"
	@echo "make graph   the import graph of the package, room by room"
	@echo "make docs    the documentation, in docs/_build"
	@echo "make audit   known vulnerabilities of what is installed in .venv, which needs the network"
	@echo "make bench   speed, beside references (BENCH='-k sample' for some of it, BENCH='-m slow' for what takes minutes)"
	@echo "make clean   remove .venv, .lowest and what was built"

# uv takes a third of pip's time, but does not read pip's settings. Without compiled files, each process of a test would
# compile all that it imports where PYTHONDONTWRITEBYTECODE is set.
.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; name one: make PYTHON=python3.12") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(UV_INSTALL) --python $(BIN)/python --editable '.[dev]' || $(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

demo: .venv/installed
	$(BIN)/gae-augment demo $(DEMO)

test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST) --cov --cov-report=term $(TEST)

.lowest/installed: pyproject.toml .venv/installed
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .lowest
	$(UV_INSTALL) --python .lowest/bin/python --resolution lowest-direct --editable '.[dev]'
	touch $@

# Old versions warn of newer ones of what they need in turn; with the newest ones warnings are errors.
lowest: .lowest/installed
	OMP_NUM_THREADS=1 .lowest/bin/python $(PYTEST) -W default $(TEST) $(LOWEST)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

graph: .venv/installed
	$(BIN)/python tests/imports.py

docs: .venv/installed
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet --fresh-env docs docs/_build

# Strict, as it calls what it could not look up free of vulnerabilities otherwise.
audit: .venv/installed
	$(BIN)/uv tool run pip-audit --strict --skip-editable --path \
		"$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

bench: .venv/installed
	mkdir -p benchmarks/results/speed
	$(BIN)/python -m pytest benchmarks/speed --benchmark-only --benchmark-json=benchmarks/results/speed/latest.json $(BENCH)

clean:
	rm -rf .venv .lowest build dist docs/_build *.egg-info .mypy_cache .pytest_cache .ruff_cache .coverage
