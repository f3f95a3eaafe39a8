# make demo   from scratch, frozen, LoRA and full over three seeds on bundled data: intervals, page, slides, predictions
# make test   the quick tests, as CI runs them
# make slow   what takes longer: kills at random moments, real data
# make bench  Burnish beside Trainer, TRL and pipelines, in turns: make bench DATA=folder of data sets
# make predictions  what burnish plan foretells beside what comes, for 18 recipes: docs/predictions.md
# make lint   style and types

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: demo test slow bench predictions lint setup clean

setup: .venv/.ready

# torch first and by its exact pin, so that nothing else chooses another build.
.venv/.ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Burnish needs Python 3.11 or newer: make PYTHON=/path/to/python" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: setup
	@$(BIN)/burnish compare recipes/demo/*.yaml --baseline full --seeds 3 --processes 2 -o runs/demo
	@$(BIN)/burnish report runs/demo --slides
	@echo
	@printf '%s\n' "It has been two weeks and still no parcel." "I was charged twice for one candle." "Do the garden shears suit left-handed people?" \
	  | $(BIN)/burnish predict runs/demo/runs/full/seed-0 --table

# As many processes as cores, of one thread each: models of tests are too small for more.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto

slow: setup
	$(BIN)/python -m pytest -m slow

bench: setup
	@test -n "$(DATA)" || { echo "make bench DATA=FOLDER, a folder of data sets (see benchmarks/README.md)"; exit 1; }
	$(BIN)/python benchmarks/speed $(DATA)

predictions: setup
	$(BIN)/python benchmarks/predictions.py --again

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv dist build
