# Everything a contributor runs. `make help` lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
BIN := .venv/bin
COMPILE := $(BIN)/uv pip compile --quiet pyproject.toml --generate-hashes --no-emit-index-url --no-emit-package torch
DEMO := PYTHONPATH=examples $(BIN)/python -m demo
PACKAGES := operator/neuron_operator runtime/neuron_runtime localcluster/neuron_localcluster

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: doctor
doctor: ## Check this machine, and name the package to install for each thing missing
	@$(PYTHON) scripts/doctor.py

.PHONY: setup
setup: ## Make .venv from the locked requirements
	@$(PYTHON) scripts/environment.py

# What only ends things must not first fetch what has changed since they were started. Written once all is installed.
.venv/.neuron-operator.json:
	@$(PYTHON) scripts/environment.py

.PHONY: binaries
binaries: setup
	@$(BIN)/python scripts/binaries.py

.PHONY: demo
demo: setup ## Compile and serve a model on a local cluster (DETACH=1 leaves it running in the background)
	@$(DEMO) up $(if $(filter 1,$(DETACH)),--detach)

.PHONY: demo-down
demo-down: .venv/.neuron-operator.json ## End the demo's processes and keep its data (PURGE=1 deletes it)
	@$(DEMO) down $(if $(filter 1,$(PURGE)),--purge)

.PHONY: picture
picture: setup ## Run the demo, and draw what it leaves on the terminal for the README
	@$(DEMO).picture docs/demo.svg

.PHONY: test
test: binaries lint types drift ## Lint, types, import contracts, drift, and all tests but the slow ones
	@$(BIN)/pytest -m "not slow and not faults" tests

.PHONY: e2e
e2e: binaries ## The slow end-to-end tests, with the real model
	@$(BIN)/pytest -m slow tests

.PHONY: faults
faults: binaries ## Many lives of models under faults (SEEDS=50 tries more schedules, FIRST_SEED=51 goes on from there)
	@SEEDS=$(or $(SEEDS),10) FIRST_SEED=$(or $(FIRST_SEED),1) $(BIN)/pytest -o timeout=7200 tests/faults

.PHONY: bench
bench: setup ## Measure serving against transformers and the bandwidth of memory (MODEL=tiny takes a minute or two)
	@PYTHONPATH=bench $(BIN)/python -m serving --model $(or $(MODEL),smollm2) \
		$(if $(LLAMA_CPP),--llama-cpp $(LLAMA_CPP)) $(if $(VLLM),--vllm $(VLLM))

.PHONY: bench-quantization
bench-quantization: setup ## Measure int8 weights against float32: speed, size, perplexity (MODEL=tiny: does it work)
	@PYTHONPATH=bench $(BIN)/python -m quantization --model $(or $(MODEL),smollm2)

.PHONY: bench-compile
bench-compile: setup ## Measure where the time of a compilation goes (MODEL=tiny takes a minute)
	@PYTHONPATH=bench $(BIN)/python -m compile --model $(or $(MODEL),smollm2)

.PHONY: bench-startup
bench-startup: setup ## Measure how soon twenty servers are ready, and their memory (MODEL=tiny for the small one)
	@PYTHONPATH=bench $(BIN)/python -m startup --model $(or $(MODEL),smollm2)

.PHONY: bench-operator
bench-operator: binaries ## Measure the control loop against a real API server, with kopf-style handlers (MODELS=1000)
	@PYTHONPATH=bench/operator $(BIN)/python -m control_loop --models $(or $(MODELS),1000) --mode $(or $(MODE),simulated)

.PHONY: lint
lint: setup ## Lint, formatting and import contracts
	@$(BIN)/ruff check --no-cache .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

.PHONY: types
types: setup ## Type-check; the runtime also as Python 3.10, which the Neuron images hold
	@$(BIN)/mypy $(PACKAGES) examples/demo scripts bench/quantization bench/serving bench/store bench/compile bench/startup \
		bench/operator/control_loop
	@$(BIN)/mypy --python-version 3.10 runtime/neuron_runtime

.PHONY: generate
generate: setup ## Write the CRD and the chart's copy from the models
	@$(BIN)/python -m neuron_operator.api.crd

.PHONY: drift
drift: setup
	@$(BIN)/python -m neuron_operator.api.crd --check

.PHONY: chart
chart: binaries ## Lint the chart with helm, and test it
	@$(BIN)/pytest tests/chart

.PHONY: lock
lock: setup ## Resolve the requirements anew, as far as the present pins allow; UPGRADE=1 takes the newest
	@$(COMPILE) $(if $(filter 1,$(UPGRADE)),--upgrade) --extra dev --python-version 3.11 -o requirements/dev.txt
	@# A present output file is a preference: so images get the tested versions wherever their Python allows.
	@cp requirements/dev.txt requirements/operator.txt
	@$(COMPILE) --extra operator --python-version 3.11 -o requirements/operator.txt
	@cp requirements/dev.txt requirements/runtime.txt
	@$(COMPILE) --extra runtime --python-version 3.10 -o requirements/runtime.txt
