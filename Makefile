# make demo   from scratch, frozen, LoRA and full over three seeds on bundled data: intervals, page, slides, predictions
# make test   the quick tests, as CI runs them
# make slow   what takes longer: kills at random moments, real data
# make bench  Burnish beside Trainer, TRL and pipelines, in turns: make bench DATA=folder of data sets
# make predictions  what burnish plan foretells beside what comes, for 18 recipes: docs/predictions.md
# make lint   style and types

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: demo test slow bench predictions lint setup clean

# Python keeps the byte code of what it imports: pip would compile every file, one at a time, for longer than it takes to install them.
unexport PYTHONDONTWRITEBYTECODE
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile

setup: .venv/.ready

# torch first and by its exact pin, so that nothing else chooses another build. The locks are whole: pip has nothing to resolve.
.venv/.ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Burnish needs Python 3.11 or newer: make PYTHON=/path/to/python" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(INSTALL) "$$(grep '^torch==' requirements.lock)"
	$(INSTALL) --no-deps -r requirements.lock
	$(INSTALL) --no-deps --no-build-isolation --editable .
	touch $@

.venv/.ready-dev: .venv/.ready requirements-dev.lock
	$(INSTALL) --no-deps -r requirements-dev.lock
	touch $@

demo: setup
	@$(BIN)/burnish compare recipes/demo/*.yaml --baseline full --seeds 3 --processes 2 -o runs/demo
	@$(BIN)/burnish report runs/demo --slides
	@echo
	@printf '%s\n' "It has been two weeks and still no parcel." "I was charged twice for one candle." "Do the garden shears suit left-handed people?" \
	  | $(BIN)/burnish predict runs/demo/runs/full/seed-0 --table

# As many processes as cores, of one thread each: models of tests are too small for more.
test: .venv/.ready-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto

slow: .venv/.ready-dev
	$(BIN)/python -m pytest -m slow

bench: .venv/.ready-dev
	@test -n "$(DATA)" || { echo "make bench DATA=FOLDER, a folder of data sets (see benchmarks/README.md)"; exit 1; }
	$(BIN)/python benchmarks/speed $(DATA)

predictions: .venv/.ready-dev
	$(BIN)/python benchmarks/predictions.py --again

lint: .venv/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv dist build
