# What can be done here; `make` alone lists it.
#
# Python runs in .venv, which is filled from the requirements files, and again when they change. A stamp file is left
# only by an installation that went through to its end, so an interrupted one is taken up again.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test lint format clean gone

VENV := .venv
PYTHON := $(VENV)/bin/python
RUNTIME := $(VENV)/.installed
DEVELOPMENT := $(VENV)/.installed-for-development
INSTALL := $(PYTHON) -m pip install --disable-pip-version-check
ARGS ?=

help:  ## list what can be done (ARGS='...' is passed on by demo and test)
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(RUNTIME)  ## follow two fish through the example clip; leaves pictures in output/demo
	$(PYTHON) -m scripts.demo $(ARGS)

test: $(DEVELOPMENT)  ## run the tests
	$(PYTHON) -m pytest $(ARGS)

lint: $(DEVELOPMENT)  ## check style and formatting
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

format: $(DEVELOPMENT)  ## put imports in order, mend what the linter can, format
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

clean:  ## remove the environment and caches; output/ and saves/ stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment whose Python does not run (an update of the system may have taken it away) is installed anew.
GONE := $(shell $(PYTHON) -c '' >/dev/null 2>&1 || echo gone)
gone:

$(RUNTIME): requirements.txt $(GONE)
	@$(MAKE_VENV)
	$(INSTALL) -r requirements.txt
	@touch $@

$(DEVELOPMENT): requirements.txt requirements-dev.txt $(GONE)
	@$(MAKE_VENV)
	$(INSTALL) -r requirements-dev.txt
	@touch $(RUNTIME) $@

# Names of Pythons may be there without running (pyenv's do), so each is tried. An interrupted `venv` is completed by
# another; where that does not help, the environment was of no use to anyone and is made anew.
SUITABLE := import ensurepip, sys, venv; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))
define MAKE_VENV
if ! $(PYTHON) -c 'import pip; $(SUITABLE)' 2>/dev/null; then \
	if $(PYTHON) -c 'import pip' 2>/dev/null; then \
		echo "$(VENV) is not of Python 3.11 or 3.12: remove it, then run make again" >&2; exit 1; \
	fi; \
	for python in python3.11 python3.12 python3 python none; do \
		"$$python" -c '$(SUITABLE)' 2>/dev/null && break; \
	done; \
	if [ "$$python" = none ]; then \
		echo "No Python 3.11 or 3.12 with venv was found: install one (on Debian and Ubuntu: python3.11 and" \
			"python3.11-venv) and see that python3.11, python3.12, python3 or python starts it" >&2; exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$python" --version); PyTorch is large, this takes some minutes"; \
	{ "$$python" -m venv $(VENV) && $(PYTHON) -c 'import pip' 2>/dev/null; } || "$$python" -m venv --clear $(VENV); \
fi
endef
