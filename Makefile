# Two commands: `make run` starts the app, `make test` runs every check.
# Both install what they need into .venv first, once.

PYTHON ?= python3
BIN := .venv/bin

# PyTorch's threads spin while they wait for each other. Where anything else runs on
# the same cores, a browser say, that made answers up to eight times slower.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: run test lint clean

run: .venv/app
	$(BIN)/streamlit run main.py

test: lint
	$(BIN)/python -m pytest

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv

.venv/app: requirements.txt | .venv
	@echo "Installing the app's packages, once; PyTorch is large, so this takes some minutes."
	$(BIN)/pip install --quiet --disable-pip-version-check -r $<
	touch $@

.venv/dev: requirements-dev.txt .venv/app
	$(BIN)/pip install --quiet --disable-pip-version-check -r $<
	touch $@

.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with PYTHON=python3.x."; exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }
