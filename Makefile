# Each target sets up .venv by itself when it is missing or stale.
PYTHON ?= python3
PORT ?= 5000
TESTS ?= not slow and not long
UV ?= $(shell command -v uv)
BIN := .venv/bin
INSTALL = $(if $(UV),$(UV) pip install --python $(BIN)/python,$(BIN)/python -m pip install) --constraint constraints.txt
READY := .venv/.ready
PEERS := .venv/.peers
DOCS := .venv/.docs
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export PYTHONDONTWRITEBYTECODE :=  # pytest keeps what it makes of the tests' asserts: 6 s a worker

ifeq ($(shell test -f $(BIN)/activate && ! grep -qF '$(CURDIR)/.venv' $(BIN)/activate && echo moved),moved)
$(error .venv was made in another folder: remove it with `rm -r .venv`, and run make again)
endif

.PHONY: repro test test-all ui lint setup bench gpu faults coverage docs tutorial models slurm

repro: $(READY)  ## run the pipeline: only what changed runs again
	@ddpm check
	dvc repro
	@ddpm summary

test: $(READY)  ## run the tests, except the slow ones; make test ARGS='tests/variants/schedules'; the slow ones: make test TESTS='slow and not long'
	OMP_NUM_THREADS=1 python -m pytest -n 2 --dist worksteal -m "$(TESTS)" $(ARGS)

test-all: $(DOCS)  ## run all tests: whole pipelines, real kills and long simulations too
	OMP_NUM_THREADS=1 python -m pytest -n 2 --dist worksteal $(ARGS)

RUNS = http://127.0.0.1:$(PORT)/\#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=ddpm
CONNECT = import socket; socket.create_connection(("127.0.0.1", $(PORT)))
ui: $(READY)  ## compare runs in the browser, at the address that is printed last; make ui PORT=5001
	@test ! -e data/model/model.safetensors || ddpm track sync || true  # what a stage had no time to write
	@while sleep 1 && kill -0 $$$$ 2> /dev/null; do \
	    python -c '$(CONNECT)' 2> /dev/null && echo 'your runs: $(RUNS)' && break; \
	done & \
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false exec mlflow ui --workers 1 --host 127.0.0.1 --port $(PORT) \
	    --backend-store-uri sqlite:///mlflow.db --artifacts-destination ./mlartifacts

coverage: $(DOCS)  ## the tests, and which lines they leave out: htmlcov/index.html
	OMP_NUM_THREADS=1 python -m pytest -n 2 --dist worksteal --cov --cov-report=term --cov-report=html

docs: $(DOCS)  ## the documentation with its API reference, as a site that can be searched: site/index.html
	DDPM_TRACKING=off mkdocs build

tutorial: $(DOCS)  ## run docs/tutorial.md as a notebook, docs/tutorial.ipynb: 2 minutes
	jupytext --quiet --to ipynb --set-kernel python3 docs/tutorial.md
	jupyter execute --inplace docs/tutorial.ipynb

# Each in a tree of its own, which leaves params.yaml and data/ here as they are; DVC's cache is shared, so it trains once
MODELS ?= conditional:digits fashion_mnist:fashion_mnist flowers_small:flowers cifar10_small:cifar10
models: $(READY)  ## trained models with their cards, in models/: hours the first time; make models MODELS=conditional:digits
	set -e; for model in $(MODELS); do \
	    test -d .ddpm/models || git worktree add --detach .ddpm/models; \
	    (cd .ddpm/models && dvc cache dir --local $(CURDIR)/.dvc/cache && ddpm preset $${model%:*} --force \
	        && dvc repro && ddpm export --out $(CURDIR)/models/$${model#*:}); \
	    git worktree remove --force .ddpm/models; \
	done

lint: $(READY)  ## style, types, and that imports point down
	ruff check . && ruff format --check . && mypy && lint-imports

bench: $(PEERS)  ## time against other projects, 15 minutes on a quiet machine; make bench ARGS='train --quick'
	python -m tests.benchmarks $(ARGS)

gpu:  ## what only a GPU can show, in 10 minutes: checks, then how long steps take; it installs nothing
	@python -m tests.gpu $(ARGS)

faults: $(READY)  ## kill the pipeline 200 times: hours; make faults ARGS='-k late'
	OMP_NUM_THREADS=1 DDPM_TEST_LIVES=20 python -m pytest -m long tests/base/test_faults.py $(ARGS)

setup: $(READY)  ## the environment, .venv; each target above makes it too
	@echo "setup: .venv is ready; \`source .venv/bin/activate\` puts ddpm and dvc into PATH"

slurm: $(READY)  ## a study on a Slurm cluster of two nodes on this machine, one of which dies: 10 minutes; it needs slurmctld, slurmd and munge
	OMP_NUM_THREADS=1 DDPM_TEST_SLURM=1 python -m pytest -m slurm tests/study/test_slurm.py

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.x")'
	@echo "setup: torch, DVC, MLflow and others, as constraints.txt pins them, into .venv: 2 GB on disk, 5.8 GB where torch"
	@echo "       comes with CUDA; 1 to 5 minutes by the network, once$(if $(UV),, (uv, if it is installed, takes half a minute))"
	@$(PYTHON) -m venv .venv
	@mkdir -p .dvc-site && chmod 700 .dvc-site  # DVC's pickles, in a folder that it would open to everybody
	@$(INSTALL) $(LOCK:%=--constraint %) --editable '.[dev]'
	@dvc config --local core.site_cache_dir '$(CURDIR)/.dvc-site'  # experiments in other folders do not find a relative one
	@touch $(READY)
	@echo "setup: done"

$(DOCS): $(READY)
	$(INSTALL) --editable '.[dev,docs]'
	@touch $(DOCS)

$(PEERS): $(READY)
	$(INSTALL) --editable '.[dev,peers]'
	@touch $(PEERS)
