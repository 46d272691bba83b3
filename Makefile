# Two commands matter: 'make book' and 'make test'. Each sets itself up first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
UV     := uv==0.13.9
LOCKING := $(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --custom-compile-command "make lock"
MARK   ?=
# A mark beside which the slow ones, and those of a cluster, have marks of their own.
ASKED  = $(MARK:adversity=adversity and not slow and not distributed)
# Tests side by side, for those that share nothing: a process for each core.
BESIDE := -n auto --maxprocesses 8 --dist worksteal
# Other programs that results are checked against, each in an environment of its own.
PEERS  := peer scalesim3 badcrossbar crate cff gguf
# aihwkit has wheels for some Pythons on Linux only; nothing where this is none of them.
AIHWKIT = $(shell $(BIN)/python -c 'import platform, sys; print("$(VENV)-aihwkit/.ready" * \
  (sys.version_info < (3, 14) and (sys.platform, platform.machine()) == ("linux", "x86_64")))')
SHELL  := /bin/bash
export PYTHONDONTWRITEBYTECODE =
# A Python that is named is the one that is used: environments of another are made again.
ifneq ($(origin PYTHON),file)
ANOTHER := $(shell [ "$$($(BIN)/python -VV 2>&1)" = "$$($(PYTHON) -VV 2>&1)" ] || echo another)
endif
# One thread keeps sums in one order.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help env book pdf archive test train bench wheel check format clean lock another

help:  ## list the verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(READY)  ## create .venv and install the locked packages

$(READY): requirements.lock pyproject.toml $(ANOTHER)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "make: $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo missing); wanted Python 3.11 or newer, for example make PYTHON=python3.12" >&2; exit 2; }
	@$(if $(ANOTHER),rm -f $(VENV)-*/.ready)
	@$(PYTHON) -m venv --clear $(VENV) >/dev/null 2>&1 || \
	  { echo "make: $(PYTHON) cannot create a virtual environment; on Debian and Ubuntu install python3-venv" >&2; exit 2; }
	@echo "installing the locked packages into $(VENV), for $$($(BIN)/python -V)"
	@{ $(BIN)/python -m pip install --quiet --disable-pip-version-check $(UV) && \
	   $(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock && \
	   $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --compile-bytecode -e . ; } >$(VENV)/install.log 2>&1 || \
	  { echo "make: the package registry did not give the locked packages (details: $(VENV)/install.log); check the network and try again" >&2; exit 2; }
	@touch $@

book: env  ## execute stale notebooks, compare with the archive, render the report
	@$(BIN)/pimllm book --jobs 2

pdf: env  ## the same, and print the book as one PDF with Chromium
	@$(BIN)/uv pip install --no-config --quiet --python $(BIN)/python --require-hashes -r requirements-pdf.lock
	@$(BIN)/pimllm book --jobs 2 --pdf

archive: env  ## execute all notebooks and renew the archive under data/, on purpose
	@$(BIN)/pimllm run all --jobs 2 --archive

test: env  ## run the tests; MARK=NAME runs others: slow adversity kernels pythons packages peer constants browser distributed llamacpp torch
	@if [ "$(MARK)" = peer ]; then $(MAKE) -s --no-print-directory $(PEERS:%=$(VENV)-%/.ready) $(AIHWKIT); fi
	@if [ -n "$(filter browser distributed llamacpp,$(MARK))" ]; then \
	  $(BIN)/uv pip install --no-config --quiet --python $(BIN)/python --require-hashes -r requirements-$(MARK).lock; fi
	@if [ "$(MARK)" = torch ]; then $(MAKE) -s --no-print-directory $(VENV)-torch/.ready; fi
	@$(if $(filter torch,$(MARK)),$(VENV)-torch/bin,$(BIN))/python -m pytest $(if $(MARK),-m "$(ASKED)") $(if $(filter-out slow or adversity kernels,$(MARK)),,$(BESIDE))

train: env $(VENV)-torch/.ready  ## train the language models of the analog engine with PyTorch
	@$(VENV)-torch/bin/pimllm train

$(VENV)-%/.ready: requirements-%.lock | $(READY)
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)-$*
	@$(BIN)/uv pip sync --quiet --python $(VENV)-$*/bin/python --require-hashes requirements-$*.lock
	@touch $@

