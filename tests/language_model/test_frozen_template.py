"""Renderings that stay: prompt templates, system prompts, variables and dates in the tokenizer's own template."""

import importlib.util
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tiny_models import CHAT_TEMPLATE, build_tokenizer
from transformers import AutoTokenizer
from transformers.utils import chat_template_utils

from language_model.frozen_template import FIXED_DAY, PromptSettings
from language_model.prompt_format import (
    build_prompt,
    encode_completion,
    encode_prompt,
    load_prompt_format,
    save_prompt_format,
)
from script_io.errors import InputError

NOTE = "A 54-year-old woman with chest pain."
DATED = "{% if strftime_now is defined %}{% set today = strftime_now('%d %b %Y') %}{% endif %}Today is {{ today }}.\n"
# As Qwen3 does: an empty block in the last answer, and in the prompt if thinking is switched off
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


def tokenizer_with(template: str | None = CHAT_TEMPLATE):
    tokenizer = build_tokenizer("qwen2")
    tokenizer.chat_template = template
    return tokenizer


def shown(tokenizer, folder, prompt=None, **settings):
    """The prompt and the completion in the format that is asked for."""
    prompt_format = load_prompt_format(folder, tokenizer, PromptSettings(**settings))
    prompt = encode_prompt(tokenizer, prompt or build_prompt(NOTE), prompt_format)
    return tokenizer.decode(prompt), tokenizer.decode(encode_completion(tokenizer, "Chest pain.", prompt_format))


def test_without_a_stored_format_the_template_decides_and_it_is_said(tmp_path, capsys):
    assert load_prompt_format(tmp_path, tokenizer_with()) == "chat"
    assert "Prompt format: chat (none is stored" in capsys.readouterr().out
    assert load_prompt_format(tmp_path, tokenizer_with(None)) == "plain"
    assert "Prompt format: plain (none is stored" in capsys.readouterr().out
    assert load_prompt_format(tmp_path, tokenizer_with(), PromptSettings("plain")) == "plain"
    tokenizer = tokenizer_with()
    load_prompt_format(tmp_path, tokenizer)
    assert tokenizer.chat_template == CHAT_TEMPLATE  # nothing to fix, so nothing is changed


def test_a_template_that_prints_the_date_renders_the_same_on_the_next_day(tmp_path, monkeypatch):
    tokenizer = tokenizer_with(DATED + CHAT_TEMPLATE)
    prompt_format = load_prompt_format(tmp_path / "instruct", tokenizer)
    before = encode_prompt(tokenizer, build_prompt(NOTE), prompt_format)
    assert tokenizer.decode(before).startswith("Today is 26 Jul 2024.\n<|im_start|>user")
    tokenizer.save_pretrained(tmp_path)
    save_prompt_format(tmp_path, tokenizer, prompt_format)

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=1)

    monkeypatch.setattr(chat_template_utils, "datetime", Tomorrow)
    unfrozen = tokenizer_with(DATED + CHAT_TEMPLATE)  # the clock is set: what is not frozen shows the next day
    tomorrow = f"{Tomorrow.now():%d %b %Y}"
    assert tomorrow in unfrozen.apply_chat_template([{"role": "user", "content": "?"}], tokenize=False)
    stored = AutoTokenizer.from_pretrained(tmp_path)
    assert load_prompt_format(tmp_path, stored) == "chat"  # the hash of the rendering is checked here
    assert encode_prompt(stored, build_prompt(NOTE), "chat") == before
    assert load_prompt_format(tmp_path / "instruct", unfrozen) == "chat"
    assert encode_prompt(unfrozen, build_prompt(NOTE), "chat") == before


@pytest.mark.parametrize("form", ["%B %d, %Y", "%A, %-d %B %y", "%Y-%m-%dT%H:%M:%S", "%I %p, week %V, day %j", "%D"])
def test_the_fixed_date_takes_every_form(tmp_path, form):
    prompt, _ = shown(tokenizer_with(f"{{{{ strftime_now('{form}') }}}}|{CHAT_TEMPLATE}"), tmp_path)
    assert prompt.partition("|")[0] == FIXED_DAY.strftime(form)


