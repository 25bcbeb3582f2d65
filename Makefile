# Every target sets up a virtual environment with pinned dependencies first, and again when they have changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: install demo test check bench soak fuzz mutants lab tunables format lock clean

install: $(READY)

demo: $(READY)
	$(BIN)/cubecast demo

test: $(READY)
	$(BIN)/pytest -n 2 -m "not system" --cov --cov-report=term:skip-covered
	$(BIN)/pytest -m system

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell
	$(BIN)/deptry src
	$(PYTHON) .ci/limits.py
	$(PYTHON) .ci/architecture.py

# Every benchmark, judged by its bars: some minutes.
bench: $(READY)
	$(BIN)/cubecast bench relay
	$(BIN)/cubecast bench lab
	$(BIN)/cubecast bench extensions
	$(BIN)/cubecast bench ipc
	$(BIN)/cubecast bench directory

# Faults on real processes, the simulation over many seeds, and admissions against an exact search, judged by their bars: hours.
soak: $(READY)
	$(BIN)/pytest -n 2 -m "not system" --hypothesis-profile=explore
	$(BIN)/python trials/admission.py
	$(BIN)/python trials/soak.py

# How long `make fuzz` looks for bytes and messages that break a law, in minutes.
MINUTES ?= 10

# Hostile input for every parser and both engines, mutated extensions, and WebAssembly's test suite in the sandbox.
fuzz: $(READY)
	$(BIN)/python trials/fuzz_laws.py --minutes $(MINUTES)
	$(BIN)/python trials/fuzz.py
	$(BIN)/python trials/spec_suite.py

# Small changes of the overlay and the engine against their tests: hours. What is done is kept in lab-results/.
mutants: $(READY)
	$(BIN)/python trials/mutants.py --sample 300 --seed 7 --jobs 2

# Runs every experiment and writes the pages of docs/lab from the results.
lab: $(READY)
	$(BIN)/cubecast lab run all
	$(BIN)/cubecast lab pages --output docs/lab

# Writes the tables of docs/tunables.md from the code of the engines' configurations.
tunables: $(READY)
	$(BIN)/python -m cubecast.simulation.tunables docs/tunables.md

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# To be run after a change of dependencies in pyproject.toml. The lock holds names, extras, versions and hashes of all that
# is installed, so that nothing is left to resolve; tests/test_lock.py checks that.
lock: $(READY)
	$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-header --no-annotate --no-strip-extras --python-version 3.11 \
		--universal --extra dev --extra lab pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis .coverage

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "cubecast needs Python 3.11 or newer; call make PYTHON=python3.11"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "no virtual environment: install it with: apt-get install python3-venv"; exit 2; }
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m pip check --disable-pip-version-check >$(VENV)/check.txt || { cat $(VENV)/check.txt; exit 2; }
	@touch $(READY)
