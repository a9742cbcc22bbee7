# Every target sets up what it needs: a virtual environment, npm packages, Debian packages.
PYTHON ?= python3
PORT ?= 8000
VENV ?= .venv
BIN := $(VENV)/bin
# Two more than there are cores: tests that start programs often wait.
N ?= $(shell expr 2 + $$(nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2))
NPM := $(shell command -v npm 2>/dev/null)
NPM_INSTALL := npm install --silent --no-audit --no-fund --no-package-lock
PIP_INSTALL := python -m pip install --quiet --disable-pip-version-check --root-user-action=ignore
INSTALL := $(BIN)/$(PIP_INSTALL) -c constraints.txt
PYTEST := $(BIN)/python -m pytest -n $(N) --dist loadgroup
CODE := src tests examples tools bench

.DEFAULT_GOAL := help
.PHONY: help run test test-all test-lowest coverage soak check format autobahn autobahn-ci bench \
	bench-quick bench-capacity instructions dist changelog imports hooks clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  T=tests/cli          test only this, with test and coverage"
	@echo "  ARGS='--lf -x'       options for pytest"
	@echo "  N=$(N)                  processes that test at once"
	@echo "  PYTHON=python3.12    the Python of a new environment"
	@echo "  PORT=8001            where run serves"

run: $(VENV)/run.stamp demo-client ## Serve the demo on http://localhost:8000
	@$(BIN)/socketcluster serve --port $(PORT)

test: $(VENV)/dev.stamp clients programs ## Run the tests
	$(PYTEST) $(ARGS) $(T)

# One environment per version, .venv-3.12 and so on. A failure does not stop the next version.
test-all: ## Run the tests on every supported Python of this machine
	@tools/pythons.sh > .pythons; failed=; \
	while read -r version python; do \
		echo "Python $$version: $$python"; \
		$(MAKE) --no-print-directory test PYTHON=$$python VENV=.venv-$$version </dev/null \
			|| failed="$$failed $$version"; \
	done < .pythons; \
	tested=$$(cut -d ' ' -f 1 .pythons | tr '\n' ' '); rm -f .pythons; \
	if [ -n "$$failed" ]; then echo "Failed on Python$$failed"; exit 1; fi; \
	echo "Passed on Python $$tested"

# The lowest versions that pyproject.toml allows, as uv resolves them; not those of indirect dependencies.
test-lowest: $(VENV)/dev.stamp clients programs ## Run the tests with the lowest allowed dependencies
	@[ -x .venv-lowest/bin/python ] || $(BIN)/python -m venv .venv-lowest
	@echo "Installing the lowest allowed versions"
	@$(BIN)/uv pip compile --quiet --resolution lowest-direct --all-extras pyproject.toml \
		--no-header --no-annotate --output-file .venv-lowest/requirements.txt
	@.venv-lowest/bin/$(PIP_INSTALL) -r .venv-lowest/requirements.txt -e .
	.venv-lowest/bin/python -m pytest -n $(N) --dist loadgroup $(ARGS) $(T)

# Measuring slows what tests/performance and the test_cost.py measure. The limit is for the whole suite.
coverage: $(VENV)/dev.stamp clients programs ## Run the tests and report the branches that none covers
	@rm -f .coverage .coverage.*
	$(PYTEST) --cov --cov-report=term:skip-covered --cov-report=html $(if $(T),--cov-fail-under=0) \
		--ignore tests/performance --ignore-glob "tests/*/test_cost.py" $(ARGS) $(T)

soak: $(VENV)/dev.stamp programs ## Run the fault and property tests at full length
	SOAK=1 $(PYTEST) --timeout 1800 $(ARGS) tests/faults tests/properties tests/presence \
		tests/conformance/test_presence.py tests/interop/test_sessions.py

check: $(VENV)/dev.stamp ## Check style, formatting, spelling, prose and types
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/codespell $(CODE) docs deploy *.md
	$(BIN)/python tools/check_prose.py
	$(BIN)/mypy
	$(BIN)/basedpyright
	$(BIN)/python tools/verify_types.py

format: $(VENV)/dev.stamp ## Format the code, and mend what ruff can
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

autobahn: $(VENV)/dev.stamp ## Run the Autobahn test suite: 517 cases
	$(BIN)/python tools/run_autobahn.py

autobahn-ci: $(VENV)/dev.stamp ## Run the Autobahn test suite without compression: 301 cases
	$(BIN)/python tools/run_autobahn.py --without-compression

bench: $(VENV)/bench.stamp bench-servers programs ## Measure for half an hour and write bench/results.md and .svg
	@$(BIN)/python -m bench

