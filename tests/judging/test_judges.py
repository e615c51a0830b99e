"""The nli judge on a tiny model made here, the openai judge against a server on this machine."""

from __future__ import annotations

import itertools
import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openai
import pytest
import torch
from fake_server import Server
from tiny_models import build_tokenizer

from fact_checking.checker import check_summary
from fact_checking.claims import FactCheck
from judging.choice import FactsJudge, make_judge, usage_text
from judging.nli_judge import CONTRADICTION, ENTAILMENT, NliJudge, label_index, statements_of
from judging.openai_judge import BadReply, OpenAIJudge, parse_claims
from judging.pair_makers import has_made_pairs, judges_behind, judges_of_training_pairs, model_of_judge
from script_io.errors import InputError
from script_io.files import write_json, write_jsonl

NOTE = "A 54-year-old woman takes metformin 500 mg twice daily. She denies fever. Pain in the left knee."
SUMMARY = "Takes metformin 850 mg. Denies fever."


def reply(*claims: tuple[str, str]) -> str:
    items = [{"text": text, "type": "dose", "verdict": verdict, "evidence": None} for text, verdict in claims]
    return json.dumps({"claims": items})


class JudgeServer(Server):
    """Answers with the given replies in turn, and then with the last one."""

    def __init__(self, *replies: str) -> None:
        super().__init__()
        self.replies = list(replies)
        self.says_usage = True

    def completion(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        text = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        answer = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice]}
        usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
        return answer | ({"usage": usage} if self.says_usage else {})

    def settings(self) -> list[tuple[bool, bool]]:
        """Return (asks for structured output, asks for temperature 0) for each request."""
        return [("response_format" in body, body.get("temperature") == 0) for _, _, body in self.requests]


