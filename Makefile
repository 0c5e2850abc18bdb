# The front doors. `make help` lists them. `demo` and `test` set up what they need by themselves.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# With a ROS 2 installation the interfaces live in install/, which takes effect by sourcing.
ENTER := $(if $(ROS_DISTRO),source install/setup.bash &&)
BIN := .venv/bin
# NumPy is left one thread: the arrays are small, and the runs are spread over the processors.
CAMPAIGN := $(ENTER) OMP_NUM_THREADS=1 PYTHONPATH=test$${PYTHONPATH:+:$$PYTHONPATH} \
	$(BIN)/python -m faults

# Only the plugins that pyproject.toml names: a sourced ROS 2 brings some that need another pytest.
export PYTEST_DISABLE_PLUGIN_AUTOLOAD := 1
# Every test of a robot starts processes, and each of them would compile the sources again.
unexport PYTHONDONTWRITEBYTECODE
# A Python of ROS wheels that started make would mislead ours about where its libraries are.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE

.PHONY: help setup demo test test-fast coverage lint format bench full-size \
	adversary attack-video faults faults-processes soak mutate clean distclean

help: ## list what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: ## make .venv and build the workspace; a second run does only what changed
	@command -v python3 > /dev/null || { echo "setup: needs python3 (3.11 or 3.12)" >&2; exit 1; }
	@python3 scripts/setup_workspace.py

demo: setup ## two simulated robots, a video of each, and a summary in out/demo
	@$(ENTER) $(BIN)/qwen-vla demo $(DEMO)

test: setup ## all tests; choose some with TEST="test/core -k prompt"
	@$(ENTER) $(BIN)/python scripts/run_tests.py --durations=10 $(TEST)

test-fast: setup ## what needs no ROS and no patience: half a minute
	@$(ENTER) $(BIN)/python scripts/run_tests.py -m "not ros and not slow" $(TEST)

coverage: .venv ## which lines and branches the tests without ROS reach
	@$(ENTER) $(BIN)/pytest --cov --cov-report=term test/core $(TEST)

lint: .venv ## style, types, import contracts, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(ENTER) $(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/codespell

format: .venv ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv ## ours against the usual way, row by row; a table and a plot in out/bench
	@$(ENTER) $(BIN)/python benchmarks/run_all.py $(BENCH)

adversary: .venv ## attack the gates before an independent judge; ADVERSARY="--steps 1000000"
	@$(CAMPAIGN).adversary $(ADVERSARY)

attack-video: .venv ## film the arms under attack, to out/faults/attack.mp4; FILM="--seed 3"
	@$(CAMPAIGN).film $(FILM)

faults: .venv ## inject the fault classes, 300 times each; FAULTS="--runs 20"; see out/faults
	@$(CAMPAIGN).campaign $(FAULTS)

faults-processes: .venv ## kill and freeze real processes in motion; FAULTS="--phases 20"
	@$(CAMPAIGN).processes $(FAULTS)

soak: .venv ## a whole robot at work: memory, files and threads; SOAK="--minutes 30 --robot diffbot_sim"
	@$(CAMPAIGN).soak $(SOAK)

mutate: .venv ## how many small mistakes in safety/ the core's tests notice; MUTATE="--every 10"
	@$(CAMPAIGN).mutate $(MUTATE)

full-size: .venv ## the 4b preset with random weights answers once: memory, time, shape (16 GB)
	@$(ENTER) $(BIN)/python benchmarks/full_size.py $(FULL_SIZE)

clean: ## remove what was built and what was recorded, but not .venv
	rm -rf build install log out .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
	find src test scripts benchmarks -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## remove .venv too
	rm -rf .venv

.venv:
	@echo "There is no .venv yet. Type: make setup" >&2; exit 1
