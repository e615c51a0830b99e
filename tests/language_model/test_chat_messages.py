"""Chat messages in data files: what is trained on, and what is refused in one line with its row."""

import json

import pytest
from tiny_models import build_tokenizer

import dpo_dataset
import sft_dataset
from dpo_dataset import DPODataset
from script_io.errors import InputError
from script_io.files import write_jsonl
from sft_dataset import SFTDataset

# Mistral's and Gemma's rules: no system message, and user and assistant take turns
STRICT = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must\nalternate') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def says(*turns):
    """Messages of `role: content`."""
    return [dict(zip(("role", "content"), turn.split(": "), strict=True)) for turn in turns]


GOOD = says("user: A", "assistant: B", "user: C")
FAULTY_PAIRS = [
    ({"prompt": []}, "prompt: neither text nor a list"),
    ({"prompt": [{"content": "A"}]}, "prompt: message 1 is not an object with role and content"),
    ({"prompt": ["A"]}, "prompt: message 1 is not an object with role and content"),
    ({"prompt": [{"role": "user", "content": [{"type": "text", "text": "A"}]}]}, "prompt: message 1 has no content as"),
    ({"prompt": says("human: A")}, "prompt: message 1 has the role 'human'; use one of system"),
    ({"prompt": says("user: A", "user:  ")}, "prompt: message 2 has an empty content"),
    ({"prompt": says("user: A", "assistant: B")}, "prompt: ends with a message of the assistant"),
    ({"chosen": says("user: A", "assistant: B")}, "chosen: message 1 has the role user"),
    ({"prompt": says("user: A", "user: B")}, "the chat template fails on these messages (roles must alternate)"),
    ({"prompt": says("system: A", "user: B")}, "the chat template fails on these messages (System role not supported)"),
    ({"chosen": "<think>Hm.</think>"}, "a completion has nothing but a thinking block"),
]


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = build_tokenizer("qwen2")
    tokenizer.chat_template = STRICT
    return tokenizer


@pytest.fixture(scope="module")
def strict(tokenizer, tmp_path_factory):
    """A folder with a tokenizer whose chat template is strict."""
    folder = tmp_path_factory.mktemp("strict")
    tokenizer.save_pretrained(folder)
    return folder


def pair(**parts):
    return {"prompt": GOOD, "chosen": says("assistant: Yes."), "rejected": says("assistant: Nope."), **parts}


def test_the_dpo_checker_names_every_faulty_row_before_training_does(strict, tokenizer, tmp_path, capsys):
    path = tmp_path / "pairs.jsonl"
    write_jsonl(path, [pair(), *(pair(**parts) for parts, _ in FAULTY_PAIRS)])
    assert dpo_dataset.main(dpo_dataset.parse_args([str(path), "--tokenizer", str(strict)])) == 2
    printed = [line for line in capsys.readouterr().out.splitlines() if ", line " in line]
    assert len(printed) == len(FAULTY_PAIRS)
    for number, (line, (_, problem)) in enumerate(zip(printed, FAULTY_PAIRS, strict=True), start=2):
        assert line.startswith(f"{path}, line {number}: {problem}")
    for parts, problem in FAULTY_PAIRS:
        write_jsonl(path, [pair(**parts)])
        with pytest.raises(InputError) as caught:
            DPODataset(path, tokenizer, prompt_format="chat")
        assert str(caught.value).startswith(f"{path}, line 1: {problem}")
        assert "\n" not in str(caught.value)


def test_each_message_of_the_assistant_is_trained_on_after_everything_before_it(tokenizer, tmp_path):
    path = tmp_path / "train.jsonl"
    write_jsonl(path, [{"id": "a", "messages": [*GOOD, *says("assistant: <think>Hm.</think>D")]}])
    data = SFTDataset(path, tokenizer, prompt_format="chat")
    assert data.ids == ["a, turn 1", "a, turn 2"]
    texts = [tuple(map(tokenizer.decode, example)) for example in data.examples]
    opened = "<|im_start|>user\nA<|im_end|>\n<|im_start|>assistant\n"
    second = "B<|im_end|>\n<|im_start|>user\nC<|im_end|>\n<|im_start|>assistant\n"
    assert texts == [(opened, "B<|im_end|>"), (opened + second, "D<|im_end|>")]


FAULTY_CONVERSATIONS = [
    ([], "messages: not a list of messages with role and content"),
    (says("user: A"), "messages: does not end with a message of the assistant"),
    (says("assistant: A"), "messages: begins with a message of the assistant"),
    (says("user: A", "assistant: B", "assistant: C"), "messages: message 3 follows another one of the assistant"),
    (says("user: A", "bot: B"), "messages: message 2 has the role 'bot'"),
]


def test_the_sft_checker_names_every_faulty_conversation(strict, tokenizer, tmp_path, capsys):
    path = tmp_path / "train.jsonl"
    write_jsonl(path, [{"messages": messages} for messages, _ in FAULTY_CONVERSATIONS])
    assert sft_dataset.main(sft_dataset.parse_args([str(path)])) == 2
    printed = capsys.readouterr().out.splitlines()
    for number, (line, (_, problem)) in enumerate(zip(printed, FAULTY_CONVERSATIONS, strict=True), start=1):
        assert line.startswith(f"{path}, line {number}: {problem}")
    with pytest.raises(InputError, match=r"line 1: messages: not a list"):
        SFTDataset(path, tokenizer, prompt_format="chat")
    # what only the template refuses is said too, if a tokenizer is named
    write_jsonl(path, [{"messages": says("system: A", "user: B", "assistant: C")}])
    assert sft_dataset.main(sft_dataset.parse_args([str(path)])) == 0
    assert sft_dataset.main(sft_dataset.parse_args([str(path), "--tokenizer", str(strict)])) == 2
    assert f"{path}, line 1: the chat template fails on these messages (System role" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"line 1: the chat template fails .*System role"):
        SFTDataset(path, tokenizer, prompt_format="chat")


def test_conversations_need_the_chat_format(tokenizer, tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"messages": [*GOOD, *says("assistant: D")]}))
    with pytest.raises(InputError, match="line 1: the data are chat messages, but the prompt format is plain"):
        SFTDataset(path, tokenizer, prompt_format="plain")
