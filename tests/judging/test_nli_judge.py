"""The judge that compares sentences with the note, on tiny models made here."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_classifiers import NLI_LABELS, build_classifier, head_of, nli_judge

from judging.choice import make_judge
from judging.nli_judge import CONTRADICTION, ENTAILMENT, NliJudge, label_index, statements_of
from script_io.errors import InputError

NOTE = "A 54-year-old woman takes metformin 500 mg twice daily. She denies fever. Pain in the left knee."
SUMMARY = "Takes metformin 850 mg. Denies fever."


@pytest.fixture(scope="module")
def nli(tmp_path_factory: pytest.TempPathFactory) -> NliJudge:
    return nli_judge(build_classifier(tmp_path_factory.mktemp("nli"), NLI_LABELS))


def with_logits(judge: NliJudge, monkeypatch: pytest.MonkeyPatch, logits: list[float]) -> None:
    """Add known logits to the model's zeros."""
    forward = judge.model.score.forward
    monkeypatch.setattr(judge.model.score, "forward", lambda hidden: forward(hidden) + torch.tensor(logits))


def test_nli_verdicts_follow_the_probabilities(nli: NliJudge, monkeypatch: pytest.MonkeyPatch) -> None:
    """softmax(2, 0, 0) gives 0.787 to the first label; the score is 1 - 0.787 for each of two sentences."""
    high = torch.tensor([2.0, 0.0, 0.0]).softmax(-1)
    for logits, verdict, entailed in (
        ([2.0, 0.0, 0.0], "supported", high[0]),
        ([0.0, 2.0, 0.0], "unsupported", high[1]),
        ([0.0, 0.0, 2.0], "contradicted", high[1]),
    ):
        with monkeypatch.context() as patch:
            with_logits(nli, patch, logits)
            check = nli.check(NOTE, SUMMARY)
        assert [claim.verdict for claim in check.claims] == [verdict, verdict]
        assert check.score == pytest.approx(2 * (1 - float(entailed)), abs=1e-5)
        assert [SUMMARY[claim.start : claim.end] for claim in check.claims] == [
            "Takes metformin 850 mg.",
            "Denies fever.",
        ]


def test_nli_windows_cover_a_long_note_and_overlap(nli: NliJudge) -> None:
    note = " ".join(f"Sentence number {i} of a long note." for i in range(80))
    statements = statements_of(SUMMARY)
    nli._add_windows(note, statements)
    for statement in statements:
        spans = [window.span for window in statement.windows]
        assert len(spans) > 2
        assert spans[0][0] == 0
        assert spans[-1][1] == len(note)
        assert all(first[1] > second[0] for first, second in itertools.pairwise(spans))


