# Convenience over the tools: docs/instructors.md says how each command works without make.
# A fresh clone needs git, make and Python 3.11 to 3.14. Each target installs what it needs into .venv, once.

PYTHON ?= python3
PY := .venv/bin/python
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(PY) -m pip install -qq -c constraints.txt
INPUTS := pyproject.toml constraints.txt
NOTEBOOK ?=
NOTEBOOKS := notebooks/$(if $(NOTEBOOK),$(basename $(notdir $(NOTEBOOK))).ipynb)
JOBS ?= 2
SEED ?= 1
FORMAT ?= plain
FOR ?=
SUBMISSIONS ?= submissions
SCHEDULER ?=
BUSY ?=
ifdef DATA
export NNLIB_DATA := $(DATA)
endif

.DEFAULT_GOAL := help
.PHONY: help setup setup-torch setup-grade lab run reports site test test-lab claims build bench student grade data clean
.DELETE_ON_ERROR:

help:  ## this list
	@echo "make COMMAND, where COMMAND is one of:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile

setup: .venv/.has-course .venv/.has-test .venv/.has-reports  ## install everything for students and instructors into .venv

setup-torch: .venv/.has-torch  ## add PyTorch, the oracle of the tests (without it they are skipped)

setup-grade: .venv/.has-dask .venv/.has-nbgrader  ## add Dask and nbgrader, if you grade on a cluster or with nbgrader

lab: .venv/.has-course  ## open the notebooks in JupyterLab
	@$(PY) -m tools.shared.pinned $(PY) -m jupyterlab --ServerApp.root_dir=notebooks

run: .venv/.has-course  ## execute every notebook from scratch into results/ (or NOTEBOOK=01_mlp; DATA=sample: quick; JOBS=2)
	@$(PY) -m tools.instructor.run --jobs $(JOBS) $(NOTEBOOK)

reports: .venv/.has-course .venv/.has-reports  ## PDF of every notebook and of the course (or NOTEBOOK=01_mlp, path/to/my.ipynb, results; FOR=students: no solutions)
	@$(PY) -m tools.instructor.reports $(if $(filter students,$(FOR)),--students) $(if $(NOTEBOOK),"$(NOTEBOOK)")

site: .venv/.has-course .venv/.has-site  ## the course as a site, into site/ (SITE_REPOSITORY=https://github.com/owner/name)
	@$(PY) -m tools.site.build

# The four stages of `make test`, each a command that you can type. OpenBLAS's threads would only get in each other's way.
STYLE = $(PY) -m ruff check . && $(PY) -m ruff format --check .
UNIT = OPENBLAS_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist worksteal
CELLS = $(PY) -m pytest --nbval -n $(JOBS) --dist loadfile $(NOTEBOOKS)
EXERCISES = OPENBLAS_NUM_THREADS=1 $(PY) -m pytest -q -m editions -n $(JOBS) --dist worksteal

test: .venv/.has-course .venv/.has-test .venv/.has-reports  ## style, unit tests, every stored digit of the notebooks, every exercise
	@failed=; \
	echo "--- style"; ($(STYLE)) || failed="$$failed style"; \
	echo "--- unit tests"; $(UNIT) || failed="$$failed unit-tests"; \
	echo "--- notebooks"; $(CELLS) || failed="$$failed notebooks"; \
	echo "--- exercises and reports"; $(EXERCISES) || failed="$$failed exercises-and-reports"; \
	if [ -n "$$failed" ]; then echo "FAILED:$$failed"; exit 1; else echo "All four stages passed: style, unit tests, notebooks, exercises and reports."; fi

test-lab: .venv/.has-course .venv/.has-test .venv/.has-lab .venv/.has-site  ## JupyterLab, the site and interactive figures in a real browser (CHROMIUM=...): screenshots in reports/
	@$(PY) -m pytest -m browser tests/lab.py tests/site.py tests/interactive

claims: .venv/.has-course .venv/.has-test  ## do the claims hold in another arithmetic and with another seed? (SEED=1)
	@NNLIB_SEED=$(SEED) $(PY) -m pytest --nbval-lax -n $(JOBS) --dist loadfile $(NOTEBOOKS)

build: .venv/.has-course  ## compute the stored outputs anew (or NOTEBOOK=01_mlp): look at them, commit the pair
	@$(PY) -m tools.author.build $(NOTEBOOK)

bench: .venv/.has-course .venv/.has-torch  ## nnlib beside PyTorch: speed and memory (on an idle machine; BUSY=1: on any)
	@$(PY) -m benchmarks.bench $(if $(BUSY),--busy)

student: .venv/.has-course  ## write the notebooks without solutions into student/ (or NOTEBOOK=01_mlp; FORMAT=nbgrader)
	@$(PY) -m tools.instructor.student --format $(FORMAT) $(NOTEBOOK)

grade: .venv/.has-course  ## check what students handed in (SUBMISSIONS=folder; SCHEDULER=tcp://... for a Dask cluster)
	@$(PY) -m tools.instructor.grade $(SUBMISSIONS) $(NOTEBOOK) $(if $(SCHEDULER),--scheduler $(SCHEDULER))

data: .venv/.has-nnlib  ## fetch the real data sets into data/
	@$(PY) -W ignore::RuntimeWarning:runpy -m nnlib.datasets

clean:  ## remove results, reports, caches and .venv; the data stays
	rm -rf .venv results reports site .cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
	find nnlib tools tests notebooks benchmarks -name __pycache__ -prune -exec rm -rf {} +
	find notebooks -name .ipynb_checkpoints -prune -exec rm -rf {} +

# One stamp for each set of packages: what is up to date is not installed again.
.venv/.has-nnlib: $(INPUTS) | .venv/bin/pip
	@echo "Installing nnlib into .venv ..."
	@$(PIP) -e .
	@touch $@

.venv/.has-%: $(INPUTS) | .venv/bin/pip
	@echo "Installing what \"$*\" needs into .venv (a minute or so) ..."
	@$(PIP) -e ".[$*]"
	@touch $@ .venv/.has-nnlib

.venv/bin/pip:
	@command -v $(PYTHON) > /dev/null || { \
	  echo "There is no $(PYTHON) here. Install Python 3.11 to 3.14, or name one: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' || { \
	  echo "This course needs Python 3.11 to 3.14, and $(PYTHON) is $$($(PYTHON) --version 2>&1)."; \
	  echo "If you have another one, name it: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv .venv || { \
	  echo "$(PYTHON) could not make .venv (on Debian and Ubuntu: apt install python3-venv)."; rm -rf .venv; exit 1; }
