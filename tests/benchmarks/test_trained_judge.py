"""The figures of a trained judge on summaries whose truth is known by construction."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import trained_judge
from benchmarks.trained_judge_pairs import measure_pairs, measure_repairs
from fact_checking.checker import check_summary
from judging.combination import fold_of
from judging.detector_settings import Prediction
from judging.word_scores import WordScore

WRONG, RIGHT = "Chest pain with fever.", "Chest pain at rest."  # "fever" is the only unsupported word


def predictions(count: int) -> list[Prediction]:
    """Two summaries of each of `count` notes, with a detector that is always right."""
    found = []
    for number in range(count):
        note = f"Patient {number} has chest pain at rest."
        for summary, spans in ((RIGHT, ()), (WRONG, ((16, 21),))):
            score = 0.9 if spans else 0.05
            words = (WordScore(0, 5, 0.05), WordScore(16, 21, score)) if spans else (WordScore(0, 5, 0.05),)
            found.append(Prediction(note, summary, bool(spans), spans, words, score))
    return found


def test_a_perfect_detector_makes_perfect_pairs(tmp_path: Path) -> None:
    known = predictions(60)
    rows = [
        {
            "clinical_note": each.note,
            "generated_summary": each.summary,
            "reference_summary": RIGHT,
            "is_reference": False,
        }
        for each in known
    ]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    checks = [check_summary(each.note, each.summary) for each in known]
    perfect = np.array([0.9 if each.has_error else 0.1 for each in known]) + np.linspace(0, 0.05, len(known))
    found = measure_pairs(tmp_path / "labels.jsonl", known, checks, perfect)
    assert found["outcomes"].get("pair", 0) == found["pairs"] > 40
    assert (found["chosen_false"]["count"], found["rejected_true"]["count"]) == (0, 0)
    upside_down = measure_pairs(tmp_path / "labels.jsonl", known, checks, 1 - perfect)
    assert upside_down["pairs"] == 0  # no limit on the other folds is sure enough


def test_repairs_with_a_detector_that_is_right_and_one_that_is_wrong(tmp_path: Path) -> None:
    known = predictions(60)
    rows = [{"clinical_note": each.note, "generated_summary": each.summary, "is_reference": False} for each in known]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    checks = [check_summary(each.note, each.summary) for each in known]
    found = measure_repairs(tmp_path / "labels.jsonl", known, checks)
    assert (found["prompts"], found["pairs"]) == (60, 60)
    assert found["false_sentences_in_chosen"] == {"fewer": 60}
    assert (found["exchanged"], found["exchanged_sound_false"], found["exchanged_flawed_false"]) == (60, 0, 60)
    assert found["words_chosen_to_rejected"] == 1.0
    # the same words and doubts, but the other summary is marked
    swapped = [replace(each, spans=() if each.spans else ((0, 5),)) for each in known]
    assert measure_repairs(tmp_path / "labels.jsonl", swapped, checks)["false_sentences_in_chosen"] == {"more": 60}


def test_words_are_marked_at_a_threshold_of_other_dialogues() -> None:
    """The unsupported words of one fold have 0.5, of the others 0.9, where one supported word has 0.6.

    On the others alone 0.65 is best, which finds nothing of that fold. On all words together, its own words would
    make 0.1 the best.
    """
    known = predictions(40)
    own = fold_of(known[0].note)
    scores = [0.5 if fold_of(each.note) == own else 0.9 for each in known]
    known = [
        replace(each, words=(each.words[0], replace(each.words[1], score=score))) if each.has_error else each
        for each, score in zip(known, scores, strict=True)
    ]
    place = next(n for n, each in enumerate(known) if fold_of(each.note) != own and not each.has_error)
    known[place] = replace(known[place], words=(replace(known[place].words[0], score=0.6),))
    found = trained_judge.stretches(known, [check_summary(each.note, each.summary) for each in known])
    assert found["stretches"] == 40
    assert found["overlapped"] == sum(fold_of(each.note) != own for each in known) // 2 < 40
    assert sorted(set(found["word_thresholds"])) == [0.1, 0.65]


def test_the_scores_of_another_detector_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two detectors, told apart by their weights, share --cache; the second is asked as well, the first once."""
    asked = []

    class Words:
        def __init__(self, folder: Path, device: str) -> None:
            self.folder = folder

        def score(self, pairs: list[tuple[str, str]], progress: str) -> list[tuple[list[WordScore], float]]:
            asked.append(self.folder.name)
            return [([WordScore(0, 5, 0.5)], 0.25 if self.folder.name == "a" else 0.75) for _ in pairs]

    monkeypatch.setattr("judging.detector.WordDetector", Words)
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text("{}")
        (tmp_path / name / "detector_head.safetensors").write_text(name)
        (tmp_path / name / "detector.json").write_text(json.dumps({"passes": 1}))
    rows = [{"clinical_note": "A note.", "generated_summary": "Chest pain.", "has_error": False, "spans": None}]
    found = [trained_judge.score_rows(rows, tmp_path / name, tmp_path, "read", "cpu") for name in "aba"]
    assert [each[0].summary_probability for each in found] == [0.25, 0.75, 0.25]
    assert asked == ["a", "b"]


def test_the_script_prints_and_writes_the_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {
            "clinical_note": each.note,
            "generated_summary": each.summary,
            "has_error": each.has_error,
            "spans": each.spans,
            "words": [(word.start, word.end, word.score) for word in each.words],
            "summary_probability": each.summary_probability,
        }
        for each in predictions(20)
    ]
    (tmp_path / "out_of_fold.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["--judge_model", str(tmp_path), "--resamples", "5", "--output", str(tmp_path / "figures.json")]
    assert trained_judge.main(trained_judge.parse_args(command)) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())["real samples"]
    assert (figures["n"], figures["notes"], figures["with_error"]) == (40, 20, 20)
    assert figures["figures"]["detector"]["auroc"]["value"] == 1.0
    assert figures["stretches"]["overlapped"] == figures["stretches"]["stretches"] == 20
    assert "rules and detector" in capsys.readouterr().out
