# make run: install into .venv and run the main job.  make test: install and run the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run install test lint types imports check bench nightly docs readme calibrate accuracy clean

run: install
	$(BIN)/twin run scenarios/curtail_80.yaml

install: $(VENV)/installed

# The lock file names every version; the project itself is installed in place.
$(VENV)/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

test: install
	$(BIN)/python -m pytest -n auto

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

imports: install
	$(BIN)/lint-imports

check: lint types imports

bench: install
	$(BIN)/python bench/requests.py
	$(BIN)/python bench/requests.py --all-on
	$(BIN)/python bench/plant.py

nightly: install
	$(BIN)/python -m pytest -m slow
	TWIN_EXAMPLES=random $(BIN)/python -m pytest -n auto tests/test_invariants.py tests/test_prefix_tree.py tests/test_worker.py
	$(BIN)/twin regress scenarios/nightly

# Tables in docs/ that repeat the code, and the editors' schemas.
docs: install
	$(BIN)/python tools/docs_tables.py
	$(BIN)/twin check --write-schemas docs/schemas

# The README's picture and numbers, and the picture of docs/pareto.md, from runs made for them.
readme: install
	$(BIN)/twin run scenarios/curtail_80.yaml --out runs/readme_ladder
	$(BIN)/twin run scenarios/curtail_80.yaml --set control.policy=uniform_cap --out runs/readme_cap
	$(BIN)/python tools/readme.py runs/readme_ladder runs/readme_cap
	$(BIN)/twin pareto scenarios/pareto_r1.yaml --out studies/readme_pareto
	cp studies/readme_pareto/pareto.svg docs/images/pareto_r1.svg

# The backends of the catalogue and docs/accuracy.md, from measurements that are not part of the project.
DATA ?= ../shared/data
calibrate: install
	$(BIN)/python tools/calibrate.py $(DATA)

accuracy: install
	$(BIN)/python tools/accuracy.py $(DATA)

clean:
	rm -rf $(VENV) runs studies build *.egg-info