# PyTorch is outside the locks: pip takes whichever build of this version its own settings name, CPU or GPU, and
# no two builds share a hash. So the library that loads BitNet is locked without it.
$(VENV)-torch/.ready: requirements.lock requirements-hf.lock requirements-fast.lock pyproject.toml | $(READY)
	@$(BIN)/python -m venv --clear $(VENV)-torch
	@echo "installing PyTorch and the locked packages into $(VENV)-torch"
	@{ $(BIN)/uv pip install --no-config --quiet --python $(VENV)-torch/bin/python --require-hashes -r requirements.lock && \
	   $(VENV)-torch/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 && \
	   $(BIN)/uv pip install --no-config --quiet --python $(VENV)-torch/bin/python --no-deps --require-hashes -r requirements-hf.lock \
	     -r requirements-fast.lock && \
	   $(BIN)/uv pip install --quiet --python $(VENV)-torch/bin/python --no-deps --no-build-isolation -e . ; } >$(VENV)-torch/install.log 2>&1 || \
	  { echo "make: PyTorch or the locked packages beside it did not install (details: $(VENV)-torch/install.log)" >&2; exit 2; }
	@touch $@

# The lock leaves out what aihwkit's compiled tile, trainings and downloads ask for: its torch tile needs none of it.
$(VENV)-aihwkit/.ready: requirements-aihwkit.lock | $(READY)
	@$(BIN)/python -m venv --clear $(VENV)-aihwkit
	@echo "installing PyTorch and aihwkit into $(VENV)-aihwkit"
	@{ $(VENV)-aihwkit/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 && \
	   $(BIN)/uv pip install --no-config --quiet --python $(VENV)-aihwkit/bin/python --no-deps --require-hashes \
	     -r requirements-aihwkit.lock ; } >$(VENV)-aihwkit/install.log 2>&1 || \
	  { echo "make: PyTorch or aihwkit did not install (details: $(VENV)-aihwkit/install.log)" >&2; exit 2; }
	@touch $@

bench: env $(VENV)-peer/.ready $(VENV)-fast/.ready  ## measure speed as ratios within one run
	@$(if $(AIHWKIT),$(MAKE) -s --no-print-directory $(AIHWKIT))
	@$(BIN)/python -m compileall -q pimllm_lib
	@$(BIN)/python -m benchmarks

wheel: env  ## build dist/*.whl, which carries the notebooks
	@$(BIN)/python -m hatchling build -t wheel

check: env  ## lint, formatting, types, spelling
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/codespell

format: env  ## put code into the house format
	@$(BIN)/ruff check --fix-only --quiet . && $(BIN)/ruff format --quiet .

clean:  ## remove everything that can be made again
	@rm -rf $(VENV) $(VENV)-* executed build book/_build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

lock: env  # renew the locks, for maintainers
	@$(LOCKING) pyproject.toml --extra book --extra dev -o requirements.lock
	@for name in distributed fast; do \
	  $(LOCKING) pyproject.toml --extra $$name -c requirements.lock -o requirements-$$name.lock; done
	@$(LOCKING) --group llamacpp -c requirements.lock -o requirements-llamacpp.lock
	@$(LOCKING) --group hf -c requirements.lock --override <(echo "torch ; python_version < '3'") -o requirements-hf.lock
	@$(LOCKING) --group aihwkit -c requirements.lock -o requirements-aihwkit.lock --override \
	  <(printf "%s ; python_version < '3'\n" torch torchvision cmake scikit-build scikit-learn pybind11 protobuf requests mypy)
	@$(subst 3.11,3.12,$(LOCKING)) --group constants -o requirements-constants.lock
	@for name in pdf browser $(PEERS); do $(LOCKING) --group $$name -o requirements-$$name.lock \
	  --override <(echo "pycairo ; python_version < '3'"); done  # badcrossbar draws with it, and solves without
