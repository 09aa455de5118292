# What can be done here; `make` alone lists it.
#
# Everything runs in .venv, where the project is installed with the versions of constraints.txt, and again when they
# change. A stamp file is left only by an installation that was completed, so an interrupted one is repeated.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help install upgrade demo gui test lint format clean broken

VENV ?= .venv
PYTHON := $(VENV)/bin/python
PYTHONS ?= python3 python3.13 python3.12 python3.11 python3.14 python
INSTALLED := $(VENV)/.installed
INSTALL := $(PYTHON) -m pip install --disable-pip-version-check -e '.[dev]'
TEST := OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n auto --dist worksteal
ARGS ?=

help:  ## list what can be done (ARGS='...' is passed on by demo, gui and test)
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## make the environment (VENV=.venv), by one of PYTHONS

demo: $(INSTALLED)  ## follow two fish through the example clip; leaves pictures in output/demo
	$(PYTHON) -m scripts.demo $(ARGS)

gui: $(INSTALLED)  ## annotate the example clip in the browser (ARGS='--video mine.mp4': your own video)
	$(PYTHON) interactive_demo.py $(or $(ARGS),--images examples/crossing/JPEGImages/crossing)

test: $(INSTALLED)  ## run the tests, as many at a time as there are cores (ARGS='-m long': those that take a minute)
	$(TEST) -m 'not long' $(ARGS)

lint: $(INSTALLED)  ## check style, formatting and types
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

format: $(INSTALLED)  ## sort imports, correct what the linter can, format
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

upgrade: $(INSTALLED)  ## install the newest versions and, if the tests pass, write them into constraints.txt
	@rm $(INSTALLED)
	$(INSTALL) --upgrade --upgrade-strategy eager
	$(TEST)
	marker="$(MARKER)"; { grep -vF "$$marker" constraints.txt; $(FREEZE) | sed -E "s/(\+[^ ]*)?$$/; $$marker/"; } \
		| LC_ALL=C sort > $(VENV)/constraints.txt
	mv $(VENV)/constraints.txt constraints.txt
	@touch $(INSTALLED)

# The newest versions differ from Python to Python: a line of constraints.txt holds before 3.12, or from there on.
MARKER = python_version $$($(PYTHON) -c 'import sys; print("<" if sys.version_info < (3, 12) else ">=")') '3.12'
FREEZE := $(PYTHON) -m pip freeze --all --exclude pip --exclude-editable

clean:  ## remove the environments and caches; output/ and saves/ stay
	rm -rf .venv .venv-3.* build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment without a Python that runs (an update of the system may have taken it away) is made again. Names of
# Pythons may be there without running (pyenv's do), so each is tried.
BROKEN := $(shell $(PYTHON) -c 'import pip' >/dev/null 2>&1 || echo broken)
SUITABLE := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
broken:
	@for python in $(PYTHONS); do \
		if "$$python" -c '$(SUITABLE)' 2>/dev/null; then \
			echo "Making $(VENV) with $$("$$python" --version); PyTorch is large, this takes some minutes"; \
			{ "$$python" -m venv $(VENV) && $(PYTHON) -c 'import pip' 2>/dev/null; } || \
				"$$python" -m venv --clear $(VENV); \
			exit; \
		fi; \
	done; \
	echo "None of $(PYTHONS) is a Python 3.11 to 3.14 with venv: install one (on Debian and Ubuntu: python3 and" \
		"python3-venv), or give its path: make PYTHONS=/path/to/python" >&2; exit 1

$(INSTALLED): pyproject.toml requirements.txt requirements-dev.txt requirements-export.txt requirements-gui.txt constraints.txt $(BROKEN)
	$(INSTALL) -c constraints.txt
	@touch $@
