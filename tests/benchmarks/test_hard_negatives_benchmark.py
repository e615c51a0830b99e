"""The benchmark of the hard negatives: its patterns, classifiers and spans against cases worked by hand."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn")

from benchmarks.hard_negatives import main, marked, parse_args, soundness
from benchmarks.hard_negatives_leakage import (
    TextPair,
    edit_positions,
    flip_negation,
    folds_by_note,
    held_out_correct,
    longer_is_rejected,
    measure,
    paste_template,
    swap_entity,
    unverified_pairs,
)
from benchmarks.hard_negatives_medec import Pair, changed_span, cover
from benchmarks.hard_negatives_pairs import read_pairs
from benchmarks.hard_negatives_triggers import Summary, triggers_of
from benchmarks.hard_negatives_triggers import measure as measure_yield
from language_model.prompt_format import build_prompt
from script_io.csv_files import write_csv
from script_io.errors import InputError
from script_io.files import read_json, write_jsonl


@pytest.mark.parametrize(
    ("text", "fired"),
    [
        ("Lasix 40 mg.", {"dose", "drug"}),
        ("Takes amoxicillin.", {"drug"}),
        ("Temperature 38.2 degrees, BP 120/80.", {"number with unit"}),
        ("Denies cough.", {"negation"}),
        ("Bilateral swelling for two weeks.", {"side", "duration"}),
        ("A 12-year-old girl.", {"number with unit"}),
        ("Sinusitis.", {"diagnosis"}),
        ("She is married and works in an office.", set()),
    ],
)
def test_triggers(text: str, fired: set[str]) -> None:
    assert triggers_of(text) == fired


def test_yield_by_hand() -> None:
    """Of three summaries with a trigger one yields; of the two sound ones also one."""
    keys = [("train", name) for name in "abcd"]
    texts = ("Takes aspirin.", "Has gout.", "Denies gout.", "Retired.")
    figures = measure_yield([Summary(*pair) for pair in zip(keys, texts, strict=True)], {keys[0]}, {keys[1]})
    assert (figures["with_trigger"]["all"]["n"], figures["with_trigger"]["all"]["share"]) == (3, 0.3333)
    assert (figures["with_trigger"]["sound"]["n"], figures["with_trigger"]["sound"]["share"]) == (2, 0.5)
    assert figures["by_trigger"]["diagnosis"]["all"]["n"] == 2
    assert figures["without_trigger"]["all"] == {"n": 1, "with_negative": 0, "share": 0.0, "ci95": [0.0, 0.7935]}


def pairs_of(count: int, chosen: str, rejected: str) -> list[TextPair]:
    return [TextPair(f"note {i}", chosen.format(i), rejected.format(i)) for i in range(count)]


def test_a_pasted_sentence_gives_a_pair_away_and_a_swap_in_balance_does_not() -> None:
    """What balances over all notes leans the other way in four fifths of them: chance or worse on the rest."""
    assert held_out_correct(pairs_of(40, "Case {}.", "Case {}. Pasted."), "words", 1).sum() == 80
    swaps = [("left", "right"), ("right", "left")] * 20
    balanced = [TextPair(f"note {i}", f"The {old} arm.", f"The {new} arm.") for i, (old, new) in enumerate(swaps)]
    figures = measure(balanced, seed=1)
    assert figures["accuracy_words"]["value"] <= 0.5
    assert figures["accuracy_length"]["value"] <= 0.5
    assert figures["longer_in_words_is_rejected"] == {"value": 0.5, "ci95": [0.5, 0.5]}
    assert figures["longer_in_characters_is_rejected"]["value"] == 0.5


def test_a_note_is_in_one_fold() -> None:
    groups = [f"note {i % 10}" for i in range(30)]
    fold = dict(zip(groups, folds_by_note(groups, 3), strict=True))
    assert list(folds_by_note(groups, 3)) == [fold[group] for group in groups]
    assert sorted(fold.values()) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_longer_text_and_positions_by_hand() -> None:
    assert longer_is_rejected(TextPair("", "ab", "abc"), len) == 1
    assert longer_is_rejected(TextPair("", "abc", "abd"), len) == 0.5
    assert longer_is_rejected(TextPair("", "abc", "ab"), len) == 0
    assert edit_positions([(0, 2, 10), (4, 6, 10), (10, 10, 10), (9, 10, 10)]) == [0.25, 0, 0.25, 0, 0.5]


def test_the_unverified_scheme() -> None:
    rng = random.Random(1)
    assert swap_entity("Takes aspirin.", rng) == "Takes ibuprofen."
    assert swap_entity("Retired.", rng) == "Retired."
    assert flip_negation("Denies pain.", rng) == "reports pain."
    assert flip_negation("Has gout.", rng) == "has no gout."
    assert flip_negation("Retired.", rng) == "Retired."
    assert paste_template("Retired.", rng).startswith("Retired. ")
    pairs, shares = unverified_pairs([("n1", "Takes aspirin."), ("n2", "Has gout.")], seed=1)
    assert len(pairs) == 4  # one swap, one flip, two sentences
    assert shares == {
        "no_op_share": {"entity swap": 0.5, "negation flip": 0.5, "template": 0.0},
        "template_share": 0.5,
    }


@pytest.mark.parametrize(
    ("right", "wrong", "span"),
    [
        ("Given aspirin today.", "Given heparin today.", (6, 13, "heparin")),
        ("He has croup.", "He has severe croup.", (7, 7, "severe ")),
        ("He has severe croup.", "He has croup.", (7, 14, "")),
        ("Croup is likely.", "A cold is likely.", (0, 5, "A cold")),
        ("Give A and B now.", "Give C and D now.", (5, 12, "C and D")),  # one shared word inside
        ("A was seen on the first day of B.", "C was seen on the first day of D.", None),
        ("Same.", "Same.", None),
    ],
)
def test_changed_span(right: str, wrong: str, span: tuple[int, int, str] | None) -> None:
    assert changed_span(right, wrong) == span
    if span:
        assert right[: span[0]] + span[2] + right[span[1] :] == wrong


def test_cover_names_the_category() -> None:
    note = "Treated with apixaban 10 mg twice daily. The left knee is swollen."
    swapped = cover(Pair("a", note, "The left knee is swollen.", "The right knee is swollen.", "x"), seed=1)
    assert swapped is not None
    assert (swapped.categories, swapped.made) == (("laterality",), True)
    unread = cover(Pair("b", note, "The knee is swollen.", "The knee is puzzling.", "x"), seed=1)
    assert unread is not None
    assert (unread.categories, unread.made) == ((), False)
    assert unread.reasons


NOTE = "Patient {} has gout. Takes metformin {} mg. Denies cough."


def write_folders(folder: Path, count: int) -> list[str]:
    """`count` notes whose pairs differ in a dose, and the flags that name the folders."""
    summaries: list[dict[str, Any]] = []
    triplets = []
    for i in range(count):
        note, chosen = NOTE.format(i, 100 + i), f"Takes metformin {100 + i} mg."
        summaries.append(
            {"id": str(i), "clinical_note": note, "model_summary": chosen, "label": "factual", "hallucination_type": ""}
        )
        edit: dict[str, Any] = {
            "type": "dose",
            "start": 16,
            "end": 19,
            "old": f"{100 + i}",
            "new": f"{1000 + i}",
            "verdict": "x",
        }
        rejected = chosen.replace(edit["old"], edit["new"])
        triplets.append(
            {"id": f"{i}-dose", "source_id": str(i), "prompt": build_prompt(note), "chosen": chosen,
             "rejected": rejected, "edits": [edit]}
        )  # fmt: skip
    for name, rows in (("train", summaries[:-1]), ("validation", summaries[-1:])):
        write_csv(folder / f"{name}_set_processed.csv", list(summaries[0]), rows)
    write_jsonl(folder / "train_dpo.jsonl", triplets[:-1])
    write_jsonl(folder / "val_dpo.jsonl", triplets[-1:])
    (folder / "left_out.jsonl").write_text("", encoding="utf-8")
    return ["--phase1_dir", str(folder), "--phase2_dir", str(folder)]


def test_script_measures_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = write_folders(tmp_path, 12)
    columns = ["note_id", "clinical_note", "model_summary", "label", "hallucination_type"]
    note = NOTE.format(0, 5)
    cells = ((note, "Has gout.", "factual", ""), (note, "Has asthma.", "hallucinated", "diagnosis"))
    rows = [dict(zip(columns, ("m1", *row), strict=True)) for row in cells]
    write_csv(tmp_path / "medec.csv", columns, rows)
    more = ["--medec_csv", "medec.csv", "--output_file", "out.json", "--sample_file", "sample.txt"]
    paths = [flag if flag.startswith("--") else str(tmp_path / flag) for flag in more]
    assert main(parse_args([*flags, *paths, "--verbose"])) == 0
    figures = read_json(tmp_path / "out.json")
    assert (figures["pairs"]["triplets"], figures["pairs"]["no_ops"], figures["pairs"]["duplicate_pairs"]) == (12, 0, 0)
    assert figures["pairs"]["largest_category"] == {"name": "dose", "share": 1.0}
    assert figures["yield"]["with_trigger"]["all"]["share"] == 1
    assert figures["single_texts"]["notes"] == 12
    assert figures["single_texts"]["longer_in_characters_is_rejected"]["value"] == 1  # one digit more
    assert figures["medec"]["by_error"]["all"]["n"] == 1
    sample = (tmp_path / "sample.txt").read_text(encoding="utf-8")
    assert sample.count("=== ") == 12
    assert "Takes metformin [[100 -> 1000]] mg." in sample
    assert "12 triplets of 12 summaries" in capsys.readouterr().out


def test_no_ops_and_repeats_are_counted(tmp_path: Path) -> None:
    write_folders(tmp_path, 3)
    path = tmp_path / "train_dpo.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows[0]["rejected"] = rows[0]["chosen"].upper()
    write_jsonl(path, [*rows, rows[1]])
    pairs = read_pairs(tmp_path)
    figures = soundness(pairs)
    assert (figures["triplets"], figures["no_ops"], figures["no_ops_but_for_spaces_and_case"]) == (4, 0, 1)
    assert figures["duplicate_pairs"] == 1
    assert marked(pairs[1]) == "Takes metformin [[101 -> 1001]] mg."


def test_a_folder_without_pairs_is_refused(tmp_path: Path) -> None:
    flags = write_folders(tmp_path, 3)
    (tmp_path / "train_dpo.jsonl").unlink()
    with pytest.raises(InputError, match=r"run generate_phase2_data\.py first"):
        main(parse_args(flags))
