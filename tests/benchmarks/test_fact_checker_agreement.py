"""The agreement figures against values worked by hand, and the script on a small labelled file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.fact_checker_agreement import (
    Labelled,
    auroc,
    balanced_accuracy,
    main,
    measure,
    parse_args,
    share,
    spearman,
    stratified_auroc,
)
from evaluation.stats import wilson_interval
from script_io.csv_files import write_csv
from script_io.errors import InputError
from script_io.files import read_json

COLUMNS = ("id", "dialogue", "clinical_note", "model_summary", "has_hallucination", "factual_precision")


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


def test_precision_of_summaries_and_of_single_flags_by_hand() -> None:
    """Flagged: 2 of 3 summaries are hallucinated; flags: 3 + 1 of 6 stand on them."""
    data = Labelled(
        score=array(3, 1, 2, 0),
        flags=array(3, 1, 2, 0),
        label=array(1, 1, 0, 0),
        words=array(9, 9, 9, 9),
        imprecision=array(0.5, 0.5, 0, 0),
        group=np.array(["a", "b", "c", "d"]),
    )
    figures = measure(data, resamples=20, seed=1)
    assert figures["precision_of_flagged_summaries"]["value"] == round(2 / 3, 4)
    assert figures["precision_of_single_flags"]["value"] == round(4 / 6, 4)
    assert (figures["sensitivity"]["value"], figures["specificity"]["value"]) == (1, 0.5)


def test_what_cannot_be_measured_is_left_out() -> None:
    assert np.isnan(share(array(0, 0), array(0, 0)))
    assert np.isnan(spearman(array(1, 2), array(np.nan, np.nan)))
    assert spearman(array(1, 2, 9), array(0.1, 0.2, np.nan)) == pytest.approx(1)


def test_intervals_resample_groups() -> None:
    """Drawn together, the summaries of a right and of a wrong note leave half of the flags right in every sample.

    That shows no spread, so the interval is then Wilson's for one of two notes.
    """
    flags, label = array(1, 1, 1, 1), array(1, 1, 0, 0)
    intervals = [
        measure(Labelled(flags, flags, label, flags, label, np.array(names)), 200, 1)["precision_of_single_flags"][
            "ci95"
        ]
        for names in (["a", "a", "b", "b"], ["a", "b", "c", "d"])
    ]
    assert intervals == [[0.0945, 0.9055], [0.25, 0.75]]


def test_a_checker_without_a_mistake_is_not_certain_to_make_none() -> None:
    """Eight summaries of four notes: Wilson's interval of 4 of 4, and of 2 of 2 for the two notes with errors."""
    label = array(1, 1, 0, 0, 1, 0, 0, 0)
    notes = np.array(["a", "a", "b", "b", "c", "c", "d", "d"])
    data = Labelled(label, label, label, array(*range(8)), 1 - label, notes)
    figures = measure(data, 100, 1)
    low = {n: round(wilson_interval(n, n)[0], 4) for n in (2, 3)}
    assert figures["sensitivity"] == {"value": 1.0, "ci95": [low[2], 1.0]}
    assert figures["precision_of_flagged_summaries"]["ci95"] == [low[2], 1.0]
    assert figures["specificity"]["ci95"] == [low[3], 1.0]  # b, c and d have a summary without an error
    assert figures["auroc"]["ci95"] == [low[2], 1.0]  # of the rarer class


def labelled_rows(count: int) -> list[dict[str, Any]]:
    """Two summaries a note; the second states another dose."""
    rows = []
    for i in range(count):
        dose, wrong = 100 * (i // 2 + 1), i % 2
        note = f"Takes metformin {dose} mg twice daily."
        cells = (f"s{i}", f"d{i // 2}", note, f"Metformin {dose + wrong} mg.", wrong, 1 - 0.5 * wrong)
        rows.append(dict(zip(COLUMNS, cells, strict=True)))
    return rows


def test_script_measures_a_labelled_file(tmp_path: Path) -> None:
    rows = labelled_rows(8)
    # the people overlooked one wrong dose, and marked a text that is right by the note
    rows += [
        rows[1] | {"id": "overlooked <b>", "has_hallucination": 0, "factual_precision": ""},
        rows[0] | {"id": "marked", "has_hallucination": 1, "factual_precision": ""},
    ]
    write_csv(tmp_path / "labels.csv", COLUMNS, rows)
    flags = ["--labels", str(tmp_path / "labels.csv"), "--group_column", "dialogue", "--resamples", "50"]
    assert main(parse_args([*flags, "--output_dir", str(tmp_path / "out")])) == 0
    found = read_json(tmp_path / "out" / "fact_checker_agreement.json")
    assert (found["n"], found["groups"], found["hallucinated"], found["flagged"], found["flags"]) == (10, 4, 5, 5, 5)
    figures = found["figures"]
    assert (figures["sensitivity"]["value"], figures["specificity"]["value"]) == (0.8, 0.8)
    assert figures["precision_of_single_flags"]["value"] == 0.8
    assert figures["spearman_with_imprecision"]["value"] == 1
    assert found["flags_by_type"] == [{"type": "dose", "verdict": "contradicted", "flags": 5, "on_hallucinated": 4}]
    assert str(tmp_path) not in (tmp_path / "out" / "fact_checker_agreement.json").read_text(encoding="utf-8")

    page = (tmp_path / "out" / "disagreements.html").read_text(encoding="utf-8")
    alarms, missed = page.split("Flagged, labelled factual (1)")[1].split("Labelled hallucinated, not flagged (1)")
    assert "overlooked &lt;b&gt;" in alarms
    assert '<mark class="flag">101 mg<small>contradicted: dose</small></mark>' in alarms
    assert '<mark class="source">Takes metformin 100 mg twice daily.</mark>' in alarms
    assert "marked" in missed.split("Every flag (5)")[0]
    assert page.split("Every flag (5)")[1].count("<td>dose</td>") == 5


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"has_hallucination": "yes"}, "line 2: has_hallucination is 'yes'; write 0 or 1"),
        ({"factual_precision": "high"}, "line 2: factual_precision is 'high'; write a number"),
        ({"has_hallucination": 1}, "all labels are the same"),
    ],
)
def test_a_file_without_usable_labels_is_refused(tmp_path: Path, cell: dict[str, Any], message: str) -> None:
    write_csv(tmp_path / "labels.csv", COLUMNS, [labelled_rows(2)[0] | cell, labelled_rows(2)[1]])
    with pytest.raises(InputError, match=message):
        main(parse_args(["--labels", str(tmp_path / "labels.csv")]))
