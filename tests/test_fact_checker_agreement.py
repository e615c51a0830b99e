"""The agreement figures against values worked by hand, and the script on a small labelled file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.fact_checker_agreement import auroc, balanced_accuracy, main, parse_args, stratified_auroc
from script_io import InputError, read_json, write_csv


def array(*values: float) -> np.ndarray:
    return np.array(values, float)


def test_auroc_counts_pairs_and_halves_ties() -> None:
    """Pairs (3,1) (3,2) (2,1) agree, (2,2) is a tie: 3.5 of 4."""
    assert auroc(array(3, 2, 1, 2), array(1, 1, 0, 0)) == pytest.approx(3.5 / 4)


def test_stratified_auroc_of_a_score_that_only_counts_words_is_chance() -> None:
    words = np.repeat(array(10, 20, 30, 40, 50), 4)
    label = np.array([0, 0, 0, 1] * 2 + [0, 1, 0, 1] + [1, 1, 1, 0] * 2, float)
    assert auroc(words, label) > 0.6
    assert stratified_auroc(words, label, words) == pytest.approx(0.5)


def test_balanced_accuracy_by_hand() -> None:
    """Sensitivity 1/2, specificity 3/4."""
    assert balanced_accuracy(array(1, 0, 1, 0, 0, 0), array(1, 1, 0, 0, 0, 0)) == pytest.approx((1 / 2 + 3 / 4) / 2)


def test_script_measures_a_labelled_file(tmp_path: Path) -> None:
    note = "Takes metformin {} mg twice daily."
    columns = ("clinical_note", "model_summary", "has_hallucination", "factual_precision")
    rows = []
    for i in range(8):  # every second summary states another dose
        dose, wrong = 100 * (i + 1), i % 2
        cells = (note.format(dose), f"Metformin {dose + wrong} mg.", wrong, 1 - 0.5 * wrong)
        rows.append(dict(zip(columns, cells, strict=True)))
    write_csv(tmp_path / "labels.csv", columns, rows)
    flags = ["--labelled_csv", str(tmp_path / "labels.csv"), "--resamples", "50"]
    assert main(parse_args([*flags, "--output_file", str(tmp_path / "out.json")])) == 0
    figures = read_json(tmp_path / "out.json")
    assert (figures["n"], figures["groups"]) == (8, 8)
    assert figures["auroc"] == {"value": 1, "ci95": [1, 1]}
    assert figures["balanced_accuracy"]["value"] == 1
    assert figures["spearman_with_imprecision"]["value"] == 1

    write_csv(tmp_path / "labels.csv", columns, rows[::2])
    with pytest.raises(InputError, match="all labels are the same"):
        main(parse_args(flags))
