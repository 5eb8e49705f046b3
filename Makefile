# Two commands, each of which sets everything up on a machine that has Python 3.11 or later and make:
#   make demo   the main job on real data
#   make test   linters, types, layers and all tests
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# A plain torch would bring the CUDA build; this release has one for the CPU where that is all there is.
TORCH ?= torch==2.13.0
AZURITE ?= azurite@3.35
PYTEST_ARGS ?= -n 2

.PHONY: demo test check bench clean

demo: $(VENV)/demo.done
	$(BIN)/python examples/flights.py

test: $(VENV)/dev.done check
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/dev.done
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/dev.done
	$(BIN)/python -m benchmarks.run

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'

$(VENV)/demo.done: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet '$(TORCH)' -e '.[demo]'
	touch $@

$(VENV)/dev.done: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet '$(TORCH)' -e . --group dev
	@# Azure's emulator is a program for Node.js; where there is none, the tests that want it are skipped and say so.
	if command -v npm; then npm install --silent --no-audit --no-fund --prefix $(VENV) $(AZURITE); fi
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
