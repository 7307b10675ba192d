# `make plan` and `make test` are the two commands of a newcomer; `make help` lists the rest.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help plan test test-browser lint types imports bars bench refit app docs wheel clean

help:            ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null 2>&1 || { echo "Python 3.11 is needed: set PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(STAMP)

plan: $(STAMP)   ## plan the shipped example: Llama-3.1 405B on 16,384 H100
	$(BIN)/codesign plan examples/llama-3.1-405b-h100.yaml

test: $(STAMP)   ## run every check: lint, types, import rules, tests
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest

test-browser: $(STAMP) ## the app, the review and the timeline in a real browser; installs what that needs (Debian, npm)
	@command -v chromium >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq chromium; }
	@command -v npm >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq npm; }
	npm install --prefix tests/browser --no-package-lock --no-fund --no-audit --silent
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,browser]'
	CODESIGN_BROWSER=must $(BIN)/pytest -m browser tests/browser

lint: $(STAMP)   ## ruff only
	$(BIN)/ruff check .

types: $(STAMP)  ## mypy only
	$(BIN)/mypy

imports: $(STAMP) ## import rules only
	$(BIN)/lint-imports

bars: $(STAMP)   ## print every bar that the project is held to, with its figure
	$(BIN)/python -m codesign.evidence.bars

bench: $(STAMP)  ## print the speed ratios
	$(BIN)/python -m codesign.evidence.bench

refit: $(STAMP)  ## repeat the fits of the constants and rewrite the evidence files and the pages made from them
	$(BIN)/python -m codesign.evidence.calibrate
	$(BIN)/python -m codesign.report.reference

docs: $(STAMP)   ## write the pages that are made from the code and the data
	$(BIN)/python -m codesign.report.reference

app: $(STAMP)    ## the what-if app
	$(BIN)/streamlit run app.py

wheel: $(STAMP)  ## build the wheel into dist/
	$(BIN)/python -m build --wheel

clean:           ## remove the environment and what was built
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
