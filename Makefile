# make demo: the whole chain on the embedded model and data. make test: lint, types, tests.
# make real: the whole chain on SmolLM2-135M and real dialogues, which are downloaded; SIZE=small takes few dialogues,
#   NOTES=FOLDER reads the dialogues there, SEED=43 is another seed (give it a folder of its own with OUTPUT=FOLDER).
# make judge: your own judge, trained on demo/labelled/, in models/own_judge; needs half an hour.
# make fuzz: hostile input for every reader, 10 minutes each; needs Linux. FUZZ_SECONDS=60 is shorter.
# make torture: kill every stage 20 times or more, resume it, and compare its files with an uninterrupted run's.
# All make .venv and install the tested versions into it. Another Python: make demo PYTHON=python3.12
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

SIZE ?= full
SEED ?= 42
NOTES ?=
OUTPUT ?=
FUZZ_SECONDS ?= 600
REAL_TEST := phase1_data/real/test_set_processed.csv

.PHONY: demo real judge test lint types fuzz torture clean

demo: $(INSTALLED)
	$(BIN)/python run_pipeline.py --demo

real: $(INSTALLED)
	$(BIN)/python demo/get_real_model.py
	test -z "$(NOTES)" -a -f $(REAL_TEST) || \
		$(BIN)/python demo/get_real_notes.py --test_tokens 20 700 $(if $(NOTES),--input "$(NOTES)")
	$(BIN)/python run_pipeline.py --real --size $(SIZE) --seed $(SEED) $(if $(OUTPUT),--output_dir "$(OUTPUT)")

judge: $(INSTALLED)
	$(BIN)/python demo/get_real_model.py
	$(BIN)/python -m judging.train_detector --labels demo/labelled/real_samples.jsonl \
		--base_model models/smollm2 --output_dir models/own_judge

test: lint types
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy .

fuzz: $(INSTALLED)
	$(BIN)/python -m pip install --quiet atheris==3.0.0
	$(BIN)/python benchmarks/fuzz.py --seconds $(FUZZ_SECONDS)

torture: $(INSTALLED)
	$(BIN)/python benchmarks/torture.py

$(INSTALLED): requirements_training.txt constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements_training.txt -c constraints.txt
	touch $(INSTALLED)

clean:
	rm -rf .venv runs models phase1_data/real phase2_data evaluation_results
