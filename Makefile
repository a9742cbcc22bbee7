# Everything is set up on demand: `make run`, `make test`, `make check`, `make autobahn`, `make bench`.
PYTHON ?= python3
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin
NPM := $(shell command -v npm 2>/dev/null)
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --root-user-action=ignore -c constraints.txt

.PHONY: run test soak check format autobahn autobahn-ci bench bench-quick instructions clean

run: $(VENV)/run.stamp demo-client
	@$(BIN)/socketcluster serve --port $(PORT)

test: $(VENV)/dev.stamp demo-client interop-clients chromium broker-servers valgrind
	$(BIN)/python -m pytest -n 2 --dist loadgroup

# The faults and the spread over nodes at full length: 1,000 clients, engines stopped for 20 s.
soak: $(VENV)/dev.stamp broker-servers
	SOAK=1 $(BIN)/python -m pytest -n 2 --dist loadgroup --timeout 1800 tests/faults

check: $(VENV)/dev.stamp
	$(BIN)/ruff check src tests examples tools bench
	$(BIN)/ruff format --check src tests examples tools bench
	$(BIN)/mypy

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix src tests examples tools bench
	$(BIN)/ruff format src tests examples tools bench

autobahn: $(VENV)/dev.stamp
	$(BIN)/python tools/run_autobahn.py

autobahn-ci: $(VENV)/dev.stamp
	$(BIN)/python tools/run_autobahn.py --without-compression

# Some twenty minutes; it writes bench/results.md and bench/results.svg.
bench: $(VENV)/bench.stamp bench-servers broker-servers
	@$(BIN)/python -m bench

# Less than two minutes; it prints, and writes nothing.
bench-quick: $(VENV)/bench.stamp bench-servers broker-servers
	@$(BIN)/python -m bench --quick

# Record how many instructions each path of the server takes: what the tests allow from now on.
instructions: $(VENV)/dev.stamp valgrind
	@PYTHONPATH=tests $(BIN)/python -m performance.counting

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

.PHONY: demo-client interop-clients chromium broker-servers bench-servers valgrind

# The demo page uses the official JavaScript client; without npm the page says how to get it.
demo-client:
	@if [ -n "$(NPM)" ] && [ ! -f .demo/node_modules/socketcluster-client/package.json ]; then \
		echo "Fetching socketcluster-client for the demo page"; mkdir -p .demo; \
		npm install --silent --prefix .demo --no-save --no-audit --no-fund --no-package-lock socketcluster-client@20 \
			|| echo "npm could not fetch it: the page will say how to"; fi

interop-clients: $(VENV)/dev.stamp
	@if [ ! -d .interop ]; then \
		echo "Fetching the older Python client"; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --target .interop socketclusterclient==1.3.4; fi
	@if [ -z "$(NPM)" ]; then echo "npm is missing: the interop tests need Node and npm"; \
	elif [ ! -f tests/interop/js/node_modules/.stamp ] || [ tests/interop/js/package.json -nt tests/interop/js/node_modules/.stamp ]; then \
		echo "Fetching the JavaScript clients and servers"; \
		npm install --silent --prefix tests/interop/js --no-audit --no-fund --no-package-lock && touch tests/interop/js/node_modules/.stamp; fi

bench-servers:
	@if [ -z "$(NPM)" ]; then echo "npm is missing: the benchmark compares with the original, on Node"; exit 1; fi
	@if [ ! -f bench/js/node_modules/.stamp ] || [ bench/js/package.json -nt bench/js/node_modules/.stamp ]; then \
		echo "Fetching socketcluster-server"; \
		npm install --silent --prefix bench/js --no-audit --no-fund --no-package-lock && touch bench/js/node_modules/.stamp; fi

chromium:
	@if ! command -v chromium >/dev/null 2>&1 && ! command -v google-chrome >/dev/null 2>&1 && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
		echo "Installing Chromium"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 \
			|| echo "Chromium could not be installed: the demo page test needs it"; fi

valgrind:
	@if ! command -v valgrind >/dev/null 2>&1 && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
		echo "Installing valgrind"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends valgrind; } >/dev/null 2>&1 \
			|| echo "valgrind could not be installed: the test that counts instructions needs it"; fi

broker-servers:
	@if ! { command -v redis-server && command -v nats-server; } >/dev/null 2>&1 && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
		echo "Installing redis-server and nats-server"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server nats-server; } >/dev/null 2>&1 \
			|| echo "redis-server and nats-server could not be installed: the broker tests and the benchmark need them"; fi

clean:
	rm -rf $(VENV) .demo .autobahn tests/interop/js/node_modules bench/js/node_modules bench/build .interop
