import json

import pytest

from benchmarks import typed_notes
from script_io.errors import InputError

NOTE = "62F w/ HTN. Diabetes: No. K 5.9. Allergies: penicillin."
PAIRS = [
    ("She has no diabetes.", "She has diabetes.", "told apart"),
    ("Potassium was 5.9.", "Potassium was 5.1.", "told apart"),
    ("She has gout.", "She has asthma.", "both flagged"),
    ("She has hypertension.", "She has hypertension.", "neither flagged"),
    ("She has diabetes.", "She has no diabetes.", "inverted"),
]


def test_outcomes_and_shares_are_counted():
    rows = [{"note": NOTE, "true": true, "wrong": wrong, "kind": "any: x"} for true, wrong, _ in PAIRS]
    assert [outcome for outcome, _ in typed_notes.pair_outcomes(rows)] == [outcome for _, _, outcome in PAIRS]
    figures = typed_notes.pair_figures(rows)
    assert (figures["told apart"]["count"], figures["told apart"]["n"]) == (2, 5)
    assert figures["false alarms"]["share"] == pytest.approx(2 / 5)
    assert figures["by_kind"] == {"any": [2, 5]}


def test_the_file_has_the_figures_that_are_printed(tmp_path, capsys):
    path, out = tmp_path / "dense.jsonl", tmp_path / "out.json"
    rows = [{"note": NOTE, "summary": true, "wrong": 0} for true, _, _ in PAIRS[:2]]
    rows += [{"note": NOTE, "summary": PAIRS[0][1], "wrong": 1}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert typed_notes.main(typed_notes.parse_args(["--dense", str(path), "--output_file", str(out)])) == 0
    figures = json.loads(out.read_text())["dense"]
    assert figures["true summaries that pass"]["count"] == figures["true summaries that pass"]["n"] == 2
    assert figures["wrong summaries found"]["share"] == 1
    assert "true summaries that pass      2 of    2 = 100.0%" in " ".join(capsys.readouterr().out.split("\n"))


def test_statements_are_counted_by_kind_of_error(tmp_path):
    path, out = tmp_path / "statements.jsonl", tmp_path / "out.json"
    wrong = [{"text": "She has diabetes.", "error": "negation"}, {"text": "Potassium was 5.9.", "error": "value"}]
    row = {"note": NOTE, "true": ["She has no diabetes.", "She has asthma.", "Potassium was 5.9."], "wrong": wrong}
    path.write_text(json.dumps(row) + "\n")
    assert typed_notes.main(typed_notes.parse_args(["--statements", str(path), "--output_file", str(out)])) == 0
    figures = json.loads(out.read_text())["statements"]
    assert (figures["true statements flagged"]["count"], figures["true statements flagged"]["n"]) == (1, 3)
    assert (figures["wrong statements found"]["count"], figures["wrong statements found"]["n"]) == (1, 2)
    assert figures["by_kind"] == {"negation": [1, 1], "value": [0, 1]}


@pytest.mark.parametrize(
    ("true", "wrong", "said"),
    [
        ("She is well.", [], "true is not a list of texts"),
        (["She is well."], ["She is ill."], "wrong is not a list of objects with text and error"),
        (["She is well."], [{"text": "She is ill."}], "wrong is not a list of objects with text and error"),
    ],
)
def test_malformed_statements_are_refused_with_their_line(tmp_path, true, wrong, said):
    path = tmp_path / "statements.jsonl"
    path.write_text(json.dumps({"note": NOTE, "true": true, "wrong": wrong}) + "\n")
    with pytest.raises(InputError, match=f"statements.jsonl: line 1: {said}"):
        typed_notes.main(typed_notes.parse_args(["--statements", str(path)]))
