# Two commands on a fresh machine: `make demo` and `make test`. Both set themselves up in .venv, and are quick the
# second time. PYTHON=python3.12 chooses another interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test test-matrix attack benchmarks engines site release clean

help:
	@echo "make demo        set up .venv and run the whole main path on real digits (about 3 minutes on 2 cores)"
	@echo "make test        set up .venv and run format, lint, types and tests"
	@echo "make test-matrix set up .venv and run the tests that are too long for make test, such as every cell of the export matrix"
	@echo "make attack      set up .venv and attack everything that reads or writes for MINUTES (30), counting failures"
	@echo "make benchmarks  set up .venv and run the benchmarks"
	@echo "make engines     set up .venv and run every export case in other engines (about 3 minutes; needs the network)"
	@echo "make site        set up .venv and build the documentation as a site, in build/site"
	@echo "make release     build sdist and wheel, install the wheel into a fresh environment, run the demo (needs the network)"
	@echo "make clean       remove .venv and what the demo wrote"

demo: $(VENV)/.installed
	@echo "== hstnn demo"
	@$(BIN)/hstnn demo

test: $(VENV)/.installed-dev
	@VIRTUAL_ENV="$(abspath $(VENV))" scripts/check

test-matrix: $(VENV)/.installed-dev
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m matrix -n auto --dist loadfile

MINUTES ?= 30
attack: $(VENV)/.installed-dev
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.attacks --minutes $(MINUTES)

benchmarks: $(VENV)/.installed-dev
	@$(BIN)/python -m benchmarks

engines: $(VENV)/.installed-dev
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.engines --write

site: $(VENV)/.installed-dev
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "built: build/site/index.html"

release: $(VENV)/.installed-dev
	@PYTHON="$(abspath $(BIN))/python" scripts/release-check

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Try make PYTHON=python3.12")'
	@echo "== creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "== installing hstnn-deploy into $(VENV) (torch and ONNX Runtime are large: this takes minutes)"
	@$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt peers.txt | $(VENV)/bin/python
	@echo "== installing hstnn-deploy and its test tools into $(VENV) (torch and ONNX Runtime are large)"
	@$(PIP) --editable '.[dev]'
	@$(PIP) --no-deps --requirement peers.txt || echo "peers.txt could not be installed: tests against those libraries are skipped"
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) hstnn-demo
