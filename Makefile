# Everything that is done with this repository, by name. `make help` lists it.
# Prerequisites: Debian 12 or newer, git make python3 python3-venv ca-certificates. What else is needed is fetched.

.DEFAULT_GOAL := help
UV := .tools/bin/uv
BIN := .venv/bin
STATE ?= var/aio
# STORAGE_ONLY=1 leaves instances out: no Nova, no guests, half the memory.
STORAGE_ONLY ?=
# EDGE_TLS=1 serves vDisks with TLS, EDGE_TLS=0 plainly; without it as the last time, at first with TLS.
EDGE_TLS ?=
EDGE := $(if $(EDGE_TLS),$(if $(filter 0 no off false,$(EDGE_TLS)),--no-edge-tls,--edge-tls))
UP := $(BIN)/openvstorage aio up --state $(STATE) $(if $(STORAGE_ONLY),--storage-only) $(EDGE)
PYTEST_OPTIONS ?=
# How long `make torture` goes on, what its decisions follow from, and where QEMU's programs are if not in the PATH.
MINUTES ?= 60
SEED ?=
QEMU_DIR ?=
TORTURE_OPTIONS ?=
# The Python of the machine, never one that uv would fetch.
export UV_PYTHON_DOWNLOADS := never
export UV_PYTHON := $(shell command -v python3)

.PHONY: help install packages demo tour down test test-cinder test-nova test-glance e2e tempest lint format bench torture power docs

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

# The tool that makes environments from the lock file; it comes from PyPI like everything else.
$(UV): Makefile
	python3 -m venv .tools
	.tools/bin/pip install --quiet --disable-pip-version-check uv==0.13.9
	@touch $@

# A sentinel: the environment is made again when what it is made from changed.
.venv/.made: $(UV) pyproject.toml uv.lock
	UV_PROJECT_ENVIRONMENT=.venv $(UV) sync --frozen --all-extras --quiet
	@touch $@

install: .venv/.made ## make .venv with the command `openvstorage`

packages: install ## install the Debian packages that tests need, starting no service
	sh tests/support/debian-packages.sh

demo: install ## bring up a real OpenStack with a vPool on this machine, and show that it works
	$(UP)
	$(BIN)/openvstorage aio tour --state $(STATE) --report var/demo.json

tour: install ## show again that the cloud of `make demo` works
	$(BIN)/openvstorage aio tour --state $(STATE) --report var/demo.json

down: install ## stop the cloud of `make demo`; it keeps its volumes
	$(BIN)/openvstorage aio down --state $(STATE)

test: install packages ## unit and functional tests (at most 15 minutes)
	$(BIN)/pytest -n 3 --dist worksteal tests/unit tests/functional $(PYTEST_OPTIONS)

test-cinder: install packages ## tests inside an environment that has only Cinder and our wheel
	$(BIN)/python tests/support/cinder_env.py $(PYTEST_OPTIONS)

test-nova: install packages ## tests inside an environment that has only Nova and our wheel, and Nova's own with it
	$(BIN)/python tests/support/nova_env.py $(PYTEST_OPTIONS)

test-glance: install packages ## tests inside an environment that has only Glance's stores and our wheel
	$(BIN)/python tests/support/glance_env.py $(PYTEST_OPTIONS)

e2e: install packages ## tests on a real OpenStack of their own (at most 15 minutes)
	sh tests/support/debian-packages.sh chromium chromium-driver
	$(BIN)/pytest tests/e2e $(PYTEST_OPTIONS)

tempest: install packages ## Tempest's volume tests against the cloud of `make demo`, from an environment of their own
	$(UP)
	$(BIN)/python tests/support/tempest_env.py --state $(STATE)

lint: install ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install ## put the style right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install packages ## measure; results as ratios in var/bench
	$(BIN)/python -m tests.bench

torture: install packages ## many vDisks written to, changed and killed at random, every block verified; MINUTES=60 SEED= QEMU_DIR=
	$(BIN)/python -m tests.torture --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(QEMU_DIR),--qemu-dir $(QEMU_DIR)) $(TORTURE_OPTIONS)

# INSTANTS, SEED, DURABILITY (acknowledged or flushed) and QEMU_DIR are passed on.
POWER_OPTIONS = $(if $(INSTANTS),--instants $(INSTANTS)) $(if $(SEED),--seed $(SEED)) \
	$(if $(DURABILITY),--durability $(DURABILITY)) $(if $(QEMU_DIR),--qemu-dir $(QEMU_DIR))

power: install packages ## cut the power of a pool at many instants, as root, and look what is left: docs/power-loss.md
	$(BIN)/python -m tests.power $(POWER_OPTIONS)

docs: install ## write the references from the code: the REST API, the options
	$(BIN)/python -m tests.support.reference_pages
