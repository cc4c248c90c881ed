# `make run` and `make test` are all a newcomer needs: Python >= 3.11, make and git.
# The first that runs and is new enough; a name that is found need not work (pyenv's shims).
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.14; do \
  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
# Without an NVIDIA GPU, a known-good set with torch for the CPU.
CONSTRAINTS := $(if $(shell command -v nvidia-smi),,-c constraints.txt)

# Files of tests side by side, in their order: the last are those of units, none of which takes long.
WORKERS := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: help run test test-full test-e2e test-e2e-full format lint type-check check bench install clean services-s3 services-s3-stop soak
help: ## this page
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

run: $(VENV)/.run ## train a small network on digits, from its config to its result
	$(BIN)/python -m crown_exp +experiment=digits_cnn

test: install ## the tests that take minutes at most
	$(BIN)/python -m pytest -m "not full" $(WORKERS)

test-full: install ## all tests
	$(BIN)/python -m pytest $(WORKERS)

test-e2e: install ## whole commands on a real SkyPilot and Slurm, both started here (root, Debian; up to 40 min)
	CROWN_TEST_SKYPILOT=1 $(BIN)/python -m pytest tests/e2e_sky/test_commands.py

test-e2e-full: install ## all that is tested on them (hours)
	CROWN_TEST_SKYPILOT=1 $(BIN)/python -m pytest tests/e2e_sky

soak: install ## kill runs in a bucket 200 times, and 20 with torch; every bit must be the same
	$(BIN)/python -m dev.soak

services-s3: ## start Ceph's S3 server for tests and benchmarks (Linux), and print how to reach it
	@bash dev/radosgw.sh start >/dev/null
	@bash dev/radosgw.sh env
	@echo "# eval \"\$$(make -s services-s3)\" sets them; it stays until: make services-s3-stop"

services-s3-stop: ## stop it, and remove what it keeps
	@bash dev/radosgw.sh destroy

format: install ## rewrite the code in the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: install ## ruff and the floors of the house
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

type-check: install ## mypy, strict
	$(BIN)/mypy

check: lint type-check ## what CI checks beside the tests

bench: install ## time what docs/numbers.md tells, side by side with the peers
	$(BIN)/python -m benchmarks

install: $(VENV)/.dev ## the virtual environment with all that development needs

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || \
	  { echo "crown_exp needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) -e '.[examples]'
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) -e '.[dev]'
	@touch $@ $(VENV)/.run
