"""The fuzzing targets accept their seeds and refuse what is broken; each finding of a run has a test with its name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assessment.ratings import VERSION, RatingBook
from benchmarks import fuzz
from benchmarks.fuzz_targets import SEEDS, TARGETS
from clinical.facts import extract_facts
from script_io.errors import InputError
from script_io.files import read_json, read_jsonl

BROKEN = [b"", b"\0", b"\xff\xfe\0\xd8", b"\x02[[[[", b'{"a": "\\ud800"}', "\ufeff=1\r\n\u2028\u0660".encode()]


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_keeps_its_promises_on_its_seeds_and_on_broken_input(target: str) -> None:
    for data in [*SEEDS.get(target, []), *BROKEN]:
        TARGETS[target](data)


def test_a_finding_can_be_repeated_and_fails_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(data: bytes) -> None:
        assert data != b"found"

    monkeypatch.setitem(TARGETS, "broken", refuse)
    (tmp_path / "crash-1").write_bytes(b"found")
    (tmp_path / "fine").write_bytes(b"other")
    assert fuzz.main(fuzz.parse_args(["--targets", "broken", "--repeat", str(tmp_path / "fine")])) == 0
    with pytest.raises(AssertionError):
        fuzz.main(fuzz.parse_args(["--targets", "broken", "--repeat", str(tmp_path / "crash-1")]))


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(InputError, match=r"--targets nothing: no such target; there are clinical_reader"):
        fuzz.main(fuzz.parse_args(["--targets", "nothing"]))


# ----------------------------------------------------------------------------------------- findings


def test_a_row_of_commas_between_findings_is_read_at_once() -> None:
    """It took time that doubled with every comma, since a comma could be read in two ways."""
    text = f"No fever{',' * 200} cough{',' * 200}x right knee pain."
    polarity = {fact.text: fact.negated for fact in extract_facts(text) if fact.type == "symptom"}
    assert polarity["fever"]
    assert polarity["cough"]  # what stands in a list with a denied finding is denied


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 50_000, "nested too deeply"),
        ("9" * 10_000, "Exceeds the limit.*"),
    ],
)
def test_json_that_python_has_no_json_error_for_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"a\.json: not valid JSON \({reason}\)"):
        read_json(path)
    with pytest.raises(InputError, match=rf"a\.json, line 1: not valid JSON \({reason}\)"):
        read_jsonl(path, ())


@pytest.mark.parametrize(
    ("bad", "taken"),
    [
        (None, {"verdict", "completeness", "draft"}),
        (5, {"seconds"}),
        (True, {"blind", "adjudication", "verdict_shown"}),
        ([], {"errors", "omissions"}),
        (["a", 1], set()),
    ],
)
def test_a_stored_rating_with_a_value_of_another_type_is_refused(tmp_path: Path, bad: object, taken: set[str]) -> None:
    """Names, hashes and times of other types ended in a traceback; other values were taken as they were."""
    path = tmp_path / "manual_assessment.json"
    row = json.loads(SEEDS["ratings"][1])["ratings"][0]
    for name in row:
        path.write_text(json.dumps({"version": VERSION, "ratings": [row | {name: bad}] * 2}))
        if name in taken:
            RatingBook(path)
            continue
        with pytest.raises(InputError, match="not a list of ratings"):
            RatingBook(path)


def test_the_seeds_of_the_ratings_and_of_a_text_of_notes_are_accepted(tmp_path: Path) -> None:
    """Every one of them was refused at its first field, so that the fuzzer saw no more of the readers than that."""
    for number, seed in enumerate(SEEDS["ratings"]):
        (tmp_path / f"{number}.json").write_bytes(seed)
        assert len(RatingBook(tmp_path / f"{number}.json").ratings) == 1


def test_half_a_character_in_a_json_document_is_refused_when_it_is_read(tmp_path: Path) -> None:
    """It was refused by `read_jsonl` alone; a rating with one could be read, and saving it ended in a traceback."""
    path = tmp_path / "manual_assessment.json"
    path.write_bytes(SEEDS["ratings"][0].replace(b"2026-", b"\\ud8002026-"))
    with pytest.raises(InputError, match=r"manual_assessment\.json: has \\ud800, half of a character"):
        RatingBook(path)
    path.write_text(r'{"whole": "\ud83d\ude00"}')
    assert read_json(path) == {"whole": "\U0001f600"}
