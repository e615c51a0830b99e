"""The judge that marks unsupported words, on tiny token classifiers made here."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_classifiers import build_classifier, head_of, span_judge

from judging.span_judge import SpanJudge, unsupported_labels
from judging.window_judge import SUMMARIES_AT_ONCE
from script_io.errors import InputError

NOTE = "A woman with herpes takes metformin daily. She denies fever."
HIGH, LOW = 0.8808, 0.1192  # sigmoid(2) and sigmoid(-2)


@pytest.fixture(scope="module")
def spans(tmp_path_factory: pytest.TempPathFactory) -> SpanJudge:
    return marks_words_with_z(tmp_path_factory.mktemp("spans"))


def marks_words_with_z(folder: Path) -> SpanJudge:
    """Return a judge whose probability is sigmoid(2) for the token `z` and sigmoid(-2) for all others.

    The layer adds nothing to the embeddings, which are zero except for one dimension of `z`. RMSNorm makes 4 of it (the
    square root of 16 dimensions), and the head adds a bias of -2.
    """
    judge = span_judge(build_classifier(folder, ["supported", "hallucinated"], auto="AutoModelForTokenClassification"))
    layer = judge.model.model.layers[0]
    for weight in (layer.self_attn.o_proj.weight, layer.mlp.down_proj.weight, judge.model.model.embed_tokens.weight):
        weight.data.zero_()
    judge.model.model.embed_tokens.weight.data[judge.tokenizer.convert_tokens_to_ids("z"), 0] = 1.0
    head_of(judge.model).weight.data[1, 0] = 1.0
    head_of(judge.model).bias.data[1] = -2.0
    return judge


def test_planted_words_are_claims_and_the_score_is_the_sum_of_the_words(spans: SpanJudge) -> None:
    """Three of eight words have a `z`, in two stretches of the first sentence."""
    summary = "Has zoster, azoospermia and herpes zoster. Denies fever."
    check = spans.check(NOTE, summary)
    assert check is not None
    assert [(claim.type, claim.text, claim.verdict, claim.level) for claim in check.claims] == [
        ("span", "zoster, azoospermia", "unsupported", "error"),
        ("span", "zoster", "unsupported", "error"),
        ("sentence", "Denies fever.", "supported", "error"),
    ]
    assert all(summary[claim.start : claim.end] == claim.text for claim in check.claims)
    assert check.score == pytest.approx(3 * HIGH + 5 * LOW, abs=1e-3)
    assert check.has_hallucination


def test_a_word_has_the_highest_probability_of_its_tokens(spans: SpanJudge) -> None:
    """`hertz` is several tokens, of which only the last one is marked."""
    assert len(spans.tokenizer(" hertz", add_special_tokens=False).input_ids) > 2
    check = spans.check(NOTE, "hertz")
    assert check is not None
    assert [claim.text for claim in check.claims] == ["hertz"]
    assert check.score == pytest.approx(HIGH, abs=1e-3)


def test_a_stretch_ends_with_its_sentence_and_citations_are_no_words(spans: SpanJudge) -> None:
    check = spans.check(NOTE, "Has zoster [Evidence: S1; Conf: 0.9]. Zzz zzz.")
    assert check is not None
    assert [claim.text for claim in check.claims] == ["zoster", "Zzz zzz"]
    assert check.score == pytest.approx(3 * HIGH + LOW, abs=1e-3)
    nothing = spans.check(NOTE, "[Evidence: S1]. -")
    assert nothing is not None
    assert (nothing.claims, nothing.score) == ((), 0)


def test_one_window_with_the_evidence_is_enough(spans: SpanJudge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each token is marked in every window without the word apple: the lowest probability counts."""

    def forward(input_ids: torch.Tensor, **_: Any) -> Any:
        texts = spans.tokenizer.batch_decode(input_ids)
        marked = torch.tensor([0.0 if "apple" in text else 4.0 for text in texts])
        logits = torch.zeros(*input_ids.shape, 2)
        logits[..., 1] = marked[:, None] - 2
        return SimpleNamespace(logits=logits)

    filler = " ".join(f"Sentence number {i}." for i in range(80))
    monkeypatch.setattr(spans.model, "forward", forward)
    for note, verdict, score in ((f"{filler} An apple. {filler}", "supported", LOW), (filler, "unsupported", HIGH)):
        check = spans.check(note, "Eats fruit.")
        assert check is not None
        assert [claim.verdict for claim in check.claims] == [verdict]
        assert check.score == pytest.approx(2 * score, abs=1e-3)


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_batches_give_what_each_summary_gives_alone(
    spans: SpanJudge, padding_side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans.tokenizer, "padding_side", padding_side)
    pairs = [(NOTE, "Has zoster."), ("Fever. " * 150, "Fever, size unknown."), ("", "No fever."), (NOTE, " ")]
    pairs *= SUMMARIES_AT_ONCE // len(pairs) + 1
    together = spans.check_all(pairs)
    for pair, check in zip(pairs[-8:], together[-8:], strict=True):
        alone = spans.check(*pair)
        assert check is not None
        assert alone is not None
        assert check.claims == alone.claims
        assert check.score == pytest.approx(alone.score, abs=1e-5)
    assert [check.has_hallucination for check in together[:4] if check] == [True, True, False, False]


def test_a_summary_that_leaves_no_room_for_the_note_is_a_failure(spans: SpanJudge) -> None:
    before = spans.failures
    checks = spans.check_all([(NOTE, "pain and " * 200), (NOTE, "Fever.")])
    assert checks[0] is None
    assert checks[1] is not None
    assert spans.failures == before + 1


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (["supported", "hallucinated"], [1]),
        (["LABEL_0", "LABEL_1"], [1]),  # LettuceDetect
        (["Hallucination", "O"], [0]),
        (["O", "B-contradicted", "I-contradicted", "B-unsupported"], [1, 2, 3]),
        (["O", "B-DRUG", "I-DRUG"], []),
        (["LABEL_0", "LABEL_1", "LABEL_2"], []),
        (["hallucinated"], []),  # its probability would always be 1
    ],
)
def test_labels_of_unsupported_tokens(labels: list[str], found: list[int]) -> None:
    assert unsupported_labels(dict(enumerate(labels))) == found


def test_a_model_that_marks_something_else_is_refused(tmp_path: Path) -> None:
    model = build_classifier(tmp_path, ["O", "B-DRUG"], auto="AutoModelForTokenClassification")
    with pytest.raises(InputError, match=r"not as supported and unsupported \(found O, B-DRUG\); name an NLI model$"):
        span_judge(model)