def build_nli_model(folder: Path, labels: list[str], architecture: str = "llama", *, zero: bool = True) -> str:
    """Save a tiny classifier and return its folder; with `zero`, its logits are zero for every input."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    tokenizer = build_tokenizer("llama")
    config = AutoConfig.for_model(
        architecture,
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=256,
        pad_token_id=tokenizer.pad_token_id,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        initializer_range=0.5,
    )
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config)
    if zero:
        model.score.weight.data.zero_()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def nli(tmp_path_factory: pytest.TempPathFactory) -> NliJudge:
    labels = ["entailment", "neutral", "contradiction"]
    return NliJudge(build_nli_model(tmp_path_factory.mktemp("nli"), labels), "cpu")


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
    model = build_nli_model(tmp_path, ["ENTAILMENT", "NEUTRAL", "CONTRADICTION"], architecture, zero=False)
    judge = NliJudge(model, "cpu")
    judge.batch_size = 3
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


def test_nli_refuses_what_is_no_nli_model(tmp_path: Path) -> None:
    model = build_nli_model(tmp_path, ["LABEL_0", "LABEL_1"])
    with pytest.raises(InputError, match=r"no label for entailment \(found LABEL_0, LABEL_1\).*id2label of a copy"):
        NliJudge(model, "cpu")
    with pytest.raises(InputError, match="needs --judge_model"):
        make_judge("nli")
    with pytest.raises(InputError, match="cannot be loaded"):
        make_judge("nli", str(tmp_path / "absent"))


def test_nli_refuses_a_device_that_is_not_there(nli: NliJudge) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(InputError, match="--device cuda: this machine"):
        NliJudge(nli.model.name_or_path, "cuda")


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


GOOD = reply(("Denies fever", "supported"))


def test_openai_judge_asks_again_and_never_guesses() -> None:
    with JudgeServer("Sure! The summary is supported.", GOOD) as server:
        judge = OpenAIJudge("m", server.url)
        assert judge.check(NOTE, SUMMARY) is not None
        assert (len(server.requests), judge.failures) == (2, 0)
        assert "cannot be used (not JSON" in server.requests[1][2]["messages"][2]["content"]
    with JudgeServer("supported") as server:
        judge = OpenAIJudge("m", server.url)
        assert judge.check(NOTE, SUMMARY) is None
        assert (len(server.requests), judge.failures) == (3, 1)


def test_openai_judge_asks_for_structured_output() -> None:
    with JudgeServer(GOOD) as server:
        OpenAIJudge("m", server.url).check(NOTE, SUMMARY)
        wanted = server.requests[0][2]["response_format"]
    assert (wanted["type"], wanted["json_schema"]["strict"]) == ("json_schema", True)
    claim = wanted["json_schema"]["schema"]["properties"]["claims"]["items"]
    # what strict mode demands: every property required, no other allowed
    assert sorted(claim["required"]) == sorted(claim["properties"]) == ["evidence", "text", "type", "verdict"]
    assert claim["additionalProperties"] is False
    assert claim["properties"]["verdict"]["enum"] == ["supported", "contradicted", "unsupported"]


@pytest.mark.parametrize(
    ("refusals", "settings"),
    [
        ([(400, "response_format is not supported")], [(True, True), (False, True), (False, True)]),
        ([(400, "Bad request")], [(True, True), (False, True), (False, True)]),
        ([(422, "extra fields not permitted")], [(True, True), (False, True), (False, True)]),
        ([(400, "Unsupported value: 'temperature' does not support 0")], [(True, True), (True, False), (True, False)]),
        ([(400, "temperature"), (400, "no schemas")], [(True, True), (True, False), (False, False), (False, False)]),
    ],
)
def test_openai_judge_does_without_what_the_server_refuses(
    refusals: list[tuple[int, str]], settings: list[tuple[bool, bool]]
) -> None:
    with JudgeServer(GOOD) as server:
        server.failures = list(refusals)
        judge = OpenAIJudge("m", server.url)
        assert judge.check(NOTE, SUMMARY) is not None
        assert judge.check(NOTE, SUMMARY) is not None  # remembered
        assert (server.settings(), judge.failures) == (settings, 0)


def test_a_note_that_the_server_refuses_fails_alone() -> None:
    with JudgeServer(GOOD) as server:
        server.failures = [(400, "maximum context length exceeded")] * 2
        judge = OpenAIJudge("m", server.url)
        assert judge.check(NOTE, SUMMARY) is None
        assert judge.check(NOTE, SUMMARY) is not None
        assert server.settings() == [(True, True), (False, True), (True, True)]
        assert judge.failures == 1


def test_openai_judge_waits_and_tries_again() -> None:
    with JudgeServer(GOOD) as server:
        server.failures = [(429, "slow down")]
        judge = OpenAIJudge("m", server.url)
        assert judge.check(NOTE, SUMMARY) is not None
        assert (len(server.requests), judge.failures) == (2, 0)


@pytest.mark.parametrize(
    ("kind", "body", "problem"),
    [
        ("text/html", b"<html>Welcome</html>", "no chat completion; check the address"),
        ("application/json", b"[]", "no chat completion; check the address"),
        ("application/json", b'{"choices": []}', "no chat completion; check the address"),
        ("application/json", b'{"choices": [{"message": null}]}', "no chat completion; check the address"),
        ("application/json", b"<html>", "no JSON"),
    ],
)
def test_a_server_of_another_kind_gives_no_verdict(
    kind: str, body: bytes, problem: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with JudgeServer(GOOD) as server:

        def answer(self: Any, *_: Any) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        monkeypatch.setattr(server.http.RequestHandlerClass, "answer", answer)
        judge = OpenAIJudge("m", server.url)
        assert judge.check(NOTE, SUMMARY) is None
    assert (judge.failures, judge.usage["replies"], len(server.requests)) == (1, 0, 1)
    assert problem in capsys.readouterr().err


def test_a_server_that_never_answers_stops_the_run() -> None:
    with JudgeServer(GOOD) as server:
        server.failures = [(400, "no such thing")] * 100
        judge = OpenAIJudge("m", server.url)
        with pytest.raises(InputError, match=r"no request has been answered; the last: .*no such thing"):
            judge.check_all([(NOTE, SUMMARY)] * 40)
        assert len(server.requests) < 80


@pytest.mark.parametrize(("status", "message"), [(401, "bad key"), (403, "not yours"), (404, "no such model")])
def test_a_key_or_model_that_is_refused_stops_the_run(status: int, message: str) -> None:
    with JudgeServer(GOOD) as server:
        server.failures = [(status, message)]
        with pytest.raises(InputError, match=f"{message}.*check the address, model and key"):
            OpenAIJudge("m", server.url).check(NOTE, SUMMARY)


def test_a_used_up_quota_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = OpenAIJudge("m", "http://localhost:1/v1")

    def create(**_: Any) -> None:
        response = SimpleNamespace(request=None, status_code=429, headers={})
        raise openai.RateLimitError("quota", response=response, body={"code": "insufficient_quota"})

    monkeypatch.setattr(judge.client.chat.completions, "create", create)
    with pytest.raises(InputError, match="quota; check the address"):
        judge.check(NOTE, SUMMARY)


def test_openai_judge_out_of_reach_stops_the_run_unless_it_has_answered() -> None:
    with JudgeServer(GOOD) as server:
        url = server.url
        answered = OpenAIJudge("m", url)
        answered.check(NOTE, SUMMARY)
    for judge in (answered, OpenAIJudge("m", url)):
        judge.client = judge.client.with_options(max_retries=0)
    assert answered.check(NOTE, SUMMARY) is None  # what was paid for is not lost with the connection
    with pytest.raises(InputError, match="check the address"):
        judge.check(NOTE, SUMMARY)


def test_openai_judge_sends_some_at_once_and_keeps_the_order() -> None:
    under_way, most, lock = [0], [0], threading.Lock()

    class SlowServer(JudgeServer):
        def completion(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
            with lock:
                under_way[0] += 1
                most[0] = max(most[0], under_way[0])
            time.sleep(0.05)
            summary = json.loads(body["messages"][1]["content"])["summary"]
            with lock:
                under_way[0] -= 1
                self.replies = [reply((summary, "supported" if summary == "Number 3." else "unsupported"))]
                return super().completion(path, body)

    with SlowServer("") as server:
        judge = OpenAIJudge("m", server.url)
        checks = judge.check_all([(NOTE, f"Number {i}.") for i in range(8)], "Judging")
    assert [check.claims[0].text for check in checks if check] == [f"Number {i}." for i in range(8)]
    assert [check.has_hallucination for check in checks if check] == [i != 3 for i in range(8)]
    assert 1 < most[0] <= judge.concurrency


def test_tokens_and_price_by_hand() -> None:
    """Two replies of 1,000 tokens sent and 100 received at 2 and 8 dollars a million: 0.004 + 0.0016."""
    with JudgeServer(GOOD) as server:
        judge = make_judge("openai", "m", base_url=server.url, price_per_million=[2, 8])
        judge.check_all([(NOTE, SUMMARY)] * 2 + [(NOTE, " ")])  # a summary without a word is not sent
        assert judge.usage is not None
        assert judge.usage["price_usd"] == pytest.approx(0.0056)
        assert usage_text(judge.usage) == "2,000 tokens sent and 200 received in 2 replies; $0.0056 (prices given)"
        judge = make_judge("openai", "gpt-4o-mini", base_url=server.url)
        server.says_usage = False
        judge.check(NOTE, SUMMARY)
        assert judge.usage is not None
        assert judge.usage["price_usd"] is None  # another server has other prices for the same name
        assert usage_text(judge.usage) == (
            "0 tokens sent and 0 received in 1 replies, 1 of them without a number of tokens; its price is not known, "
            "give --price_per_million"
        )


def test_list_prices_are_for_openai_only() -> None:
    judge = make_judge("openai", "gpt-4o-mini-2024-07-18", base_url="https://api.openai.com/v1", assume_yes=True)
    assert judge.prices == (0.15, 0.60)
    assert make_judge("openai", "gpt-9", base_url="https://api.openai.com/v1", assume_yes=True).prices is None


def test_nothing_leaves_the_machine_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with JudgeServer(GOOD) as server:
        assert make_judge("openai", "m", base_url=server.url).check(NOTE, SUMMARY) is not None


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
        '{"claims": [{"text": "Denies fever", "verdict": ["supported"]}]}',
        '{"claims": [{"text": "Denies fever", "verdict": "supported", "evidence": 3}]}',
        "[" * 100_000,
        "9" * 10_000,
    ],
)
def test_bad_replies(text: str) -> None:
    with pytest.raises(BadReply):
        parse_claims(text, NOTE, SUMMARY)


def test_reply_in_a_code_fence_and_with_invented_evidence() -> None:
    claims = [{"text": "Denies fever", "type": "weird", "verdict": "supported", "evidence": "She has no fever."}]
    (claim,) = parse_claims(f"```json\n{json.dumps({'claims': claims})}\n```", NOTE, SUMMARY)
    assert (claim.type, claim.evidence, claim.evidence_start) == ("other", None, None)


def test_a_repeated_claim_is_placed_at_the_next_occurrence_of_its_words() -> None:
    """Each type is counted separately; a claim repeated more often than its words is placed at the first occurrence."""
    summary = "Aspirin daily in May; aspirin  Daily in June."
    stated = [("aspirin daily", kind) for kind in ("drug", "frequency", "drug", "frequency", "drug")]
    claims = [{"text": text, "type": kind, "verdict": "supported", "evidence": None} for text, kind in stated]
    placed = parse_claims(json.dumps({"claims": claims}), NOTE, summary)
    assert [(claim.type, claim.start, claim.text) for claim in placed] == [
        ("drug", 0, "Aspirin daily"),
        ("frequency", 0, "Aspirin daily"),
        ("drug", 0, "Aspirin daily"),
        ("drug", 22, "aspirin  Daily"),
        ("frequency", 22, "aspirin  Daily"),
    ]


@pytest.mark.parametrize(
    "address", ["https://example.org/v1", "http://localhost.example.org/v1", "http://127.0.0.1@example.org/v1"]
)
def test_notes_leave_the_machine_only_with_consent(address: str) -> None:
    with pytest.raises(InputError, match="add --yes"):
        make_judge("openai", "m", base_url=address)
    assert make_judge("openai", "m", base_url=address, assume_yes=True).name == "openai:m"


def test_settings_that_a_judge_would_not_read_are_refused() -> None:
    with pytest.raises(InputError, match="the facts judge has no model"):
        make_judge("facts", "some/model")
    for name in ("facts", "nli"):
        with pytest.raises(InputError, match="--judge_base_url is for --judge openai"):
            make_judge(name, "some/model", base_url="http://localhost/v1")
    with pytest.raises(InputError, match="is no address"):
        make_judge("openai", "m", base_url="localhost:8000/v1")


def test_another_criterion_is_another_judge(tmp_path: Path) -> None:
    (tmp_path / "criterion.txt").write_text("Only doses count; {braces} are text.")
    url = "http://localhost:8000/v1"
    judge = make_judge("openai", "m", base_url=url, criterion_file=tmp_path / "criterion.txt")
    assert "Only doses count; {braces} are text." in judge.instructions
    assert judge.name.startswith("openai:m, criterion ")
    assert make_judge("openai", "m", base_url=url).name == "openai:m"


def test_facts_judge_is_the_fact_checker() -> None:
    judge = make_judge("facts")
    assert isinstance(judge, FactsJudge)
    assert judge.check(NOTE, SUMMARY) == check_summary(NOTE, SUMMARY)
    assert judge.check_all([(NOTE, SUMMARY), (NOTE, "")], "Judging") == [check_summary(NOTE, SUMMARY), FactCheck(())]
    assert judge.usage is None


# ------------------------------------------------------------------------------------- judges of the pairs


def trained_on(folder: Path, pairs: list[dict[str, Any]], earlier: Path) -> Path:
    """Write the configuration of a model that Stage B trained on these pairs, starting from `earlier`."""
    folder.mkdir()
    write_jsonl(folder / "pairs.jsonl", pairs)
    write_json(folder / "dpo_config.json", {"pair_judges": judges_behind(folder / "pairs.jsonl", earlier)})
    return folder


def test_which_judges_made_the_pairs_of_a_model(tmp_path: Path) -> None:
    sft = tmp_path / "sft"
    sft.mkdir()
    assert judges_of_training_pairs(sft) is None  # a base model: nobody knows
    write_json(sft / "sft_config.json", {})
    assert judges_of_training_pairs(sft) == set()
    labelled = {"prompt": "p", "edits": [{"verdict": "labelled"}]}
    first = trained_on(tmp_path / "first", [labelled, {"prompt": "p", "judge": "nli:x"}, {"prompt": "q"}], sft)
    assert judges_of_training_pairs(first) == {"nli:x"}
    made = {"prompt": "p", "edits": [{"verdict": "contradicted"}]}
    second = trained_on(tmp_path / "second", [made], first)
    assert judges_of_training_pairs(second) == {"facts", "nli:x"}  # both rounds
    assert judges_of_training_pairs(str(trained_on(tmp_path / "third", [labelled], sft))) == set()


def test_the_same_judge_is_known_by_every_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_nli_model(tmp_path / "nli", ["entailment", "neutral", "contradiction"])
    monkeypatch.chdir(tmp_path)
    names = {make_judge("nli", spelled, device="cpu").name for spelled in (model, "nli", "./nli/")}
    assert names == {f"nli:{model}"}
    assert has_made_pairs(f"nli:{model}", {"facts", "nli:./nli"})  # stored as it was spelled
    assert not has_made_pairs(f"nli:{model}", {"facts", "nli:hub/nli"})


def test_a_criterion_does_not_hide_the_judge_of_the_pairs(tmp_path: Path) -> None:
    (tmp_path / "criterion.txt").write_text("Only doses count.")
    url = "http://localhost:8000/v1"
    strict = make_judge("openai", "m", base_url=url, criterion_file=tmp_path / "criterion.txt").name
    assert model_of_judge(strict) == "openai:m"
    assert has_made_pairs(strict, {"openai:m"})
    assert has_made_pairs("openai:m", {strict})
    assert not has_made_pairs(strict, {"openai:m2", "facts", "nli:m"})
    assert not has_made_pairs(strict, ())


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"pair_judges": null}', '{"pair_judges": 3}'])
def test_pairs_that_cannot_be_told(content: str, tmp_path: Path) -> None:
    (tmp_path / "dpo_config.json").write_text(content)
    assert judges_of_training_pairs(tmp_path) is None
