"""The flag `--lexicon_dir`: which scripts have it, and what result files say about the folders."""

import json

import pytest
from repository import SCRIPTS, options, parser_of

from clinical.lexicon_flag import lexicon_settings
from clinical.lexicons import remove_lexicon_dir
from evaluation import evaluate_model
from script_io.csv_files import write_csv

NAMES = "name,group,synonyms\n"
READS_FACTS = {"generate_phase2_data", "judge_completions", "evaluation.evaluate_model", "evaluation.fact_checker"}


def test_every_script_that_reads_facts_takes_word_lists():
    assert {script for script in SCRIPTS if "lexicon_dir" in options(parser_of(script))} >= {
        *READS_FACTS,
        "run_pipeline",
    }


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "names"
    folder.mkdir()
    (folder / "drugs.csv").write_text(NAMES + "zorbaxil,imaginary,\n")
    yield folder
    remove_lexicon_dir(folder)


def test_the_content_of_a_folder_is_recorded(tmp_path, folder):
    assert lexicon_settings([]) is None
    (first,) = lexicon_settings([folder])
    assert first.startswith("names sha256:")
    assert lexicon_settings([folder]) == [first]
    (folder / "drugs.csv").write_text(NAMES + "zorbaxol,imaginary,\n")
    (changed,) = lexicon_settings([folder])
    (folder / "drugs.csv").rename(folder / "symptoms.csv")
    (renamed,) = lexicon_settings([folder])
    assert len({first, changed, renamed}) == 3


def test_an_evaluation_reads_the_names_and_records_them(tmp_path, folder):
    rows = [{"id": "1", "clinical_note": "Started aspirin.", "generated_summary": "Started zorbaxil."}]
    write_csv(tmp_path / "predictions.csv", list(rows[0]), rows)
    rates, settings = [], []
    for flags in ([], ["--lexicon_dir", str(folder)]):
        arguments = ["--predictions", str(tmp_path / "predictions.csv"), "--output_dir", str(tmp_path / "out"), *flags]
        assert evaluate_model.main(evaluate_model.parse_args(arguments)) == 0
        summary = json.loads((tmp_path / "out" / "evaluation_summary.json").read_text())
        rates.append(summary["hallucination_rate"])
        settings.append(summary["lexicons"])
    assert rates == [0, 1]
    assert settings == [None, lexicon_settings([folder])]
