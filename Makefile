# `make run` and `make test` set everything up themselves, into .venv, once: a second call starts at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# The one version that bundles are verified against. Installed alone and first, so that nothing swaps its build.
TORCH := torch==2.13.0
# For instance TORCH_ARGS="--index-url ..." to take PyTorch's CPU build where pip would fetch the CUDA one.
TORCH_ARGS ?=
PACKAGES := engine gcavt trt_build training clients tests

.PHONY: help run test check bench clean
.DEFAULT_GOAL := help

help: ## say what can be done
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

run: $(VENV)/.base ## set up, then serve the avatar on http://127.0.0.1:8080 (ARGS="--port 9000" ...)
	$(BIN)/gcavt serve $(ARGS)

test: $(VENV)/.full ## set up with everything, then run the tests (ARGS="-k mailbox" ...)
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.full ## lint, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict $(PACKAGES)

bench: $(VENV)/.base ## measure the live path: milliseconds per stage, frames per second
	$(BIN)/gcavt bench live $(ARGS)

clean: ## remove .venv and the caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache *.egg-info build

$(BIN)/python:
	@PYTHON="$(PYTHON)" scripts/system-packages run
	@echo "Making $(VENV)"
	@"$(PYTHON)" -m venv $(VENV)

$(VENV)/.base: pyproject.toml scripts/system-packages | $(BIN)/python
	@PYTHON="$(PYTHON)" scripts/system-packages run
	@echo "Installing the engine into $(VENV) (about a minute)"
	@$(PIP) install --editable .
	@touch $@

$(VENV)/.full: pyproject.toml scripts/system-packages | $(BIN)/python
	@PYTHON="$(PYTHON)" scripts/system-packages test
	@echo "Installing PyTorch into $(VENV)"
	@$(PIP) install $(TORCH_ARGS) $(TORCH)
	@echo "Installing the engine, the trainer and the tests' tools into $(VENV) (a few minutes)"
	@$(PIP) install --editable ".[train,dev,desktop]"
	@touch $@ $(VENV)/.base
