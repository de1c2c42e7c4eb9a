# Every target sets up what it needs in .venv: only Python 3.11 or newer (with venv) and make have to be there.

PYTHON ?= python3
WORKERS ?= 2
TESTS ?= tests
ARGS ?=
LOGS ?= logs
# What opencv-python loads from the system (Linux).
SYSTEM_LIBS ?= libGL.so.1 libgthread-2.0.so.0

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOG := $(VENV)/install.log
SOURCES := setup.py sb3_alignsam $(wildcard tests)
# One thread a worker: several workers that each use every core only wait for one another.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
PYTEST := $(ONE_THREAD) MPLBACKEND=Agg $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo mlflow tensorboard screenshots test test-long lint type format wheel constraints clean check-python check-libs

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: check-libs $(STAMP) ## Run the whole job, small, on the embedded default
	@$(BIN)/sb3-alignsam demo $(ARGS)

mlflow: $(STAMP) ## Open MLflow on the runs in LOGS=logs
	@MLFLOW_DISABLE_TELEMETRY=true $(BIN)/mlflow ui --backend-store-uri sqlite:///$(LOGS)/mlflow.db --default-artifact-root $(LOGS)/mlartifacts $(ARGS)

tensorboard: $(STAMP) ## Open TensorBoard on the runs in LOGS=logs
	@$(BIN)/tensorboard --logdir $(LOGS) $(ARGS)

screenshots: $(STAMP) ## Take the pictures of docs/tracking.md and docs/serve.md (needs chromium)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python docs/screenshots.py $(ARGS)

test: check-libs $(STAMP) ## Run the tests that take seconds (TESTS=tests/envs ARGS="-k name" for some)
	@$(PYTEST) $(TESTS) $(ARGS)

test-long: check-libs $(STAMP) ## Run the tests that take minutes
	@$(PYTEST) -m long $(TESTS) $(ARGS) || { code=$$?; \
	  if [ $$code -eq 5 ]; then echo "make: no test is marked long"; else exit $$code; fi; }

lint: $(STAMP) ## Check style and formatting, change nothing
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)

type: $(STAMP) ## Check types
	@$(BIN)/mypy

format: $(STAMP) ## Format, and repair what can be repaired
	@$(BIN)/ruff check --fix-only $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

wheel: $(STAMP) ## Build a wheel into dist/
	@rm -rf build
	@$(BIN)/python -m build --quiet --wheel --no-isolation .
	@ls dist/*.whl

# Reads the packages' metadata and installs nothing; the comment lines at the top of the file are kept.
constraints: $(STAMP) ## Renew constraints.txt with the newest versions that fit together
	@echo "make: looking for the newest versions (takes minutes)"
	@$(BIN)/python -m pip install -qq --dry-run --ignore-installed --report $(VENV)/report.json -e '.[dev]' \
	  > $(VENV)/constraints.log 2>&1 || { echo "make: no set of versions fits; see $(VENV)/constraints.log" >&2; exit 1; }
	@{ sed -n '/^#/p' constraints.txt; $(BIN)/python -c "$$PINS" $(VENV)/report.json; } > $(VENV)/constraints.txt
	@mv $(VENV)/constraints.txt constraints.txt

define PINS
import json, sys
skipped = {"pip", "setuptools", "wheel", "sb3-alignsam"}
found = [item["metadata"] for item in json.load(open(sys.argv[1]))["install"]]
pins = {data["name"]: data["version"].partition("+")[0] for data in found if data["name"].lower() not in skipped}
print(*(f"{name}=={pins[name]}" for name in sorted(pins, key=str.lower)), sep="\n")
endef
export PINS

clean: ## Remove build output and caches (keeps .venv, logs and mlruns)
	@rm -rf build dist ./*.egg-info .mypy_cache .ruff_cache .pytest_cache
	@find setup.py sb3_alignsam $(wildcard tests) -type d -name __pycache__ -prune -exec rm -rf {} +

# A .venv whose interpreter is gone (Python was upgraded or removed) is made anew.
ifeq ($(wildcard $(BIN)/python),)
.PHONY: $(STAMP)
endif
$(STAMP): setup.py constraints.txt | check-python
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "make: installing into $(VENV) (once; several GB, takes minutes)"
	@$(BIN)/python -m pip install --no-input -c constraints.txt -e '.[dev]' > $(LOG) 2>&1 \
	  || { sed -n -E "/^ERROR/ { s#[a-z]+://[^ ,]+#(address)#g; s#host='[^']*'#host#g; p }" $(LOG) >&2; \
	       echo "make: the installation failed; all of it is in $(LOG)" >&2; exit 1; }
	@touch $@

check-python:
	@if $(BIN)/python -c "" 2> /dev/null; then exit 0; fi; \
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" 2> /dev/null \
	  || { echo "make: '$(PYTHON)' is not Python 3.11 or newer; name one that is: make PYTHON=python3.11" >&2; exit 1; }; \
	$(PYTHON) -c "import ensurepip, venv" 2> /dev/null \
	  || { echo "make: '$(PYTHON)' has no venv module; on Debian or Ubuntu: apt-get install -y python3-venv" >&2; exit 1; }

# Without them `import cv2` fails. Where CI is set they are installed, elsewhere the user is told.
check-libs: check-python
	@have() { \
	  python=$(BIN)/python; $$python -c "" 2> /dev/null || python=$(PYTHON); \
	  $$python -c "import ctypes, sys; [ctypes.CDLL(lib) for lib in sys.argv[1:] if sys.platform == 'linux']" \
	    $(SYSTEM_LIBS) 2> /dev/null; \
	}; \
	get="apt-get install -y libgl1 libglib2.0-0"; \
	if have; then exit 0; fi; \
	if [ -n "$$CI" ]; then \
	  echo "make: $$get"; \
	  root=; [ "$$(id -u)" -eq 0 ] || root=sudo; \
	  { $$root apt-get update; $$root env DEBIAN_FRONTEND=noninteractive $$get; } > /dev/null 2>&1 < /dev/null; \
	fi; \
	have || { echo "make: opencv needs $(SYSTEM_LIBS) of the system; on Debian or Ubuntu: $$get" >&2; exit 1; }