def test_nli_takes_the_best_window(nli: NliJudge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits by the words of a window: one window of the long note entails, another contradicts, most do neither."""

    def forward(**inputs: torch.Tensor) -> Any:
        texts = nli.tokenizer.batch_decode(inputs["input_ids"])
        # the sentence of the summary comes after the note's window
        logits = [[3.0 * ("apple" in t), 1.0, 3.0 * ("pear" in t and "plum" in t.split("pear")[-1])] for t in texts]
        return SimpleNamespace(logits=torch.tensor(logits))

    filler = " ".join(f"Sentence number {i}." for i in range(60))
    note = f"An apple a day. {filler} And a pear for dinner. {filler}"
    monkeypatch.setattr(nli.model, "forward", forward)
    check = nli.check(note, "Eats fruit. A plum.")
    assert check is not None
    entailed = float(torch.tensor([3.0, 1.0, 0.0]).softmax(-1)[0])
    assert [claim.verdict for claim in check.claims] == ["supported", "supported"]
    assert check.score == pytest.approx(2 * (1 - entailed), abs=1e-5)
    assert all("apple" in (claim.evidence or "") for claim in check.claims)
    check = nli.check(note.replace("apple", "onion"), "Eats fruit. A plum.")
    assert check is not None
    assert [claim.verdict for claim in check.claims] == ["unsupported", "contradicted"]
    assert "pear" in (check.claims[1].evidence or "")


@pytest.mark.parametrize("architecture", ["llama", "bert"])
def test_nli_batches_give_what_each_summary_gives_alone(architecture: str, tmp_path: Path) -> None:
    """Random weights: the logits depend on every token, and would on padding."""
    labels = ["ENTAILMENT", "NEUTRAL", "CONTRADICTION"]
    judge = nli_judge(build_classifier(tmp_path, labels, architecture, zero=False))
    judge.batch_tokens = 600
    pairs = [(NOTE, SUMMARY), ("Fever. " * 90, "Has a fever since Monday evening. Pain."), ("", "x"), (NOTE, " ")]
    together = judge.check_all(pairs)
    scores = []
    for pair, check in zip(pairs, together, strict=True):
        alone = judge.check(*pair)
        assert check is not None
        assert alone is not None
        assert check.score == pytest.approx(alone.score, abs=1e-5)
        assert [claim.verdict for claim in check.claims] == [claim.verdict for claim in alone.claims]
        scores.append(round(check.score, 4))
    assert len(set(scores)) == 4  # they differ, so a mixed-up order would show
    assert scores[-1] == 0


def test_nli_skips_what_says_nothing_and_fails_on_what_is_too_long(nli: NliJudge) -> None:
    check = nli.check(NOTE, "Denies fever. [Evidence: S2].")
    assert check is not None
    assert [claim.text for claim in check.claims] == ["Denies fever."]
    before = nli.failures
    endless = "pain and " * 200
    assert nli.check_all([(NOTE, endless), (NOTE, SUMMARY)])[0] is None
    assert nli.failures == before + 1


@pytest.mark.parametrize(
    ("labels", "entailment", "contradiction"),
    [
        ({0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"}, 2, 0),
        ({0: "entailment", 1: "neutral", 2: "contradiction"}, 0, 2),
        ({0: "contradiction", 1: "entailment", 2: "neutral"}, 1, 0),
        ({0: "entailment", 1: "not_entailment"}, 0, None),
        ({0: "not_entailment", 1: "Entailment"}, 1, None),
        ({0: "SUPPORTS", 1: "REFUTES", 2: "NOT ENOUGH INFO"}, 0, 1),
        ({0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}, None, None),
        ({0: "unsupported", 1: "supported"}, 1, None),
    ],
)
def test_labels_of_common_models(labels: dict[int, str], entailment: int | None, contradiction: int | None) -> None:
    assert (label_index(labels, ENTAILMENT), label_index(labels, CONTRADICTION)) == (entailment, contradiction)


def test_nli_refuses_labels_that_do_not_say_entailment(tmp_path: Path) -> None:
    model = build_classifier(tmp_path, ["LABEL_0", "LABEL_1"])
    with pytest.raises(InputError, match=r"no label for entailment \(found LABEL_0, LABEL_1\).*id2label of a copy"):
        nli_judge(model)
    with pytest.raises(InputError, match="needs --judge_model"):
        make_judge("nli")


# ----------------------------------------------------------------------------------------------- one logit


def test_the_sigmoid_of_one_logit_is_the_probability_of_support(tmp_path: Path) -> None:
    """sigmoid(-1) = 1 / (1 + e) = 0.2689: two unsupported sentences, score 2 * (1 - 0.2689) = 1.4621.

    A softmax over one logit would be 1, and everything would be supported.
    """
    judge = nli_judge(build_classifier(tmp_path, ["LABEL_0"], "bert"))
    head_of(judge.model).bias.data.fill_(-1.0)
    check = judge.check(NOTE, SUMMARY)
    assert check is not None
    assert [claim.verdict for claim in check.claims] == ["unsupported", "unsupported"]
    assert check.score == pytest.approx(1.4621, abs=1e-4)
    head_of(judge.model).bias.data.fill_(2.0)  # sigmoid(2) = 0.8808
    check = judge.check(NOTE, SUMMARY)
    assert check is not None
    assert [claim.verdict for claim in check.claims] == ["supported", "supported"]
    assert check.score == pytest.approx(2 * (1 - 0.8808), abs=1e-4)


@pytest.mark.parametrize("label", ["hallucinated", "CONTRADICTION", "toxic"])
def test_one_logit_for_something_else_is_refused(label: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"its only label is {label}, which does not say.*; name an NLI model$"):
        nli_judge(build_classifier(tmp_path, [label], "bert"))


@pytest.mark.parametrize(
    "settings",
    [
        {"problem_type": "regression"},
        {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
    ],
)
def test_a_score_of_similarity_or_rank_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="its only logit is a score of similarity or rank"):
        nli_judge(build_classifier(tmp_path, ["LABEL_0"], "bert", **settings))


def test_a_cross_encoder_with_a_sigmoid_is_read(tmp_path: Path) -> None:
    settings = {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}
    judge = nli_judge(build_classifier(tmp_path, ["LABEL_0"], "bert", **settings))
    assert (judge.entailment, judge.contradiction) == (0, None)
