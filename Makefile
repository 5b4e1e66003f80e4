# Every target makes what it needs; a fresh machine has only Python >= 3.11 and make.
PYTHON ?= python3
BIN := .venv/bin
LOCKS := deploy/locks
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run test lint check coverage faults soak fuzz bench bench-peers audit lock clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.venv/serve: pyproject.toml $(LOCKS)/demo.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q --require-hashes -r $(LOCKS)/demo.txt
	$(BIN)/pip install -q --no-deps --no-build-isolation -e .
	@touch $@

.venv/dev: .venv/serve $(LOCKS)/dev.txt
	$(BIN)/pip install -q --require-hashes -r $(LOCKS)/dev.txt
	@touch $@

run: .venv/serve  ## the demo: two stand-in models, the proxy, a live table; Ctrl-C ends it
	$(BIN)/pointsman demo $(ARGS)

test: .venv/dev  ## everything CI runs: lint, types, all tests but the slow ones
	@deploy/install-test-programs
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow" $(ARGS)

lint: .venv/dev  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: .venv/serve  ## check the example configs as a user's CI would
	@set -e; for config in policies/examples/*.yaml; do $(BIN)/pointsman check --strict --no-env -c $$config; done

coverage: .venv/dev  ## the two pure packages must be covered fully by their own tests
	$(BIN)/coverage run --branch --source policies -m pytest -q tests/policies && $(BIN)/coverage report --fail-under 100
	$(BIN)/coverage run --branch --source routes -m pytest -q tests/routes && $(BIN)/coverage report --fail-under 100

faults: .venv/dev  ## the long forms of the fault scenarios; writes tests/faults/RESULTS.md
	$(BIN)/python -m pytest tests/faults -m slow --results $(ARGS)

soak: .venv/dev  ## two hours of mixed traffic with faults: row 66 of the table
	POINTSMAN_SOAK=7200 $(BIN)/python -m pytest tests/faults/test_resources.py -k "soak and long" -m slow --results -s $(ARGS)

fuzz: .venv/dev  ## 30 minutes of fuzzing what upstreams send: row 25b of the table; POINTSMAN_FUZZ=60 for less
	$(BIN)/pip install -q --require-hashes --no-deps --upgrade --target .venv/fuzz -r $(LOCKS)/fuzz.txt
	POINTSMAN_FUZZ=$${POINTSMAN_FUZZ:-1800} $(BIN)/python -m pytest tests/faults/test_parser.py -k guided -m slow --results -s $(ARGS)

bench: .venv/dev  ## the data path beside nginx, in one run; writes tests/bench/RESULTS.md
	@deploy/install-test-programs
	$(BIN)/python -m tests.bench $(ARGS)

bench-peers: .venv/dev  ## the same with TensorZero and LiteLLM's proxy where they install
	$(BIN)/python -m tests.bench --peers $(ARGS)

audit: .venv/dev  ## known flaws in what is locked: by our list of advisories, and by pip-audit where its service answers
	@$(PYTHON) -m venv .venv/audit && .venv/audit/bin/pip install -q pip-audit || true
	$(BIN)/python deploy/locks/audit.py .venv/audit/bin/pip-audit

lock:  ## resolve the lock files again
	$(PYTHON) -m venv .venv/lock && .venv/lock/bin/pip install -q uv
	deploy/locks/resolve .venv/lock/bin/uv

clean:  ## forget the environment and the caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage htmlcov
