# Vestry: everything from a fresh checkout needs Python 3.11, 3.12 or 3.13 and make.
#
#   make demo     set up what is missing, then train on four hospitals
#   make test     set up what is missing, then run the whole test suite
#   make check    format, lint, types, layout and documentation, without the test suite
#   make format   rewrite the sources as `make check` wants them
#   make setup    only set up, with everything for development
#   make clean    remove the virtual environment, caches and builds
#
# Another interpreter:  make demo PYTHON=python3.12
# pip's own environment variables apply, for example to take torch from an index of CPU builds.

.POSIX:

PYTHON ?= python3
TEST_WORKERS ?= 2

VENV = .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt
# No telemetry, no look-up of newer versions, from any library.
QUIET = env FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1 RAY_USAGE_STATS_ENABLED=0
# One thread for each process: two on a busy machine make a small step many times slower.
TESTING = $(QUIET) OMP_NUM_THREADS=1

.PHONY: demo test check format setup clean

demo: $(VENV)/.installed-run
	@$(QUIET) $(BIN)/vestry demo

test: $(VENV)/.installed-dev
	@echo "Tests"
	@$(TESTING) $(BIN)/python -m pytest -n $(TEST_WORKERS) --cov --cov-report=term

check: $(VENV)/.installed-dev
	@echo "Format"
	@$(BIN)/ruff format --quiet --check .
	@echo "Lint"
	@$(BIN)/ruff check --quiet .
	@echo "Types"
	@$(BIN)/mypy
	@echo "Layout and documentation"
	@$(QUIET) $(BIN)/python -m pytest -q tests/test_layout.py tests/test_docs.py

format: $(VENV)/.installed-dev
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

setup: $(VENV)/.installed-dev

clean:
	@rm -rf $(VENV) build dist htmlcov .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@rm -f .coverage .coverage.*
	@find privacy strategies server client simulations tests benchmarks examples \
		-name __pycache__ -type d -prune -exec rm -rf {} +

# The environment itself. The version is looked at first, so that nobody reads pip's words for it.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "Vestry needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is not one of them:"; \
		$(PYTHON) --version; \
		echo "Name another one, for example: make demo PYTHON=python3.12"; \
		exit 1; } >&2
	@echo "Creating the virtual environment $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV) || { \
		echo "$(PYTHON) has no venv module; on Debian and Ubuntu it is in the package python3-venv" >&2; \
		exit 1; }
	@touch $@

# torch goes first and alone: a build that is already there, or that the configured index prefers
# (CPU or a certain CUDA), is then kept by the second command, which asks for a range only.
$(VENV)/.installed-run: $(VENV)/.created pyproject.toml constraints.txt
	@echo "Installing torch"
	@$(PIP) torch
	@echo "Installing Vestry"
	@$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-run
	@echo "Installing what the tests and checks need"
	@$(PIP) --editable '.[dev,simulation,benchmarks]'
	@touch $@
