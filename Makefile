# Everything sets itself up: the first target that needs it makes .venv from the lock file.

PYTHON ?= $(firstword $(foreach name,python3.13 python3.12 python3.11 python3,$(shell command -v $(name))))
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help demo run test check format bench lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## ring a real service by Telegram, webhook and cron, and show the answers
	@$(BIN)/ringback demo

run: $(READY) ## keep a service running on config.example.toml
	@$(BIN)/ringback serve --config config.example.toml

test: $(READY) ## run every test, on SQLite and on a real PostgreSQL
	@$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(READY) ## format, lint, types, import layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/python -m mypy
	@$(BIN)/lint-imports --no-logo

format: $(READY) ## rewrite the code in the project's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(READY) ## measure speed and memory beside their floors
	@$(BIN)/python -m bench

lock: ## pin the dependencies anew (needs uv)
	@uv pip compile --universal --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 pyproject.toml --group dev -o requirements.lock

clean: ## remove everything that was set up
	@rm -rf .venv .mypy_cache .ruff_cache .import_linter_cache

$(READY): requirements.lock pyproject.toml
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or newer is needed"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	@"$(PYTHON)" -m venv .venv \
		|| { echo "venv is missing; on Debian: apt-get install python3-venv"; exit 1; }
	@echo "Installing the pinned dependencies into .venv ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input \
		--require-hashes --requirement requirements.lock
	@$(BIN)/python -c 'import pathlib, sysconfig; \
		pathlib.Path(sysconfig.get_path("purelib"), "ringback.pth").write_text("$(CURDIR)\n")'
	@printf '#!/bin/sh\nexec "$$(dirname "$$0")/python" -m service "$$@"\n' > $(BIN)/ringback
	@chmod +x $(BIN)/ringback
	@touch $(READY)
