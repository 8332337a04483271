# make demo   set up .venv, train and attack a robust model on real digits, print the leaderboard
# make test   the same set-up plus test tools; lint, types, unit tests, a quick path through each program: minutes
# make test-all  make test, then make test-slow: documents' commands, sweeps, several processes, kills, the page in a browser,
#             the wheel, benchmarks in small; of all lines, 90 % must be covered by the two together
# make bench  time, memory and their floors on this CPU: benchmarks/speed.json, the tables in docs/performance.md
# make docs   the documentation as a website, in build/docs/index.html
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal

.PHONY: demo test unit test-slow test-all lint style types bench docs clean

demo: .venv/.installed
	$(BIN)/python -m rb_smooth.recipe digits at+awp --n-examples 100 --runs demo/runs --leaderboard demo/leaderboard

test: style
	@$(MAKE) --no-print-directory --jobs 2 types unit

unit: .venv/.testing
	$(PYTEST) $(COVERAGE)

test-slow: .venv/.testing
	$(PYTEST) -m 'slow and not manual' $(if $(COVERAGE),--cov --cov-append --cov-report=term:skip-covered --cov-fail-under=90)

test-all: export COVERAGE = --cov --cov-report=
test-all: test test-slow

lint: style types

style: .venv/.testing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.testing
	$(BIN)/mypy

bench: .venv/.installed
	$(BIN)/python benchmarks/speed.py

docs: .venv/.documenting
	$(BIN)/python -m mkdocs build
	@echo build/docs/index.html

clean:
	rm -rf .venv demo build/docs

.venv/.installed: pyproject.toml constraints.txt
	@echo "Setting up .venv: about 6 GB, most of it torch; minutes, once."
	$(PYTHON) -m venv .venv
	$(PIP) --editable .
	$(BIN)/python -m rb_smooth.doctor --repair
	@touch $@

.venv/.testing: .venv/.installed
	$(PIP) --editable '.[test]'
	$(BIN)/python -m rb_smooth.doctor --repair
	@touch $@

.venv/.documenting: .venv/.installed
	$(PIP) --editable '.[docs]'
	$(BIN)/python -m rb_smooth.doctor --repair
	@touch $@
