"""Tokens of prompts and completions: apart, joined, one beginning, one end, and shortened in the open."""

import pytest
from tiny_models import build_tokenizer

from language_model.frozen_template import PromptSettings
from language_model.length_limits import SHORTENED_MARK, LengthReport, encode_within, shorten_prompt
from language_model.prompt_format import (
    build_prompt,
    encode_completion,
    encode_prompt,
    format_hash,
    load_prompt_format,
    note_of_prompt,
    note_of_row,
    replace_note,
    save_prompt_format,
)
from script_io.errors import InputError

NOTE = "A 54-year-old woman with chest pain. Denies fever."


@pytest.fixture(scope="module")
def llama():
    return build_tokenizer("llama")


@pytest.fixture(scope="module")
def qwen():
    return build_tokenizer("qwen2")


def test_the_prompt_and_its_inverse():
    assert build_prompt(NOTE) == f"Clinical Note: {NOTE}\n\nSummary:"
    assert note_of_prompt(build_prompt(NOTE)) == NOTE
    assert note_of_prompt("Say hello") is None


@pytest.mark.parametrize(
    ("row", "note"),
    [
        ({"prompt": build_prompt(NOTE)}, NOTE),
        ({"prompt": build_prompt(NOTE), "clinical_note": f" {NOTE}\n"}, NOTE),
        ({"prompt": build_prompt(NOTE), "clinical_note": None}, NOTE),
        ({"prompt": f"Be brief. {NOTE}"}, None),
        ({"prompt": f"Be brief. {NOTE}", "clinical_note": NOTE}, NOTE),
        ({"prompt": [{"role": "user", "content": NOTE}]}, None),
        ({"prompt": [{"role": "user", "content": NOTE}], "clinical_note": NOTE}, NOTE),
        ({"clinical_note": NOTE}, NOTE),
        ({}, None),
    ],
)
def test_the_note_of_a_row(row, note):
    assert note_of_row(row) == note


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": build_prompt(NOTE), "clinical_note": "Denies fever."}, "clinical_note is not the note in prompt"),
        ({"prompt": "p", "clinical_note": 7}, "clinical_note is not text"),
    ],
)
def test_a_note_that_is_not_the_prompts_is_refused(row, words):
    with pytest.raises(InputError, match=words):
        note_of_row(row)


def test_a_note_is_replaced_in_a_prompt_of_any_form():
    assert replace_note(build_prompt("Note"), "Note", "Other") == build_prompt(
        "Other"
    )  # not the one in "Clinical Note"
    assert replace_note("Be brief. Cough. Summary?", "Cough.", "Fever.") == "Be brief. Fever. Summary?"


def test_plain_tokens(llama):
    prompt = encode_prompt(llama, build_prompt(NOTE), "plain")
    completion = encode_completion(llama, " Chest pain. ", "plain")
    assert prompt[0] == llama.bos_token_id
    assert prompt.count(llama.bos_token_id) == 1
    assert completion[-1] == llama.eos_token_id
    assert llama.decode(prompt[1:] + completion[:-1]) == f"Clinical Note: {NOTE}\n\nSummary: Chest pain."


def test_a_beginning_that_the_text_brings_is_not_doubled(llama):
    ids = encode_prompt(llama, f"<bos>{build_prompt(NOTE)}", "plain")
    assert ids.count(llama.bos_token_id) == 1


def test_chat_tokens(qwen):
    prompt = encode_prompt(qwen, build_prompt(NOTE), "chat")
    completion = encode_completion(qwen, "Chest pain.", "chat")
    content = build_prompt(NOTE)
    assert qwen.decode(prompt) == f"<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n"
    # the template writes a line break after the end; training must stop where generation stops
    assert qwen.decode(completion) == "Chest pain.<|im_end|>"
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert "system\nBe brief." in qwen.decode(encode_prompt(qwen, messages, "chat"))


def test_chat_needs_a_template_and_plain_takes_no_messages(llama):
    with pytest.raises(InputError, match="--prompt_format plain"):
        encode_prompt(llama, "x", "chat")
    with pytest.raises(InputError, match="--prompt_format chat"):
        encode_prompt(llama, [{"role": "user", "content": "x"}], "plain")


def test_the_format_is_stored_and_a_mismatch_is_an_error(qwen, tmp_path):
    save_prompt_format(tmp_path, qwen, "chat")
    assert load_prompt_format(tmp_path, qwen) == "chat"
    with pytest.raises(InputError, match="--prompt_format chat"):
        load_prompt_format(tmp_path, qwen, PromptSettings("plain"))
    before = format_hash(qwen, "chat")
    changed = build_tokenizer("qwen2")
    changed.chat_template = f"Be exact. {changed.chat_template}"
    assert format_hash(changed, "chat") != before
    with pytest.raises(InputError, match="chat template"):
        load_prompt_format(tmp_path, changed)


def test_shortening_keeps_head_and_tail_and_marks_the_gap():
    note = " ".join(f"w{i}" for i in range(20))
    shortened = shorten_prompt(build_prompt(note), note, lambda text: len(text.split()) <= 4 + 8)
    # 3 words of the template, the mark, and the 8 words that are left: five of the head... three of the tail
    assert SHORTENED_MARK in shortened
    kept = note_of_prompt(shortened).split()
    assert kept == ["w0", "w1", "w2", "w3", "[...]", "w16", "w17", "w18", "w19"]
    assert shorten_prompt("Say hello", None, lambda text: False) is None
    assert shorten_prompt("Say hello", note, lambda text: False) is None
    assert shorten_prompt(build_prompt(note), note, lambda text: False) is None


def test_shortening_leaves_the_instructions_of_another_prompt_whole():
    note = " ".join(f"w{i}" for i in range(20))
    shortened = shorten_prompt(f"Be brief.\n{note}\nSummary?", note, lambda text: len(text.split()) <= 4 + 4)
    assert shortened == f"Be brief.\nw0 w1{SHORTENED_MARK}w18 w19\nSummary?"


def test_overlong_examples_are_dropped_or_shortened_and_counted(llama):
    long_note = " ".join(["Denies fever."] * 60)
    length = len(encode_prompt(llama, build_prompt(long_note), "plain"))
    report = LengthReport(length)
    args = (build_prompt(long_note), ["Chest pain.", "No."], "plain")
    assert encode_within(llama, "a", *args, "drop", report, note=long_note) is None
    prompt, completions = encode_within(llama, "b", *args, "shorten_note", report, note=long_note)
    assert len(prompt) + max(map(len, completions)) <= length
    assert completions[0] == encode_completion(llama, "Chest pain.", "plain")
    assert "[...]" in llama.decode(prompt)
    assert (report.dropped_ids, report.shortened_ids) == (["a"], ["b"])


def test_what_is_left_out_is_announced(capsys):
    report = LengthReport(100, lengths=[*range(1, 100), 500], dropped_ids=["x"])
    report.announce("f.csv")
    assert capsys.readouterr().err == ""
    report = LengthReport(90, lengths=list(range(1, 101)), dropped_ids=[str(i) for i in range(10)])
    report.announce("f.csv")
    assert "--max_length 99 keeps 99%" in capsys.readouterr().err
    report = LengthReport(40, lengths=list(range(1, 101)), dropped_ids=[str(i) for i in range(60)])
    with pytest.raises(InputError, match="60 of 100 examples are over --max_length 40"):
        report.announce("f.csv")
