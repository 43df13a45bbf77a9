.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
SOURCES := requirements.lock pyproject.toml hatch_build.py $(wildcard ml_verifier/kernels/source/*)
SEED ?=
SECONDS ?= 600
JOBS ?= 1
SKIP ?=
MANIFEST ?=

.PHONY: help install demo test soak testnets check format lint types imports conformance conformance-programs contracts bench vectors clean

help: ## Show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 22

install: $(INSTALLED) ## Set up .venv from the lock and build the kernels

$(INSTALLED): $(SOURCES)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 13) else \
	  f"expected Python 3.11 or 3.12, got {v[0]}.{v[1]}; name another one: make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(INSTALLED) ## The main job, end to end, with real processes (SEED=n repeats a run)
	$(BIN)/python -m lockstep.demo $(if $(SEED),--seed $(SEED))

test: $(INSTALLED) ## All tests
	$(BIN)/pytest -n auto

soak: $(INSTALLED) ## Slow checks: simulated networks (SECONDS=, SEED=, JOBS=; resumed), all 2^32 inputs of unary kernels, thousands of examples
	$(BIN)/python -m tests.simulation --seconds $(SECONDS) --seed $(or $(SEED),0) --jobs $(JOBS) --state .soak.json
	HYPOTHESIS_PROFILE=nightly $(BIN)/pytest --soak

testnets: $(INSTALLED) ## Networks of real processes: killed, paused, cut off, joining, leaving (MANIFEST=name)
	$(BIN)/python -m tests.testnets $(MANIFEST)

check: lint types imports test ## All that CI runs

format: $(INSTALLED) ## Rewrite code in the house style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(INSTALLED) ## Style, spelling, dead code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/vulture
	$(BIN)/codespell chain consensus contracts docs genesis lockstep ml_verifier node runtime tests README.md ARCHITECTURE.md

types: $(INSTALLED) ## mypy and pyright, both strict
	$(BIN)/mypy
	$(BIN)/pyright

imports: $(INSTALLED) ## Layers, purity, cycles
	$(BIN)/lint-imports --no-logo

contracts: $(INSTALLED) ## Compile the Vyper contracts into contracts/artifacts
	$(BIN)/python -m contracts.compile

conformance: $(INSTALLED) ## One hash from every compiler, instruction set, Python, machine (SKIP="row, pattern*")
	$(BIN)/python -m tests.conformance.matrix --skip "$(SKIP)"

conformance-programs: $(INSTALLED) ## Capture the programs of the conformance trainings anew (then: make vectors)
	$(BIN)/python -m tests.conformance.programs

bench: $(INSTALLED) ## Performance table, each figure against a peer in the same run
	$(BIN)/python -m benchmarks

vectors: $(INSTALLED) ## Rewrite tests/vectors from the code (review the diff)
	$(BIN)/pytest -q --write-vectors

clean: ## Remove what the targets above made
	rm -rf .venv build dist .hypothesis .pytest_cache .mypy_cache .ruff_cache .coverage ml_verifier/kernels/*.so ml_verifier/kernels/.build-*
