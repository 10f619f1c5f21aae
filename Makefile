# Every target makes its own environment first. PYTHON may name any Python from 3.11 on.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP     = $(BIN)/python -m pip --disable-pip-version-check
export OMP_WAIT_POLICY = PASSIVE

.PHONY: help demo test test-fast lint types imports docs docs-check bench clean

help:
	@echo "make demo       simulate movies and take them to a validated map (some three minutes on 2 cores)"
	@echo "make test       all tests"
	@echo "make test-fast  the tests that take seconds"
	@echo "make lint       style, types, import contracts"
	@echo "make docs       write the generated reference pages"
	@echo "make bench      list the benchmarks, one command each"

$(VENV)/.made: constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"halfmap needs Python 3.11 or newer, {sys.executable} is {v[0]}.{v[1]}: name one with  make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.user: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP) install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.user

demo: $(VENV)/.user
	@bash demo.sh

test: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

test-fast: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n 2 -m 'not truth and not oracle and not e2e'

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.dev
	$(BIN)/python -m halfmap.cli.reference

docs-check: $(VENV)/.dev
	$(BIN)/python -m halfmap.cli.reference --check

bench: $(VENV)/.dev
	@ls benchmarks/*.py | sed 's,^,$(BIN)/python ,'

clean:
	rm -rf $(VENV) demo build dist
