# Two commands matter: 'make book' and 'make test'. Each sets itself up first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
UV     := uv==0.13.9
MARK   ?=
# Other programs that results are checked against, each in an environment of its own.
PEERS  := peer crate cff
SHELL  := /bin/bash
export PYTHONDONTWRITEBYTECODE =
# One thread keeps sums in one order.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help env book archive test bench wheel check format clean lock

help:  ## list the verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(READY)  ## create .venv and install the locked packages

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "make: $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo missing); wanted Python 3.11 or newer, for example make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -m venv --clear $(VENV) >/dev/null 2>&1 || \
	  { echo "make: $(PYTHON) cannot create a virtual environment; on Debian and Ubuntu install python3-venv" >&2; exit 2; }
	@echo "installing the locked packages into $(VENV)"
	@{ $(BIN)/python -m pip install --quiet --disable-pip-version-check $(UV) && \
	   $(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock && \
	   $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --compile-bytecode -e . ; } >$(VENV)/install.log 2>&1 || \
	  { echo "make: the package registry did not give the locked packages (details: $(VENV)/install.log); check the network and try again" >&2; exit 2; }
	@touch $@

book: env  ## execute stale notebooks, compare with the archive, render the report
	@$(BIN)/pimllm book --jobs 2

archive: env  ## execute all notebooks and renew the archive under data/, on purpose
	@$(BIN)/pimllm run all --jobs 2 --archive

test: env  ## run the tests (MARK=peer: against other programs; MARK=browser: the rendered book; MARK=slow: faults, wheel, twin builds; MARK=distributed: Dask)
	@if [ "$(MARK)" = peer ]; then $(MAKE) -s --no-print-directory $(PEERS:%=$(VENV)-%/.ready); fi
	@if [ -n "$(filter browser distributed,$(MARK))" ]; then \
	  $(BIN)/uv pip install --no-config --quiet --python $(BIN)/python --require-hashes -r requirements-$(MARK).lock; fi
	@$(BIN)/python -m pytest $(if $(MARK),-m $(MARK))

$(VENV)-%/.ready: requirements-%.lock | $(READY)
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)-$*
	@$(BIN)/uv pip sync --quiet --python $(VENV)-$*/bin/python --require-hashes requirements-$*.lock
	@touch $@

bench: env $(VENV)-peer/.ready  ## measure speed as ratios within one run
	@$(BIN)/python -m compileall -q pimllm_lib
	@$(BIN)/python -m benchmarks

wheel: env  ## build dist/*.whl, which carries the notebooks
	@$(BIN)/python -m hatchling build -t wheel

check: env  ## lint, formatting, types, spelling
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/codespell

format: env  ## put code into the house format
	@$(BIN)/ruff check --fix-only --quiet . && $(BIN)/ruff format --quiet .

clean:  ## remove everything that can be made again
	@rm -rf $(VENV) $(PEERS:%=$(VENV)-%) executed build book/_build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

lock: env  # renew the locks, for maintainers
	@$(BIN)/uv pip compile -q pyproject.toml --upgrade --extra book --extra dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -o requirements.lock
	@$(BIN)/uv pip compile -q pyproject.toml --upgrade --extra distributed -c requirements.lock --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -o requirements-distributed.lock
	@for name in browser $(PEERS); do $(BIN)/uv pip compile -q --upgrade --group $$name --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -o requirements-$$name.lock; done
