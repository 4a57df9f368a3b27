# Everything sets itself up: the first target that needs it makes .venv from the lock file.

# The first Python that runs, is new enough and can make an environment.
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	"$$name" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo "$$name" && break; done)
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help demo run test chromium check format bench lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## ring a real service by Telegram, webhook and cron, and show the answers
	@$(BIN)/ringback demo

run: $(READY) ## keep a service running on config.example.toml
	@$(BIN)/ringback serve --config config.example.toml

test: $(READY) chromium ## run every test, on SQLite and PostgreSQL, in a real browser
	@$(BIN)/python -m compileall -q service handlers # hundreds of processes start from it
	@$(BIN)/python -m pytest -n 3 --dist worksteal

chromium: $(READY) ## find Chromium for the tests; as root on Debian install it
	@$(BIN)/python -m tests.browser.install

check: $(READY) ## format, lint, types, import layers, documents
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/python -m mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m pytest -q tests/test_docs.py

format: $(READY) ## rewrite the code in the project's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(READY) ## measure speed and memory beside their floors
	@$(BIN)/python -m bench

lock: ## pin the dependencies anew (needs uv)
	@uv pip compile --universal --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 pyproject.toml --all-extras --group dev -o requirements.lock

clean: ## remove everything that was set up
	@rm -rf .venv .hypothesis .mypy_cache .ruff_cache .import_linter_cache

# The project itself is not installed but put on the path, which needs no build.
$(READY): requirements.lock pyproject.toml
	@[ -n "$(PYTHON)" ] || { echo "Needed: Python 3.11 or newer, with venv (Debian: apt-get install" \
		"python3-venv). If it has another name: make PYTHON=/path/to/python"; exit 1; }
	@echo "Setting up .venv from requirements.lock with $(PYTHON) ..."
	@"$(PYTHON)" -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input \
		--require-hashes --requirement requirements.lock
	@$(BIN)/python -c 'import pathlib, sysconfig; \
		pathlib.Path(sysconfig.get_path("purelib"), "ringback.pth").write_text("$(CURDIR)\n")'
	@printf '%s\n' '#!/bin/sh' \
		'exec "$$(dirname "$$(readlink -f "$$0")")/python" -P -m service "$$@"' > $(BIN)/ringback
	@chmod +x $(BIN)/ringback
	@touch $(READY)
