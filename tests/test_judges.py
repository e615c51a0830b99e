"""The nli judge on a tiny model made here, the openai judge against a server on this machine."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_server import Server
from tiny_models import build_tokenizer

from evaluation.fact_checker import check_summary
from evaluation.judges import BadReply, FactsJudge, NliJudge, OpenAIJudge, make_judge, parse_claims
from script_io import InputError

NOTE = "A 54-year-old woman takes metformin 500 mg twice daily. She denies fever. Pain in the left knee."
SUMMARY = "Takes metformin 850 mg. Denies fever."


def reply(*claims: tuple[str, str]) -> str:
    items = [{"text": text, "type": "dose", "verdict": verdict, "evidence": None} for text, verdict in claims]
    return json.dumps({"claims": items})


class JudgeServer(Server):
    """Answers with the given replies in turn, the last one again and again."""

    def __init__(self, *replies: str) -> None:
        super().__init__()
        self.replies = list(replies)

    def completion(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        text = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        return {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice]}


def build_nli_model(folder: Path, labels: list[str]) -> str:
    """A Llama-shaped classifier whose logits are zero, whatever it reads."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    tokenizer = build_tokenizer("llama")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=256,
        pad_token_id=tokenizer.pad_token_id,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )
    torch.manual_seed(0)
    model = LlamaForSequenceClassification(config)
    model.score.weight.data.zero_()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def nli(tmp_path_factory: pytest.TempPathFactory) -> NliJudge:
    labels = ["entailment", "neutral", "contradiction"]
    return NliJudge(build_nli_model(tmp_path_factory.mktemp("nli"), labels), "cpu")


def with_logits(judge: NliJudge, monkeypatch: pytest.MonkeyPatch, logits: list[float]) -> None:
    """Adds known logits to the model's zeros."""
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
    _, spans = nli._probabilities(note, "Denies fever.")
    assert len(spans) > 2
    assert spans[0][0] == 0
    assert spans[-1][1] == len(note)
    assert all(first[1] > second[0] for first, second in itertools.pairwise(spans))


def test_nli_refuses_what_is_no_nli_model(tmp_path: Path) -> None:
    model = build_nli_model(tmp_path, ["good", "bad"])
    with pytest.raises(InputError, match="no label for entailment"):
        NliJudge(model, "cpu")
    with pytest.raises(InputError, match="needs --judge_model"):
        make_judge("nli")
    with pytest.raises(InputError, match="cannot be loaded"):
        make_judge("nli", str(tmp_path / "absent"))


def test_openai_judge_reads_claims_and_sends_no_citation() -> None:
    with JudgeServer(reply(("metformin 850 mg", "contradicted"), ("denies  FEVER", "supported"))) as server:
        judge = make_judge("openai", "judge-model", base_url=server.url)
        check = judge.check(NOTE, SUMMARY + " [Evidence: S1; Conf: 0.9]")
    assert check is not None
    assert [(claim.text, claim.verdict) for claim in check.claims] == [
        ("metformin 850 mg", "contradicted"),
        ("Denies fever", "supported"),
    ]
    assert check.has_hallucination
    assert judge.name == "openai:judge-model"
    sent = json.loads(server.requests[0][2]["messages"][1]["content"])
    assert sent == {"note": NOTE, "summary": SUMMARY + " " * len(" [Evidence: S1; Conf: 0.9]")}


def test_openai_judge_asks_again_and_never_guesses() -> None:
    good = reply(("Denies fever", "supported"))
    with JudgeServer("Sure! The summary is supported.", good) as server:
        judge = OpenAIJudge("m", server.url, "Criterion.")
        assert judge.check(NOTE, SUMMARY) is not None
        assert (len(server.requests), judge.failures) == (2, 0)
    with JudgeServer("supported") as server:
        judge = OpenAIJudge("m", server.url, "Criterion.")
        assert judge.check(NOTE, SUMMARY) is None
        assert (len(server.requests), judge.failures) == (3, 1)


def test_openai_judge_out_of_reach_stops_the_run() -> None:
    with JudgeServer("x") as server:
        url = server.url
    judge = OpenAIJudge("m", url, "Criterion.")
    judge.client = judge.client.with_options(max_retries=0)
    with pytest.raises(InputError, match="check the address"):
        judge.check(NOTE, SUMMARY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"claims": []}',
        '{"claims": [{"text": "Denies fever", "verdict": "correct"}]}',
        '{"claims": [{"text": "", "verdict": "supported"}]}',
        '{"claims": [{"text": "has asthma", "verdict": "unsupported"}]}',
        '{"claims": [{"text": "Denies fever", "verdict": "supported"}]} Hope this helps!',
    ],
)
def test_bad_replies(text: str) -> None:
    with pytest.raises(BadReply):
        parse_claims(text, NOTE, SUMMARY)


def test_reply_in_a_code_fence_and_with_invented_evidence() -> None:
    claims = [{"text": "Denies fever", "type": "weird", "verdict": "supported", "evidence": "She has no fever."}]
    (claim,) = parse_claims(f"```json\n{json.dumps({'claims': claims})}\n```", NOTE, SUMMARY)
    assert (claim.type, claim.evidence, claim.evidence_start) == ("other", None, None)


def test_notes_leave_the_machine_only_with_consent() -> None:
    with pytest.raises(InputError, match="add --yes"):
        make_judge("openai", "m", base_url="https://example.org/v1")
    assert make_judge("openai", "m", base_url="https://example.org/v1", assume_yes=True).name == "openai:m"


def test_settings_that_a_judge_would_not_read_are_refused() -> None:
    with pytest.raises(InputError, match="the facts judge has no model"):
        make_judge("facts", "some/model")
    with pytest.raises(InputError, match="for --judge openai"):
        make_judge("nli", "some/model", base_url="http://localhost/v1")


def test_facts_judge_is_the_fact_checker() -> None:
    judge = make_judge("facts")
    assert isinstance(judge, FactsJudge)
    assert judge.check(NOTE, SUMMARY) == check_summary(NOTE, SUMMARY)
