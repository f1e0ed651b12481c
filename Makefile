# `make run` and `make test` are the only commands a fresh Debian, Ubuntu or macOS machine needs.
# Each step of the set-up is a stamp in .venv, so that the second run starts at once.

APP ?= examples.echo:stream
# Unset, these are what RAYRTC_HOST, RAYRTC_PORT, ... say, or the defaults (`rayrtc config`).
HOST ?=
PORT ?=
WORKERS ?=
SLOTS ?=
# The Python that makes the virtual environment; unset: the newest suitable one on the PATH.
PYTHON ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
LOCK_VENV := .lock-venv
# Prints how long the step of this recipe took.
TIMED := sh deploy/setup/timed.sh

export PYTHONUTF8 = 1

.DEFAULT_GOAL := help
.PHONY: help run install test test-install test-faults conformance bench lint types lock clean

help:
	@echo 'make run    start everything on this machine (variables APP, HOST, PORT, WORKERS, SLOTS)'
	@echo 'make test   lint, types, unit and end-to-end tests'
	@echo 'make test-faults  what callers notice when a part of a cluster fails, as a table (root, Linux)'
	@echo 'make conformance  what clients are promised, as tables (URL: of a running system)'
	@echo 'make bench  cost and delay beside FastRTC and aiortc, as tables and plots (BENCH, ROUNDS)'
	@echo 'make lint   formatting and lint only'
	@echo 'make types  mypy only'
	@echo 'make lock   resolve the dependencies again into the lock files'
	@echo 'make clean  remove the virtual environment and all caches'

run: $(VENV)/.installed
	@exec $(BIN)/rayrtc dev '$(APP)' $(if $(HOST),--host '$(HOST)') $(if $(PORT),--port '$(PORT)') $(if $(WORKERS),--workers '$(WORKERS)') $(if $(SLOTS),--slots '$(SLOTS)')

install: $(VENV)/.installed

$(VENV)/.made:
	@$(TIMED) 'virtual environment' sh deploy/setup/venv.sh '$(VENV)' '$(PYTHON)'
	@touch $@

$(VENV)/.locked: requirements.lock $(VENV)/.made
	@$(TIMED) 'packages from requirements.lock' $(PIP) install -qq --require-hashes --only-binary :all: -r requirements.lock
	@touch $@

# Editable, so that a change of the source needs no second installation.
$(VENV)/.installed: pyproject.toml $(VENV)/.locked
	@$(TIMED) 'rayrtc itself' $(PIP) install -qq --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.tests: requirements-dev.lock $(VENV)/.installed
	@$(TIMED) 'packages from requirements-dev.lock' $(PIP) install -qq --require-hashes --only-binary :all: -r requirements-dev.lock
	@touch $@

test-install: $(VENV)/.tests
	@$(TIMED) 'Chromium' sh deploy/setup/chromium.sh
	@$(TIMED) 'network tools' sh deploy/setup/network.sh
	@$(TIMED) 'GStreamer' sh deploy/setup/gstreamer.sh
	@$(TIMED) 'Prometheus' sh deploy/setup/prometheus.sh
	@$(TIMED) 'Helm' sh deploy/setup/helm.sh $(BIN)

# Whole systems need the processors of a machine with two; the other tests mostly wait, and judge
# times. Each part starts those that take longest first (tests/conftest.py).
SYSTEMS := tests/e2e tests/network tests/conformance
PYTEST := $(BIN)/python -m pytest -m 'not compose and not quiet' --dist loadgroup --no-loadscope-reorder

test: test-install
	@$(TIMED) 'lint' $(MAKE) --no-print-directory lint
	@$(TIMED) 'types' $(MAKE) --no-print-directory types
	@$(TIMED) 'tests' $(PYTEST) --numprocesses 6 $(addprefix --ignore=,$(SYSTEMS))
	@$(TIMED) 'tests of whole systems' $(PYTEST) --numprocesses 3 $(SYSTEMS)
	@$(TIMED) 'tests that need a quiet machine' $(BIN)/python -m pytest -m quiet

test-faults: test-install
	@$(BIN)/python -m tests.network.faults $(FAULTS)

# The application that the system at URL has to serve is in tests/conformance/app.py.
URL ?=
conformance: test-install
	@$(BIN)/python -m tests.conformance $(URL)

# Names of modules in benchmarks/, all of the table in docs/benchmarks.md when unset. The peers get
# environments of their own under .bench/, where the results go too.
BENCH ?=
ROUNDS ?=
bench: $(VENV)/.tests
	@$(BIN)/python -m benchmarks $(BENCH) $(if $(ROUNDS),--rounds '$(ROUNDS)')

lint: $(VENV)/.tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.tests
	@$(BIN)/mypy

$(LOCK_VENV)/.made:
	@sh deploy/setup/venv.sh '$(LOCK_VENV)' '$(PYTHON)'
	@$(LOCK_VENV)/bin/python -m pip install -qq --disable-pip-version-check 'uv>=0.9,<1'
	@touch $@

# The newest versions that pyproject.toml allows, for every platform, with hashes. The second file
# is the first one plus what the tests need.
UV_COMPILE = $(LOCK_VENV)/bin/uv pip compile pyproject.toml --quiet --upgrade --universal \
	--generate-hashes --no-emit-index-url --no-emit-find-links \
	--custom-compile-command 'make lock' --group build
lock: $(LOCK_VENV)/.made
	$(UV_COMPILE) --output-file requirements.lock
	$(UV_COMPILE) --group dev --constraints requirements.lock --output-file requirements-dev.lock

clean:
	rm -rf $(VENV) $(LOCK_VENV) .bench build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis test-results
	find rayrtc control_plane workers capacity examples tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
