# make demo: set up, then run the main job on a scan made from real anatomy
# make test: set up, then run the tests
# make bench: hours of measurements, see benchmarks/README.md

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
# Those that need no data of others.
BENCHMARKS := engine image_mixture mixture peers projector sbc scales scaling training unlike
PACKAGES := $(wildcard plugins/tiltkit-*/pyproject.toml)

.PHONY: demo test lint bench clean

demo: $(VENV)/.ready
	$(BIN)/python datasets/make_scan.py demo/scan.h5 --truth demo/truth.h5
	$(BIN)/tiltkit run mri-recon demo/scan.h5 -o demo/result.h5 --report --overwrite
	$(BIN)/tiltkit evaluate demo/result.h5 --truth demo/truth.h5

test: $(VENV)/.ready
	$(BIN)/pytest

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.ready
	for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py || exit 1; done

clean:
	rm -rf $(VENV) demo

# Made again only when a dependency list changes, so second runs start at once.
$(VENV)/.ready: pyproject.toml $(PACKAGES)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev $(foreach p,$(PACKAGES),--editable $(dir $(p)))
	touch $@
