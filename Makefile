# make run [DAY=35] [ARGS=--fast]   run one day of the course; the default trains the GPT
# make test                         run every test, a file at a time on each core (so the BLAS
#                                   of each has one thread: threads of several would only wait)
# Both make .venv and install requirements.txt first, once, and again when it has changed.

PYTHON ?= python3
DAY ?= 35
PY := .venv/bin/python

.PHONY: run test

run: .venv/.installed
	@$(PY) -m days run $(DAY) $(ARGS)

test: .venv/.installed
	@OPENBLAS_NUM_THREADS=1 $(PY) -m pytest -n auto --dist loadfile

.venv/.installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "The course needs Python 3.11 or newer and '$(PYTHON)' is not; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; \
	  exit 2; }
	@echo "Making .venv and installing requirements.txt: a minute or two, this once."
	@$(PYTHON) -m venv .venv
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@
