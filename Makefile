# make demo: the whole chain on the embedded model and data. make test: lint, types, tests.
# make judge: a judge trained on demo/labelled/, in models/judge; downloads a base model with pip, needs half an hour.
# All make .venv and install the tested versions into it. Another Python: make demo PYTHON=python3.12
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo judge test lint types clean

demo: $(INSTALLED)
	$(BIN)/python run_pipeline.py --demo

judge: $(INSTALLED)
	$(BIN)/python -m pip install --quiet gguf
	test -d models/smollm2 || $(BIN)/python -m demo.smollm2 --output_dir models/smollm2
	$(BIN)/python -m judging.train_detector --labels demo/labelled/real_samples.jsonl \
		--base_model models/smollm2 --output_dir models/judge

test: lint types
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy .

$(INSTALLED): requirements_training.txt constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements_training.txt -c constraints.txt
	touch $(INSTALLED)

clean:
	rm -rf .venv runs models phase2_data evaluation_results
