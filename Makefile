# make demo: install what it needs, then reconstruct a scan made from real anatomy
# make test: install the rest, then run the tests on all processors, about 10 minutes on two
# make test-all: the same with the slow tests
# make lint: ruff, mypy, import-linter
# make bench: hours of measurements, see benchmarks/README.md

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
# Those that need no data of others.
BENCHMARKS := constants counts engine faithful image_mixture mixture peers projector sbc scales scaling signals training unlike
PACKAGES := $(wildcard plugins/tiltkit-*/pyproject.toml)
# One process per processor with one thread each; a process takes up to 2 GB of memory.
PYTEST := $(BIN)/pytest --numprocesses auto --maxprocesses 16 --dist worksteal
PIP := $(BIN)/python -m pip install --quiet

.PHONY: help demo test test-all lint bench clean

help:
	@sed -n 's/^# make/make/p' Makefile

demo: $(VENV)/.demo demo/scan.h5
	@echo "Sampling 8 images that fit the scan: 1 to 2 minutes on two processors."
	$(BIN)/tiltkit run mri-recon demo/scan.h5 -o demo/result.h5 --samples 8 --report --write png --resume --overwrite
	$(BIN)/tiltkit evaluate demo/result.h5 --truth demo/truth.h5
	@echo "The report is $(CURDIR)/demo/result.html, and its picture:"
	@echo "$(CURDIR)/demo/result.png"

# Renamed when it is complete: a stopped call leaves no half of a scan.
demo/scan.h5: datasets/make_scan.py | $(VENV)/.demo
	$(BIN)/python datasets/make_scan.py demo/new.h5 --truth demo/truth.h5
	mv demo/new.h5 $@

test: $(VENV)/.ready
	$(PYTEST)

test-all: $(VENV)/.ready
	$(PYTEST) -m ""

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.ready
	for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py || exit 1; done

clean:
	rm -rf $(VENV) demo

# Both are made again only when a dependency list changes, so second runs start at once.
$(VENV)/.demo: pyproject.toml plugins/tiltkit-mri/pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	@echo "Installing into $(VENV): some minutes; 6 GB, or 2 GB with torch for CPUs alone (README, Install)."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade "pip>=25.1"
	$(PIP) --editable . --editable plugins/tiltkit-mri
	touch $@

$(VENV)/.ready: $(VENV)/.demo $(PACKAGES)
	$(PIP) --editable . --group dev $(foreach p,$(PACKAGES),--editable $(dir $(p)))
	touch $@
