"""Which tokens of a preference pair the preference term counts (`--loss_on` of Stage B).

    completion            every token
    differences           the tokens that differ between chosen and rejected, on both sides
    rejected_differences  every token of chosen, and the tokens of rejected that differ

Sentences or words that both texts share teach nothing about the error, but a preference term over whole texts moves
their tokens as well. Leaving them out is Mask-DPO (arXiv:2503.02846), by token instead of by sentence. A row may say
what differs: `edits`, or `chosen_spans` and `rejected_spans`, in characters. Otherwise the tokens themselves are
compared (Ratcliff and Obershelp, as in difflib).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from language_model.prompt_format import rendered_completion
from language_model.thinking import without_thinking
from script_io.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LOSS_ON = ("completion", "differences", "rejected_differences")
SIDES = ("chosen", "rejected")
SPAN_KEYS = ("chosen_spans", "rejected_spans")
Span = tuple[int, int]
Counted = tuple[list[bool], list[bool]]  # of chosen and rejected, one entry per token


def counted_tokens(
    row: Mapping[str, Any],
    ids: tuple[Sequence[int], Sequence[int]],
    tokenizer: PreTrainedTokenizerBase,
    prompt_format: str,
    loss_on: str,
) -> Counted:
    """Return which tokens of chosen and rejected count, for `loss_on`, one of LOSS_ON other than `completion`.

    `ids` are the token ids of the two completions of `row`, whose spans have passed `span_problem`. Raises InputError
    if a row has spans and the tokenizer cannot find them.
    """
    chosen, rejected = (
        differing if spans is None else tokens_in(tokenizer, row[side], spans, prompt_format, len(differing))
        for side, spans, differing in zip(SIDES, spans_of(row), token_difference(*ids), strict=True)
    )
    if loss_on == "rejected_differences":
        chosen = [True] * len(chosen)
    return chosen, rejected


def counted_shares(pairs: Sequence[Counted]) -> str:
    """Return the share of the tokens of each side that count, and the number of pairs with a side that adds 0."""
    sides = [[token for pair in pairs for token in pair[side]] for side in (0, 1)]
    shares = [
        f"{sum(tokens) / len(tokens):.0%} of the tokens of {name}" for name, tokens in zip(SIDES, sides, strict=True)
    ]
    empty = sum(not (any(chosen) and any(rejected)) for chosen, rejected in pairs)
    return f"{' and '.join(shares)}; {empty} of {len(pairs)} pairs have a side without any"


def token_difference(chosen: Sequence[int], rejected: Sequence[int]) -> Counted:
    """Return which tokens of two lists are in no matching block of both."""
    differs = [True] * len(chosen), [True] * len(rejected)
    for block in SequenceMatcher(None, chosen, rejected, autojunk=False).get_matching_blocks():
        differs[0][block.a : block.a + block.size] = [False] * block.size
        differs[1][block.b : block.b + block.size] = [False] * block.size
    return differs


def tokens_in(
    tokenizer: PreTrainedTokenizerBase, text: str, spans: Sequence[Span], prompt_format: str, tokens: int
) -> list[bool]:
    """Return for each of the `tokens` tokens of a completion whether it shares a character with a span of `text`.

    White space at the ends of a span is left out: it belongs to the token of the next word. The end of the sequence,
    and what a chat template adds, share no character with the text.
    """
    if not tokenizer.is_fast:
        raise InputError("the tokenizer cannot tell where its tokens are in a text; leave edits and spans out")
    rendered, start = rendered_completion(tokenizer, text, prompt_format)
    offsets = tokenizer(rendered, add_special_tokens=False, return_offsets_mapping=True, verbose=False).offset_mapping
    kept = text.find(without_thinking(text).strip())  # the place in `text` of what is trained on
    if kept < 0:
        raise InputError("a thinking block inside the text moves its edits and spans; remove the block")
    moved = start - kept  # the place of text[0] in `rendered`
    places = [(moved + begin, moved + end) for begin, end in (_without_blanks(text, span) for span in spans)]
    found = [any(first < end and begin < last for begin, end in places) for first, last in offsets[:tokens]]
    return found + [False] * (tokens - len(found))


def _without_blanks(text: str, span: Span) -> Span:
    """Return a span without the white space at its ends."""
    begin, end = span
    inside = text[begin:end]
    return begin + len(inside) - len(inside.lstrip()), begin + len(inside.rstrip())


# --------------------------------------------------------------------------------- what a row says


def spans_of(row: Mapping[str, Any]) -> tuple[list[Span] | None, list[Span] | None]:
    """Return the spans of chosen and of rejected that differ, in characters; None for a side without any in the row.

    `chosen_spans` and `rejected_spans` go before `edits`.
    """
    chosen, rejected = spans_of_edits(row["edits"]) if row.get("edits") else (None, None)
    named = [[(begin, end) for begin, end in row[key]] if row.get(key) is not None else None for key in SPAN_KEYS]
    return chosen if named[0] is None else named[0], rejected if named[1] is None else named[1]


def spans_of_edits(edits: Sequence[Mapping[str, Any]]) -> tuple[list[Span], list[Span]]:
    """Return the spans of edits in both texts. Their offsets refer to chosen; later ones move with earlier edits.

    Raises KeyError, TypeError or ValueError for edits of another form.
    """
    chosen, rejected, moved = [], [], 0
    for edit in sorted(edits, key=lambda edit: int(edit["start"])):
        start, end, length = int(edit["start"]), int(edit["end"]), len(edit["new"])
        chosen.append((start, end))
        rejected.append((start + moved, start + moved + length))
        moved += length - (end - start)
    return chosen, rejected


def span_problem(row: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the spans or the edits of a row of preference data, or None."""
    for side, key in zip(SIDES, SPAN_KEYS, strict=True):
        spans, text = row.get(key), row[side]
        if spans is None:
            continue
        if not isinstance(text, str):
            return f"{key} needs {side} as text; leave it out for chat messages"
        if not isinstance(spans, list) or not all(map(_is_span, spans)):
            return f"{key} is not a list of [start, end] in characters"
        if outside := next((span for span in spans if not 0 <= span[0] < span[1] <= len(text)), None):
            return f"{key} has {outside}, which is no span of {side} ({len(text)} characters)"
    return _edit_problem(row) if row.get("edits") else None


def _is_span(span: Any) -> bool:
    return isinstance(span, list) and len(span) == 2 and all(type(place) is int for place in span)


def _edit_problem(row: Mapping[str, Any]) -> str | None:
    edits, chosen, rejected = row["edits"], row["chosen"], row["rejected"]
    if not isinstance(edits, list) or not all(map(_is_edit, edits)):
        return "edits is not a list of {start, end, old, new}"
    if not isinstance(chosen, str) or not isinstance(rejected, str):
        return "edits needs chosen and rejected as text; leave it out for chat messages"
    for edit in edits:
        start, end = edit["start"], edit["end"]
        if not 0 <= start <= end <= len(chosen):
            return f"edits has [{start}, {end}], which is no span of chosen ({len(chosen)} characters)"
    written = [edit["new"] for edit in sorted(edits, key=lambda edit: int(edit["start"]))]
    if [rejected[begin:end] for begin, end in spans_of_edits(edits)[1]] != written:
        return "edits do not lead from chosen to rejected"
    return None


def _is_edit(edit: Any) -> bool:
    return (
        isinstance(edit, dict)
        and all(type(edit.get(key)) is int for key in ("start", "end"))
        and isinstance(edit.get("new"), str)
    )