TEXT = 'Say "why" in {{one}} word:\n{note}\n\tAnswer:\n'.replace("{{one}}", "one")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (TEXT, f'Say "why" in one word:\n{NOTE}\n\tAnswer:'),
        ("{% if 'pain' in note %}Mind the pain. {% endif %}{{ note }} So?", f"Mind the pain. {NOTE} So?"),
    ],
)
def test_a_prompt_template_takes_the_place_of_the_prompt_of_the_task(tmp_path, template, expected):
    prompt, completion = shown(tokenizer_with(), tmp_path, prompt_template=template)
    assert prompt == f"<|im_start|>user\n{expected}<|im_end|>\n<|im_start|>assistant\n"
    assert completion == "Chest pain.<|im_end|>"
    other, _ = shown(tokenizer_with(), tmp_path, "Say hello", prompt_template=template)
    assert other == "<|im_start|>user\nSay hello<|im_end|>\n<|im_start|>assistant\n"
    # of a model without a chat template: plain text, as in the plain format
    llama = build_tokenizer("llama")
    prompt, completion = shown(llama, tmp_path, prompt_template=template)
    assert prompt == f"<bos>{expected}"
    assert completion == " Chest pain.<eos>"
    assert encode_completion(llama, "Chest pain.", "chat") == encode_completion(llama, "Chest pain.", "plain")


def test_a_whole_chat_template_may_be_given(tmp_path):
    template = (
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}[assistant] "
    )
    prompt, _ = shown(build_tokenizer("llama"), tmp_path, prompt_template=template, prompt_format="chat")
    assert prompt == f"<bos>[user] {build_prompt(NOTE)}<eos>[assistant] "