bench-quick: $(VENV)/bench.stamp bench-servers programs ## Measure for two minutes and print
	@$(BIN)/python -m bench --quick

bench-capacity: $(VENV)/bench.stamp programs ## Measure the figures of docs/capacity.md, in a minute
	@$(BIN)/python -m bench.capacity

instructions: $(VENV)/dev.stamp programs ## Count the instructions of each path and record them for the tests
	@PYTHONPATH=tests $(BIN)/python -m performance.counting

dist: $(VENV)/release.stamp ## Build the sdist and the wheel, and check them
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*

# A section that is marked as unreleased gets its date; else the fragments become a section.
changelog: $(VENV)/release.stamp ## Write the section of a release into CHANGELOG.md
	@version=$$($(BIN)/python -c 'import socketcluster; print(socketcluster.__version__)'); \
	if grep -q "^## $$version (unreleased)" CHANGELOG.md; then \
		sed -i.bak "s/^## $$version (unreleased)/## $$version ($$(date +%F))/" CHANGELOG.md && rm CHANGELOG.md.bak; \
	else \
		$(BIN)/towncrier build --yes --version "$$version"; \
	fi; \
	grep -m 1 "^## " CHANGELOG.md

imports: $(VENV)/dev.stamp ## Draw the import graph into docs/architecture
	@tools/ensure.sh graphviz
	@$(INSTALL) import-linter
	@tools/draw_imports.sh $(BIN)

hooks: $(VENV)/dev.stamp ## Run the checks at each commit, with pre-commit
	@$(INSTALL) pre-commit
	$(BIN)/pre-commit install

clean: ## Delete all that these targets made
	rm -rf $(VENV) .venv-3.* .venv-lowest .demo .autobahn .interop tests/interop/js/node_modules \
		bench/js/node_modules bench/build dist htmlcov .coverage .coverage.*

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is required, $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing the package"
	@$(INSTALL) -e '.[cli]'
	@touch $@

$(VENV)/dev.stamp: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing the package and what its tests need"
	@$(INSTALL) -e '.[cli,dev]'
	@touch $@ $(VENV)/run.stamp

$(VENV)/bench.stamp: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing the package and what it is compared with"
	@$(INSTALL) -e '.[cli,bench]'
	@touch $@ $(VENV)/run.stamp

$(VENV)/release.stamp: $(VENV)/dev.stamp
	@echo "Installing what a release needs"
	@$(INSTALL) -e '.[release]'
	@touch $@

.PHONY: clients demo-client interop-clients bench-servers programs

clients: demo-client interop-clients

# The demo page uses the official JavaScript client; without npm the page says how to get it.
demo-client:
	@if [ -n "$(NPM)" ] && [ ! -f .demo/node_modules/socketcluster-client/package.json ]; then \
		echo "Fetching socketcluster-client for the demo page"; mkdir -p .demo; \
		$(NPM_INSTALL) --prefix .demo --no-save socketcluster-client@20 \
			|| echo "npm could not fetch it: the page will say how to"; fi

# Two versions of PyPI's client: 1.3.4 answers the pings of protocol 1, 1.3.6 those of protocol 2, and
# neither the other's. The environment has 1.3.6; this is the other.
interop-clients: $(VENV)/dev.stamp
	@if [ ! -f .interop/.stamp ]; then \
		echo "Fetching socketclusterclient 1.3.4"; \
		$(BIN)/$(PIP_INSTALL) --no-deps --upgrade --target .interop socketclusterclient==1.3.4 && touch .interop/.stamp; fi
	@if [ -z "$(NPM)" ]; then echo "npm is missing: the interop tests need Node and npm"; \
	elif [ ! -f tests/interop/js/node_modules/.stamp ] || [ tests/interop/js/package.json -nt tests/interop/js/node_modules/.stamp ]; then \
		echo "Fetching the JavaScript clients and servers"; \
		$(NPM_INSTALL) --prefix tests/interop/js && touch tests/interop/js/node_modules/.stamp; fi

bench-servers:
	@if [ -z "$(NPM)" ]; then echo "npm is missing: the benchmark compares with the original, on Node"; exit 1; fi
	@if [ ! -f bench/js/node_modules/.stamp ] || [ bench/js/package.json -nt bench/js/node_modules/.stamp ]; then \
		echo "Fetching socketcluster-server"; \
		$(NPM_INSTALL) --prefix bench/js && touch bench/js/node_modules/.stamp; fi

programs:
	@tools/ensure.sh chromium haproxy nats-server nginx prometheus redis-server valgrind
