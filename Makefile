# make demo   set up .venv, train and attack a robust model on real digits, print the leaderboard
# make test   the same set-up plus test tools; lint, types, all tests, coverage
# make bench  time, memory and their floors on this CPU: benchmarks/speed.json, the tables in docs/performance.md
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint bench clean

demo: .venv/.installed
	$(BIN)/python -m rb_smooth.recipe digits at+ensgd --n-examples 100 --runs demo/runs --leaderboard demo/leaderboard

test: lint
	$(BIN)/python -m pytest -n auto --dist loadgroup --cov --cov-report=term:skip-covered --cov-fail-under=90

lint: .venv/.testing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.installed
	$(BIN)/python benchmarks/speed.py

clean:
	rm -rf .venv demo

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
