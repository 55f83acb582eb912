# make demo | test | test-all | lint | bench | reference | clean
PYTHON ?= python3
DATA ?= synthetic
WORDS ?= yes,stop
RUN ?= build/demo
PY = .venv/bin/python

.PHONY: setup setup-test demo test test-all lint bench reference clean

setup:
	@$(PYTHON) bootstrap.py

setup-test:
	@$(PYTHON) bootstrap.py test tf

test: setup-test
	$(PY) -m pytest -n 2 -m "not slow"

test-all: setup-test
	$(PY) -m pytest -n 2 -m slow

lint: setup-test
	$(PY) -m ruff check .
	$(PY) -m mypy

clean:
	rm -rf build .pio