def test_system_prompt_and_variables_are_kept_with_the_model(tmp_path):
    settings = {
        "system_prompt": 'Quote "nothing", {{ or }} {% else %}\nÄ 😀',
        "chat_template_kwargs": {"enable_thinking": False, "level": None, "names": ["a", {"b": 1.5}]},
    }
    template = "{% if level is none %}{{ names[1].b }}{% endif %}" + THINKING
    tokenizer = tokenizer_with(template)
    prompt, _ = shown(tokenizer, tmp_path, **settings)
    assert prompt == (
        f"1.5<|im_start|>system\n{settings['system_prompt']}<|im_end|>\n<|im_start|>user\n{build_prompt(NOTE)}<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )
    own = [{"role": "system", "content": "Mine."}, {"role": "user", "content": "Hi"}]
    assert "nothing" not in tokenizer.decode(encode_prompt(tokenizer, own, "chat"))
    tokenizer.save_pretrained(tmp_path)
    save_prompt_format(tmp_path, tokenizer, "chat")
    stored = AutoTokenizer.from_pretrained(tmp_path)
    for asked in ({}, settings, {"system_prompt": settings["system_prompt"]}):  # named again, or not
        assert load_prompt_format(tmp_path, stored, PromptSettings(**asked)) == "chat"
    for flag, asked in (
        ("system_prompt", {"system_prompt": "Quote"}),
        ("chat_template_kwargs", {"chat_template_kwargs": {"enable_thinking": True}}),
        ("prompt_template", {"prompt_template": "{note}"}),
    ):
        with pytest.raises(InputError, match=f"trained with another --{flag}"):
            load_prompt_format(tmp_path, stored, PromptSettings(**asked))


def test_thinking_blocks_are_never_trained_on(tmp_path):
    qwen3 = tokenizer_with(THINKING)
    assert shown(qwen3, tmp_path)[1] == "Chest pain.<|im_end|>"
    for text in ("<think>\nHm.\n</think>\n\nChest pain.", "Chest <think>?</think>pain.", "Hm.</think> Chest pain."):
        for prompt_format in ("plain", "chat"):
            expected = encode_completion(qwen3, "Chest pain.", prompt_format)
            assert encode_completion(qwen3, text, prompt_format) == expected
    messages = [{"role": "assistant", "content": "Chest pain.", "reasoning_content": "Hm."}]
    assert encode_completion(qwen3, messages, "chat") == encode_completion(qwen3, "Chest pain.", "chat")


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        *((name, {}) for name in ("gemma", "gemma3", "llama3", "llama3_2", "phi3", "qwen2_5", "qwen3")),
        *((name, {"chat_template_kwargs": {"enable_thinking": False}}) for name in ("qwen3", "qwen3_5_think")),
    ],
)
def test_templates_of_real_models(tmp_path, capsys, name, asked):
    spec = importlib.util.find_spec("trl")
    template = (Path(spec.origin).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")
    tokenizer = tokenizer_with(template)
    tokenizer.bos_token = "<bos>"
    prompt, completion = shown(tokenizer, tmp_path, **asked)
    assert prompt.count(build_prompt(NOTE)) == 1
    assert completion.startswith("Chest pain.<")
    assert ("</think>" in prompt) == bool(asked)
    assert ("26 Jul 2024" in prompt) == ("it is fixed at" in capsys.readouterr().out) == (name == "llama3_2")


ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must\nalternate') }}{% endif %}[{{ m.role }}]{{ m.content }}<|im_end|>{% endfor %}"
    "[assistant]"
)
# what is asked for, with the template of a model -> the beginning of what is said
FAULTY = {
    "no system role": (
        ALTERNATING,
        {"system_prompt": "Be brief."},
        "--system_prompt: the chat template fails .*alternate",
    ),
    "drops the system": (
        "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}",
        {"system_prompt": "Be brief."},
        "--system_prompt: the chat template leaves it out",
    ),
    "drops the user": ("Summarise.", {}, "the chat template leaves out or changes the user's message"),
    "syntax": ("{% for m in messages %}{{ m.content }}", {}, r"the chat template is not valid Jinja \(line 1"),
    "unknown filter": ("{{ messages | summarise }}", {}, "the chat template is not valid Jinja .*summarise"),
    "undefined": ("{{ messages[0].content.text.value }}", {}, "the chat template fails on these messages"),
    "unsafe": ("{{ ''.__class__.__mro__ }}{{ messages[0].content }}", {}, "the chat template fails .*unsafe"),
    "arithmetic": ("{{ 1 / 0 }}{{ messages[0].content }}", {}, "the chat template fails .*division"),
    "too long a loop": (
        "{% for i in range(10**9) %}{% endfor %}{{ messages[0].content }}",
        {},
        "the chat template fails",
    ),
    "types": ("{{ messages[0].content + 1 }}", {}, "the chat template fails"),
    "random": ("{{ ['Hi', 'Ho'] | random }}{{ messages[0].content }}", {}, "the template draws at random"),
    "unread variable": (
        CHAT_TEMPLATE,
        {"chat_template_kwargs": {"thinking": False}},
        "--chat_template_kwargs: .*thinking",
    ),
    "no template": (None, {"prompt_format": "chat"}, "the tokenizer has no chat template"),
    "several templates": ({"a": "x", "b": "y"}, {}, "the tokenizer has several chat templates"),
    "no place": (
        CHAT_TEMPLATE,
        {"prompt_template": "Summarise the note."},
        "--prompt_template has no place for the note",
    ),
    "broken file": (CHAT_TEMPLATE, {"prompt_template": "{{ note "}, "--prompt_template is not valid Jinja"),
    "plain system": (None, {"system_prompt": "Be brief."}, "--system_prompt needs a chat template"),
    "plain messages": (None, {"prompt_template": "{{ messages }}"}, "--prompt_template reads messages"),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_faulty_template_is_refused_in_one_line(tmp_path, name):
    template, settings, message = FAULTY[name]
    with pytest.raises(InputError, match=message) as caught:
        load_prompt_format(tmp_path, tokenizer_with(template), PromptSettings(**settings))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{{ messages | map(attribute='content') | join | upper }}{% if add_generation_prompt %}>{% endif %}",
            "another way",
        ),
        (f"{CHAT_TEMPLATE}{{% if add_generation_prompt %}}<think>\n{{% endif %}}", "opens a thinking block"),
        ("{{ messages[0].content }}>{{ messages[1].content | upper if messages | length > 1 }}", "changes the text"),
        ("{{ messages[0].content }}>", "changes the text"),
    ],
)
def test_an_answer_that_training_would_not_see_is_refused(template, message):
    with pytest.raises(InputError, match=message):
        encode_completion(tokenizer_with(template), "Chest pain.", "chat")
