"""Which tokens the preference term counts: by spans, by edits and by the tokens themselves."""

import re

import pytest
from tiny_models import build_tokenizer

from language_model.counted_tokens import SIDES, counted_shares, counted_tokens, span_problem, token_difference
from language_model.prompt_format import encode_completion
from script_io.errors import InputError

CHOSEN = "Chest pain. Started apixaban 10 mg. Denies fever."
REJECTED = "Chest pain. Started warfarin 10 mg. Denies nausea."
EDITS = [
    {"start": 43, "end": 48, "old": "fever", "new": "nausea"},  # out of order
    {"start": 20, "end": 28, "old": "apixaban", "new": "warfarin"},
]
MESSAGES = [{"role": "assistant", "content": "Fever."}]


@pytest.fixture(scope="module")
def tokenizers():
    return {"plain": build_tokenizer("llama"), "chat": build_tokenizer("qwen2")}


def counted_words(tokenizer, row, loss_on="differences", prompt_format="plain"):
    """Return the text of the counted tokens of both sides, with / between tokens that are not neighbours."""
    ids = tuple(encode_completion(tokenizer, row[side], prompt_format) for side in SIDES)
    counted = counted_tokens(row, ids, tokenizer, prompt_format, loss_on)
    assert [len(side) for side in counted] == [len(side) for side in ids]
    texts = []
    for side, counts in zip(ids, counted, strict=True):
        runs, last = [], -2
        for place in (place for place, is_counted in enumerate(counts) if is_counted):
            runs += [[]] if place != last + 1 else []
            runs[-1].append(side[place])
            last = place
        texts.append("/".join(tokenizer.decode(run).strip() for run in runs))
    return texts


def row(**keys):
    return {"prompt": "p", "chosen": CHOSEN, "rejected": REJECTED} | keys


def test_token_difference_by_hand():
    chosen, rejected = token_difference([1, 2, 3, 9], [1, 4, 4, 3, 9])
    assert chosen == [False, True, False, False]
    assert rejected == [False, True, True, False, False]
    assert token_difference([5, 9], [5, 6, 9]) == ([False, False], [False, True, False])  # a side without any
    assert token_difference([5, 9], [5, 8]) == ([False, True], [False, True])  # the end counts like another token
    many = [7] * 300  # tokens that are frequent count as equal too
    assert token_difference([1, *many], [2, *many]) == ([True] + [False] * 300, [True] + [False] * 300)


@pytest.mark.parametrize("prompt_format", ["plain", "chat"])
def test_edits_are_found_in_both_texts(tokenizers, prompt_format):
    tokenizer = tokenizers[prompt_format]
    found = counted_words(tokenizer, row(edits=EDITS), prompt_format=prompt_format)
    assert found == ["apixaban/fever", "warfarin/nausea"]
    found = counted_words(tokenizer, row(edits=EDITS), "rejected_differences", prompt_format)
    assert found[0].startswith(CHOSEN)  # all of it, and the end
    assert found[0].endswith(tokenizer.eos_token)
    assert found[1] == "warfarin/nausea"


@pytest.mark.parametrize("prompt_format", ["plain", "chat"])
def test_spans_refer_to_the_text_of_the_row(tokenizers, prompt_format):
    """White space around a text is not trained on, and white space around a span belongs to other tokens."""
    spaced = {"chosen": f"  {CHOSEN} ", "rejected": f"\n{REJECTED}"}
    spans = {"chosen_spans": [[14, 38]], "rejected_spans": [[13, 37], [37, 50]]}
    assert spaced["chosen"][14:38] == "Started apixaban 10 mg. "
    found = counted_words(tokenizers[prompt_format], row(**spaced, **spans), prompt_format=prompt_format)
    assert found == ["Started apixaban 10 mg.", "Started warfarin 10 mg. Denies nausea"]


def test_each_side_goes_by_the_best_that_the_row_says(tokenizers):
    tokenizer = tokenizers["plain"]
    by_tokens = counted_words(tokenizer, row())
    named = {"rejected_spans": [[0, 11]]}
    assert counted_words(tokenizer, row(**named)) == [by_tokens[0], "Chest pain."]
    assert counted_words(tokenizer, row(**named, edits=EDITS)) == ["apixaban/fever", "Chest pain."]
    assert counted_words(tokenizer, row(rejected_spans=None, edits=[])) == by_tokens
    assert counted_words(tokenizer, row(rejected_spans=[])) == [by_tokens[0], ""]  # nothing differs in truth


def test_an_edit_that_deletes_words_counts_in_chosen_alone(tokenizers):
    edit = {"start": 11, "end": 35, "old": " Started apixaban 10 mg.", "new": ""}
    shorter = {"rejected": "Chest pain. Denies fever.", "edits": [edit]}
    assert counted_words(tokenizers["plain"], row(**shorter)) == ["Started apixaban 10 mg.", ""]


def test_shares_are_of_tokens_and_pairs_that_add_nothing_are_counted():
    pairs = [([True, True], [True, False, False]), ([True, False], [False])]
    assert counted_shares(pairs) == (
        "75% of the tokens of chosen and 25% of the tokens of rejected; 1 of 2 pairs have a side without any"
    )


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"chosen_spans": [[0, 50]]}, r"chosen_spans has \[0, 50\], which is no span of chosen \(49 characters\)"),
        ({"rejected_spans": [[0, 5], [-1, 2]]}, r"rejected_spans has \[-1, 2\]"),
        ({"rejected_spans": [[3, 3]]}, r"rejected_spans has \[3, 3\]"),
        ({"rejected_spans": [[0, 2.5]]}, r"rejected_spans is not a list of \[start, end\]"),
        ({"rejected_spans": [[False, True]]}, "rejected_spans is not a list"),
        ({"rejected_spans": {"start": 0}}, "rejected_spans is not a list"),
        ({"edits": [EDITS[0] | {"end": 60}]}, r"edits has \[43, 60\], which is no span of chosen"),
        ({"edits": [EDITS[0] | {"start": "42"}]}, "edits is not a list of"),
        ({"edits": [{"start": 1, "end": 2}]}, "edits is not a list of"),
        ({"edits": [EDITS[0] | {"new": "cough"}]}, "edits do not lead from chosen to rejected"),
        ({"chosen": MESSAGES, "chosen_spans": [[0, 2]]}, "chosen_spans needs chosen"),
        ({"rejected": MESSAGES, "edits": EDITS}, "edits needs chosen and rejected"),
    ],
)
def test_spans_that_cannot_be_are_named(keys, problem):
    assert re.match(problem, span_problem(row(**keys)))


def test_sound_spans_have_no_problem():
    assert span_problem(row(edits=EDITS, chosen_spans=[[0, len(CHOSEN)]], rejected_spans=[])) is None
    assert span_problem(row(edits=[], chosen_spans=None)) is None


def test_a_template_that_changes_the_text_and_a_tokenizer_without_places_are_refused(tokenizers, monkeypatch):
    shouting = build_tokenizer("qwen2")
    shouting.chat_template = shouting.chat_template.replace("m['content']", "m['content'] | upper")
    with pytest.raises(InputError, match="changes the text of an answer"):
        counted_words(shouting, row(edits=EDITS), prompt_format="chat")
    slow = build_tokenizer("llama")
    monkeypatch.setattr(type(slow), "is_fast", False)
    with pytest.raises(InputError, match="leave edits and spans out"):
        counted_words(slow, row(edits=EDITS))
    assert counted_words(slow, row()) != ["", ""]  # the token difference needs no places
