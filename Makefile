# Each target sets up what it needs: a virtual environment with the tested versions.
# Nothing but Python 3.11 or newer has to be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_STAMP := $(VENV)/.installed-demo
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
DATA ?= $(CELLSEG3D_DATA)
# One thread a process: the tests run side by side.
RUN_TESTS = CELLSEG3D_DATA="$(DATA)" OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: demo test gpu slow check docs pictures format bundles clean

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(STAMP): setup.py setup.cfg pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) torch
	$(PIP_INSTALL) -e '.[all,dev]'
	touch $(STAMP)

# The demo waits for no developer's tools.
$(DEMO_STAMP): setup.py setup.cfg pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) torch
	$(PIP_INSTALL) -e '.[objects,report]'
	touch $(DEMO_STAMP)

demo: $(DEMO_STAMP)  ## Label unseen cells with shipped weights, fine-tune these to others, score both
	$(BIN)/cellseg3d demo --out demo

test: $(STAMP)  ## The whole suite but what is marked slow
	$(RUN_TESTS) -n 2 --dist loadfile -m "not slow" tests

# Needs a CUDA GPU and its own Python with torch for CUDA; nothing is fetched.
GPU_PYTHON ?= python3
gpu:  ## On a machine with a CUDA GPU: its tests, then its benchmark (gpu_record/)
	PYTHONPATH=.:tests $(GPU_PYTHON) -m pytest -m gpu tests/gpu
	PYTHONPATH=. $(GPU_PYTHON) benchmarks/gpu.py --out gpu_record

slow: $(STAMP)  ## What is too long for every day
	$(RUN_TESTS) -m slow tests

check: $(STAMP)  ## Style, types, import floors, bundles against configs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/cellseg3d bundle check
	$(MAKE) docs

# Without --quiet, which would hide the warnings that --strict counts.
docs: $(STAMP)  ## The site, in site/; a dead link or a page left out is an error
	NO_MKDOCS_2_WARNING=1 PYTHONWARNINGS=ignore $(BIN)/python -m mkdocs build --strict

# Needs Chromium, for what web pages look like.
pictures: $(STAMP)  ## Run the tutorials, and take the pictures of their pages anew
	CELLSEG3D_DATA= $(BIN)/python docs/site/tutorials.py

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bundles: $(STAMP)  ## Write bundles/ anew from configs/, and the table of them in the README
	$(BIN)/cellseg3d bundle assemble
	$(BIN)/python docs/site/models.py

clean:
	rm -rf demo site build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
