# The verbs of this repository: `make` prints them. CI calls the same ones (.ci/run).
PYTHON ?= python3
BIN    := .venv/bin
# natrix: frame sizes (a payload of 8 KB is meant), ERC-20's lower-case constant, "should be view" of functions
# that only call out, "should be pure" of a function that reads the caller, underscores before arguments (not our style),
# arguments that an interface hands over and nobody needs.
NATRIX_OFF := NTX1 NTX2 NTX4 NTX5 NTX10 NTX11
# A stamp's name carries the checksum of what it was made from: the second run does nothing.
checksum = $(shell cat $(1) | cksum | tr -d ' ')
PY_STAMP   := .venv/.installed-$(call checksum,requirements/*.txt pyproject.toml)
NODE_STAMP := node_modules/.installed-$(call checksum,package-lock.json)

export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
export PYTHONUNBUFFERED := 1

.DEFAULT_GOAL := help
.PHONY: help install artifacts test test-brownie test-contracts test-offchain check format gas mutate demo lock clean

help: ## print the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

install: $(PY_STAMP) $(NODE_STAMP) ## make .venv and node_modules from the lock files

.venv/bin/uv: requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit("evenkeel needs Python 3.11 or newer, %s is %s: set PYTHON=" % (sys.executable, sys.version.split()[0]) if sys.version_info < (3, 11) else 0)'
	@echo "[1/3] virtual environment in .venv"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --require-hashes --no-deps -r requirements/uv.txt
	@touch $@

$(PY_STAMP): .venv/bin/uv
	@echo "[2/3] locked Python packages"
	BROWNIE_NOCOMPILE=1 $(BIN)/uv pip install --system-certs --python $(BIN)/python --no-deps --require-hashes --no-binary eth-brownie -r requirements/dev.txt
	$(BIN)/uv pip install --system-certs --python $(BIN)/python --no-deps --editable .
	@rm -f .venv/.installed-*
	@touch $@

$(NODE_STAMP): package-lock.json
	@command -v npm >/dev/null || { echo "evenkeel's tests and demo need Node 18 or newer: npm was not found"; exit 1; }
	@echo "[3/3] locked npm packages (local chain, Uniswap's compiled contracts)"
	npm ci --ignore-scripts
	@touch $@

artifacts: install ## compile the contracts into offchain/chain/artifacts
	$(BIN)/python scripts/build_artifacts.py

test: install test-brownie test-contracts test-offchain ## all tests, on two cores

test-brownie: install ## what brownie must keep doing
	$(BIN)/brownie test tests/brownie

test-contracts: install ## contracts in process: a file a function, attacks, invariants
	$(BIN)/pytest -p no:pytest-brownie -q -n 2 tests/unit tests/stateful

test-offchain: install ## policy, planner, keeper, audit; on local chains too
	$(BIN)/pytest -p no:pytest-brownie -q -n 3 --dist loadfile tests/offchain tests/integration  # many wait for a chain

.PHONY: web
web: install ## build the page (web/) into offchain/api/static
	node web/scripts/abi.mjs
	tsc -p web
	vite build --config web/vite.config.mjs --logLevel warn

.PHONY: test-browser
test-browser: install ## the page and the backtest's report in a real browser; needs chromium on the PATH
	$(BIN)/pytest -p no:pytest-brownie -q tests/browser

.PHONY: test-fleet
test-fleet: install ## three keepers' workers, one killed, one frozen: VAULTS=200 on a real chain, none missed or doubled
	$(BIN)/pytest -p no:pytest-brownie -q tests/fleet
	$(BIN)/python -m tests.fleet.campaign $(if $(VAULTS),--vaults $(VAULTS))

.PHONY: test-api-fuzz
API_FUZZ := .venv/api-fuzz
API_FUZZ_STAMP := $(API_FUZZ)/.installed-$(call checksum,tests/api/schemathesis_requirements.txt)

test-api-fuzz: $(API_FUZZ_STAMP) ## schemathesis against the API on a local chain (EXAMPLES=n a case, SEED=n)
	$(BIN)/python -m tests.api.fuzz $(if $(EXAMPLES),--examples $(EXAMPLES)) $(if $(SEED),--seed $(SEED))

$(API_FUZZ_STAMP): tests/api/schemathesis_requirements.txt | install
	$(BIN)/uv venv -q --clear --python $(BIN)/python $(API_FUZZ)
	$(BIN)/uv pip install --system-certs --python $(API_FUZZ)/bin/python -r $<
	@touch $@

.PHONY: fuzz
fuzz: install ## random steps against the model and the invariants: STEPS=1000000, SEED=n to run one again
	$(BIN)/python -m tests.stateful.campaign --steps $(or $(STEPS),100000) $(if $(SEED),--seed $(SEED))

.PHONY: faults
faults: install ## kill, freeze and cut off keepers, then compare chain and journals: RUNS=300, SEED=n, MINUTES=60 for real keepers
	$(BIN)/python -m tests.faults.campaign $(if $(RUNS),--runs $(RUNS)) $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES))

check: install ## lint, types, and whether the committed artifacts are fresh
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict offchain
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/natrix lint -d $(NATRIX_OFF) -- $(wildcard contracts/*.vy contracts/modules/*.vy)
	$(BIN)/python scripts/build_artifacts.py --check
	web/scripts/check.sh

format: install ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

gas: install ## measure gas beside the peers and compare with the snapshot (UPDATE=1 replaces it)
	$(BIN)/python tests/benchmarks/gas.py $(if $(UPDATE),--update,--check)

.PHONY: bench-planner
bench-planner: install ## time the planner and the router beside their peers (QUICK=1: a smoke run)
	$(BIN)/python -m tests.benchmarks.planner $(if $(QUICK),--quick)

.PHONY: bench-backtest
BENCH := .venv/bench
BENCH_STAMP := $(BENCH)/.installed-$(call checksum,tests/benchmarks/backtest_requirements.txt)

bench-backtest: $(BENCH_STAMP) ## time the backtest engine beside vectorbt, bt and bare loops, in an environment of their own
	$(BENCH)/bin/python tests/benchmarks/backtest.py

$(BENCH_STAMP): tests/benchmarks/backtest_requirements.txt | install
	$(BIN)/uv venv -q --clear --python $(BIN)/python $(BENCH)
	$(BIN)/uv pip install --system-certs --python $(BENCH)/bin/python -r $<
	@touch $@

.PHONY: bench-evm
bench-evm: install ## time the chain in the loop beside the bare EVM calls it consists of (ROWS=n days)
	$(BIN)/python -m tests.benchmarks.backtest_evm $(if $(ROWS),--rows $(ROWS))

.PHONY: bench-keeper
bench-keeper: install ## how many vaults a keeper evaluates with how many requests (QUICK=1: a smoke run)
	$(BIN)/python -m tests.benchmarks.keeper_scale $(if $(QUICK),--quick)

mutate: install ## break the contracts line by line and see the tests notice (FILES="Vault flow", ONLY="access lock")
	$(BIN)/python tests/mutation/mutate.py $(FILES) $(if $(ONLY),--only $(ONLY))

demo: install ## run the main job end to end on a local chain
	$(BIN)/evenkeel demo

lock: install ## resolve pyproject.toml and package.json into the lock files again
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" --extra api --extra demo --extra backtest --extra exchange-data --extra fleet --group dev pyproject.toml -o requirements/dev.txt
	npm install --package-lock-only

clean: ## remove everything that the other verbs made
	rm -rf .venv node_modules build reports .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
