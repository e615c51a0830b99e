"""The fuzzing targets accept their seeds and refuse what is broken; each finding of a run has a test with its name."""

from __future__ import annotations

from pathlib import Path

import pytest

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
