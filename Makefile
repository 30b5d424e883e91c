# The two commands a newcomer types: make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := constraints/cpu.txt
WORKERS ?= 2

.PHONY: demo browser test test-slow test-all check docs dist format bench embedded clean

demo: $(VENV)/.base  ## set everything up (no torch), then label the example photos
	@echo '$$ toplabel examples/*.jpg -k 3'
	@$(BIN)/toplabel examples/*.jpg -k 3
	@echo
	@echo '$$ toplabel examples/cat.jpg --json -k 2'
	@$(BIN)/toplabel examples/cat.jpg --json -k 2
	@echo
	@echo '$$ toplabel examples/ -o labels.csv --report report.html'
	@cd $(VENV) && bin/toplabel ../examples/ -o labels.csv --report report.html --restart

browser:  ## Chromium, for the tests of pages, from the system's packages where that is allowed
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; } \
		|| echo "no chromium: tests of pages will be skipped"

test: $(VENV)/.dev browser  ## the default tests: under four minutes on two idle cores
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'not slow'

test-slow: $(VENV)/.dev browser  ## what takes longer: every recipe of every zoo, the whole hostile corpus
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m slow

test-all: test test-slow

check: $(VENV)/.dev  ## format, lint, types, the direction of imports, and the structure
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/write_stub.py --check
	$(BIN)/python scripts/write_reference.py --check
	$(BIN)/python scripts/measure_structure.py

docs: $(VENV)/.dev  ## the site, in build/site; a warning is a failure
	PATH="$(BIN):$$PATH" $(BIN)/python scripts/build_site.py

dist: $(VENV)/.dev  ## sdist and wheel, checked, and used in a bare environment
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	$(BIN)/python scripts/check_wheel.py dist

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev  ## measure against the alternatives, write docs/benchmarks.md
	$(BIN)/python -m benchmarks

embedded: $(VENV)/.dev  ## build the embedded model's bundle anew
	$(BIN)/python scripts/build_built_in_bundle.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade 'pip>=25.1'

$(VENV)/.base: $(VENV)/bin/python pyproject.toml
	test -f $(VENV)/.dev || $(BIN)/python -m pip install -q .  # an editable install stays
	@touch $@

# torch first and pinned: otherwise another requirement pulls the CUDA build of several gigabytes
$(VENV)/.dev: $(VENV)/bin/python pyproject.toml $(CONSTRAINTS)
	$(BIN)/python -m pip install -q -c $(CONSTRAINTS) torch
	$(BIN)/python -m pip install -q -c $(CONSTRAINTS) -e '.[all]' --group dev
	@touch $@

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
