"""The trained judge: labels, packing, training, saving, thresholds, and the errors a user can cause."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_models import build_tiny_model

from evaluation import evaluate_model
from judging import refit_detector, train_detector
from judging.detector import DetectorJudge, EvidenceJudge, WordDetector
from judging.detector_settings import Prediction, fit_settings
from judging.detector_training import token_labels, token_probabilities
from judging.marked_summaries import MarkedSummary
from judging.packed_summaries import pack_summaries
from judging.token_detector import SUMMARY, TOKEN, load_detector, new_detector
from language_model.loading import load_base_model, load_tokenizer
from language_model.placement import Placement
from script_io.errors import InputError

CPU = Placement(torch.device("cpu"), torch.float32, "none")
NOTES = [f"Patient {name} has chest pain for {weeks} weeks." for name in "ABCDEFGH" for weeks in (2, 3)]
TRUE, PLANTED = "Chest pain.", "Chest pain with fever."  # no note mentions fever


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled summaries in which the word "fever" is always unsupported."""
    path = tmp_path_factory.mktemp("labels") / "labels.jsonl"
    rows: list[dict[str, object]] = []
    for note in NOTES:
        for summary, marked in ((TRUE, []), (PLANTED, ["fever"])):
            rows.append(
                {"id": f"{len(rows)}", "clinical_note": note, "generated_summary": summary, "unsupported": marked}
            )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def trained(labels: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector trained by the script on the planted error."""
    folder = tmp_path_factory.mktemp("judge") / "judge"
    command = ["--labels", str(labels), "--base_model", str(base), "--output_dir", str(folder), "--folds", "2"]
    command += [
        "--layers",
        "1",
        "--epochs",
        "12",
        "--learning_rate",
        "0.02",
        "--specificity",
        "0.99",
        "--device",
        "cpu",
    ]
    assert train_detector.main(train_detector.parse_args(command)) == 0
    return folder


def test_tokens_that_share_a_character_with_a_marked_span_are_labelled(base: Path) -> None:
    tokenizer = load_tokenizer(base)
    group = [
        MarkedSummary("a", "Note.", PLANTED, True, ((16, 21),)),
        MarkedSummary("b", "Note.", TRUE, False, ()),
        MarkedSummary("c", "Note.", TRUE, True, None),
    ]
    packed = pack_summaries(tokenizer, "Note.", [each.summary for each in group], 2)
    parts = packed.split(token_labels(packed, group))
    marked = [span for span, label in zip(packed.summaries[0].spans, parts[0][:-1, TOKEN], strict=True) if label == 1]
    assert min(start for start, _ in marked) <= 16
    assert max(end for _, end in marked) == 21
    assert [float(part[-1, SUMMARY]) for part in parts] == [1.0, 0.0, 1.0]
    assert not parts[1][:-1, TOKEN].any()
    assert parts[2][:-1, TOKEN].isnan().all()  # the words of an error without marks have no label


@pytest.mark.parametrize("passes", [1, 2])
def test_packed_summaries_are_judged_as_one_by_one(base: Path, passes: int) -> None:
    tokenizer = load_tokenizer(base)
    detector = new_detector(load_base_model(base, CPU, tokenizer), layers=1, rank=4, alpha=8).eval()
    torch.manual_seed(0)
    for parameter in detector.trained_parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    summaries = [TRUE, PLANTED, "Pain for 3 weeks. Denies fever, nausea and chest pain."]
    together = token_probabilities(detector, pack_summaries(tokenizer, NOTES[0], summaries, passes))
    for summary, (tokens, whole) in zip(summaries, together, strict=True):
        ((own_tokens, own_whole),) = token_probabilities(
            detector, pack_summaries(tokenizer, NOTES[0], [summary], passes)
        )
        assert tokens == pytest.approx(own_tokens, abs=1e-5)
        assert whole == pytest.approx(own_whole, abs=1e-5)


def test_the_kept_output_of_frozen_layers_changes_nothing(base: Path) -> None:
    tokenizer = load_tokenizer(base)
    detector = new_detector(load_base_model(base, CPU, tokenizer), layers=1, rank=4, alpha=8).eval()
    packed = pack_summaries(tokenizer, NOTES[0], [TRUE, PLANTED], 2)
    torch.testing.assert_close(detector(packed, detector.frozen_input(packed)), detector(packed))


def test_it_learns_the_planted_error(trained: Path) -> None:
    good, bad = DetectorJudge(WordDetector(trained, "cpu")).check_all(
        [("Patient X has chest pain for 4 weeks.", text) for text in (TRUE, PLANTED)]
    )
    assert good is not None
    assert bad is not None
    assert not good.has_hallucination
    assert [claim.text for claim in bad.errors] == ["fever"]
    assert bad.probability is not None
    assert bad.probability > 0.5 > (good.probability or 0.0)


def test_a_saved_detector_gives_the_probabilities_of_the_trained_one(trained: Path, base: Path) -> None:
    detector, tokenizer = load_detector(trained, CPU)
    again, _ = load_detector(trained, CPU)
    packed = pack_summaries(tokenizer, NOTES[0], [PLANTED], 2)
    assert token_probabilities(detector, packed) == token_probabilities(again, packed)
    fresh = new_detector(load_base_model(base, CPU, tokenizer), layers=1, rank=16, alpha=32).eval()
    assert token_probabilities(fresh, packed) != token_probabilities(detector, packed)


def test_stored_thresholds_are_those_of_the_stored_predictions(trained: Path) -> None:
    settings = json.loads((trained / "detector.json").read_text())
    rows = [json.loads(line) for line in (trained / "out_of_fold.jsonl").read_text().splitlines()]
    fitted = fit_settings([Prediction.from_row(row) for row in rows], settings["specificity_wanted"])
    assert {name: settings[name] for name in fitted} == fitted
    assert settings["alone"]["sensitivity"] == 1.0


def test_thresholds_can_be_fitted_again(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "judge"
    shutil.copytree(trained, folder)
    before = json.loads((folder / "detector.json").read_text())
    (folder / "detector.json").write_text(json.dumps({**before, "with_rules": {"threshold": 7}, "word_threshold": 7}))
    assert refit_detector.main(refit_detector.parse_args(["--judge_model", str(folder)])) == 0
    assert json.loads((folder / "detector.json").read_text()) == before


def test_errors_of_the_rules_stay_and_the_detector_adds_words(trained: Path) -> None:
    note, summary = (
        "Patient X has chest pain. Takes aspirin 81 mg daily.",
        "Chest pain with fever. Aspirin 325 mg daily.",
    )
    check = EvidenceJudge(WordDetector(trained, "cpu")).check(note, summary)
    assert check is not None
    assert any("325" in claim.text and claim.evidence for claim in check.errors)
    assert any(claim.text == "fever" for claim in check.claims)


def test_only_the_rules_say_what_is_supported(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_text(
        json.dumps({"clinical_note": "Takes aspirin 81 mg daily.", "generated_summary": "Takes aspirin 325 mg daily."})
    )
    found = {}
    for name, flags in {
        "alone": ["--judge", "detector", "--judge_model", str(trained)],
        "with rules": ["--evidence_model", str(trained)],
    }.items():
        out = tmp_path / name
        command = ["--predictions", str(path), "--output_dir", str(out), "--device", "cpu", *flags]
        assert evaluate_model.main(evaluate_model.parse_args(command)) == 0
        found[name] = json.loads((out / "evaluation_summary.json").read_text())
    assert (found["alone"]["claims"], found["alone"]["claim_error_rate"]) == (0, None)
    assert found["with rules"]["claims"] > 0
    assert "Claim error rate:   not measured" in capsys.readouterr().out


def test_the_words_of_an_empty_summary(trained: Path) -> None:
    assert WordDetector(trained, "cpu").score([(NOTES[0], " ")]) == [([], 0.0)]


def test_a_note_longer_than_the_context_is_not_judged(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judge = DetectorJudge(WordDetector(trained, "cpu"))
    assert judge.check("fever " * 600, TRUE) is None
    assert judge.failures == 1
    assert "more than the model's context of 512" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unsupported": ["nausea"]}, "line 1: a text in unsupported is not in generated_summary"),
        ({"unsupported": "fever"}, "line 1: unsupported is not a list"),
        ({"has_hallucination": 1}, "line 1: has_hallucination and unsupported contradict"),
        ({"clinical_note": None}, "line 1: has no clinical_note"),
    ],
)
def test_wrong_labels_are_one_line_and_exit_code_2(tmp_path: Path, change: dict[str, object], message: str) -> None:
    row = {"clinical_note": NOTES[0], "generated_summary": TRUE, "unsupported": []} | change
    path = tmp_path / "labels.jsonl"
    path.write_text(json.dumps(row) + "\n")
    command = [sys.executable, "-m", "judging.train_detector", "--labels", str(path)]
    done = subprocess.run(
        [*command, "--base_model", "x", "--output_dir", "y"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("missing", ["detector.json", "detector_head.safetensors"])
def test_a_folder_without_a_detector(tmp_path: Path, missing: str) -> None:
    (tmp_path / ("detector_head.safetensors" if missing == "detector.json" else "detector.json")).write_text("{}")
    with pytest.raises(InputError, match=f"{missing} is missing.*train_detector"):
        WordDetector(tmp_path)
    with pytest.raises(InputError, match=r"no such folder.*train_detector"):
        WordDetector(tmp_path / "nothing")
