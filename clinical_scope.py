"""Who and what a finding is about: negated, uncertain, historical, or a relative's.

A trigger table in the manner of ConText (Harkema et al., J Biomed Inform 2009). A trigger governs the findings
before or after it in its segment; segments end at contrasting words ("but"), at semicolons, where a new clause
begins, and at the end of the sentence. In a dialogue the answer decides on its question: "Any fever?" "No."
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from clinical_text import Turn

Span = tuple[int, int]
# hyphens and white space only separate words; punctuation stands for itself, so that a phrase never crosses it
TOKEN = re.compile(r"n't|[A-Za-z0-9&]+?(?=n't\b)|[A-Za-z0-9&]+(?:['’][A-Za-z]+)*|[,;:.?!/()\n]")


@dataclass(frozen=True)
class Token:
    """A word or a punctuation mark, in lower case, with its span."""

    word: str
    start: int
    end: int


def tokens_of(text: str) -> list[Token]:
    """The words and punctuation marks of `text`."""
    return [Token(m[0].lower().replace("’", "'"), m.start(), m.end()) for m in TOKEN.finditer(text)]


# kind, direction: `wide` reaches to the end of the segment, `run` only the nearest list of findings,
# `near` the same from up to five words away, `back` the nearest list before the trigger, `all` the whole segment
_TRIGGERS: dict[tuple[str, str], str] = {
    ("negated", "wide"): (
        "no|denies|denied|deny|denying|without|negative for|no evidence of|no sign of|no signs of|no history of|"
        "no reports of|no complaints of|no known|absence of|absent|free of|rules out|ruled out for|never had|"
        "never|neither|nor|no family history of|does not have|do not have|did not have|not have|n't have|"
        "not had|n't had|no longer has|unremarkable for|non|none of|denial of|fails to reveal|resolved"
    ),
    ("negated", "near"): "not|n't|cannot|unable to|lack of|quit|negative",
    ("negated", "back"): (
        "ruled out|was ruled out|were ruled out|is ruled out|has been ruled out|excluded|was excluded|denied|"
        "were denied|was denied|negative|absent|unlikely|is unlikely|"
        ": no .|: no ;|: no ,|: none|: negative .|: negative ;|: denied ."
    ),
    ("uncertain", "run"): (
        "suspected|suspect|suspicion of|suspicion for|suspicious for|possible|possibly|probable|probably|likely|"
        "presumed|presumptive|concern for|concerning for|concerned for|concerned about|worried about|may have|"
        "might have|could be|may be|might be|could have|question of|questionable|consistent with possible|"
        "versus|vs|rule out|r/o|to rule out|differential includes|apparent|cannot exclude|not sure|evaluate for|"
        "appears to be|seems to be|if"
    ),
    ("uncertain", "back"): (
        "is suspected|was suspected|suspected|is possible|is likely|is probable|possible|likely|is a concern|"
        "cannot be excluded|in question"
    ),
    ("historical", "wide"): (
        "history of|past medical history of|past history of|hx of|h/o|history significant for|medical history|"
        "past medical history|status post|s/p|previous|previously|prior|former|formerly|past"
    ),
    ("historical", "back"): "in the past|years ago|year ago|as a child|in childhood|history|months ago",
    ("family", "all"): (
        "mother|father|mom|dad|brother|brothers|sister|sisters|sibling|siblings|uncle|uncles|aunt|aunts|"
        "grandmother|grandfather|grandparents|grandparent|parents|parent|cousin|cousins|niece|nephew|family history|"
        "maternal|paternal|runs in the family|run in the family|runs in my family|runs in your family|in his family|"
        "in her family|in the family|in my family|in your family|side of the family|relatives|relative|"
        "his son|her son|my son|his daughter|her daughter|my daughter|son had|daughter had|"
        "children have|family member|family members"
    ),
    ("end", "end"): (
        ";|but|however|although|though|except|except for|apart from|aside from|other than|yet|still has|still have|"
        "presents with|presented with|presenting with|presents for|who presents|who presented|complains of|"
        "complaining of|complained of|and reports|and complains|, reports|, has|, had|, have|and has|and had|and he|"
        "and she|and i|, he|, she|, i|and the patient|, the patient|positive for|admits to|admits|endorses|reports|"
        "does have|is here|came in|because of|, with|developed"
    ),
    # phrases that hold a trigger's words without its meaning
    ("pseudo", ""): (
        "no change|no changes|not only|no increase|no doubt|no problem|no further|no worries|not certain|"
        "mother states|mother reports|mother says|father states|father says|daughter says|son says|lives with|"
        "no more than|with his mother|with her mother|by his mother|by her mother|with mother|mother of|father of|"
        "gram negative|non smoker|not necessarily|why not|whether or not|history of present illness|no time|"
        "past week|past month|past year|past day|past few|past several|past couple|over the past|in the past year|"
        "for the past|history taking|likely to|no relief|family doctor|family physician|"
        "as if|what if|if you|if i|if he|if she|if it|if there|let me know if|past weeks|past months|past years|"
        "past days"
    ),
}


def _phrase_table() -> dict[str, list[tuple[tuple[str, ...], str, str]]]:
    """First word -> (words, kind, direction), the longest phrase first; one phrase may have two meanings."""
    table: dict[str, list[tuple[tuple[str, ...], str, str]]] = {}
    for (kind, direction), phrases in _TRIGGERS.items():
        for phrase in phrases.split("|"):
            words = tuple(token.word for token in tokens_of(phrase))
            table.setdefault(words[0], []).append((words, kind, direction))
    for entries in table.values():
        entries.sort(key=lambda entry: -len(entry[0]))
    return table


_TABLE = _phrase_table()


@dataclass(frozen=True)
class _Trigger:
    kind: str
    direction: str
    start: int
    end: int


def _triggers(tokens: Sequence[Token], taken: Sequence[Span]) -> list[_Trigger]:
    """The triggers among the tokens; words inside a finding ("no appetite") are none."""
    found: list[_Trigger] = []
    inside = {start for start, _ in taken}
    index = 0
    while index < len(tokens):
        token = tokens[index]
        matched = [] if token.start in inside else _matches(tokens, index)
        for words, kind, direction in matched:
            end = tokens[index + len(words) - 1].end
            found.append(_Trigger(kind, direction, token.start, end))
        index += len(matched[0][0]) if matched else 1
    return found


def _matches(tokens: Sequence[Token], index: int) -> list[tuple[tuple[str, ...], str, str]]:
    """All meanings of the longest phrase that begins at `index`."""
    longest: list[tuple[tuple[str, ...], str, str]] = []
    for entry in _TABLE.get(tokens[index].word, ()):
        words = entry[0]
        if longest and len(words) < len(longest[0][0]):
            break
        if all(index + i < len(tokens) and tokens[index + i].word == word for i, word in enumerate(words)):
            longest.append(entry)
    return longest


_LIST_GAP = re.compile(r"[\s,]*(?:(?:and/or|and|or|nor|any|no|and no|or any|plus|,)[\s,]*)*(?:[a-z]+ )?", re.IGNORECASE)


def scopes(text: str, tokens: Sequence[Token], sentence: Span, findings: Sequence[Span]) -> list[set[str]]:
    """The flags (`negated`, `uncertain`, `historical`, `family`) of each finding of one sentence.

    `tokens` are those of the sentence; `findings` are spans in `text`, in order.
    """
    flags: list[set[str]] = [set() for _ in findings]
    if not findings:
        return flags
    triggers = _triggers(tokens, findings)
    ends = [trigger.start for trigger in triggers if trigger.kind == "end"]
    for trigger in triggers:
        if trigger.kind in ("end", "pseudo"):
            continue
        segment = bisect_right(ends, trigger.start)
        inside = [i for i, finding in enumerate(findings) if bisect_right(ends, finding[0]) == segment]
        for i in _governed(text, trigger, findings, inside):
            flags[i].add(trigger.kind)
    return flags


def _governed(text: str, trigger: _Trigger, findings: Sequence[Span], inside: Sequence[int]) -> list[int]:
    after = [i for i in inside if findings[i][0] >= trigger.end]
    before = [i for i in inside if findings[i][1] <= trigger.start][::-1]
    if trigger.direction == "all":
        return list(inside)
    if trigger.direction == "wide":
        return after
    if trigger.direction == "near":
        return _run(text, trigger.end, findings, after, 5)
    if trigger.direction == "run":
        return _run(text, trigger.end, findings, after, 4)
    return _run_back(text, trigger.start, findings, before, 3)


def _run(text: str, position: int, findings: Sequence[Span], after: Sequence[int], max_words: int) -> list[int]:
    """The nearest finding after `position` and those joined to it as a list."""
    run: list[int] = []
    for i in after:
        gap = text[position : findings[i][0]]
        if not run and ("," in gap or len(gap.split()) > max_words):
            break
        if run and not _LIST_GAP.fullmatch(gap):
            break
        run.append(i)
        position = findings[i][1]
    return run


def _run_back(text: str, position: int, findings: Sequence[Span], before: Sequence[int], max_words: int) -> list[int]:
    run: list[int] = []
    for i in before:
        gap = text[findings[i][1] : position]
        if not run and ("," in gap or len(gap.split()) > max_words):
            break
        if run and not _LIST_GAP.fullmatch(gap):
            break
        run.append(i)
        position = findings[i][0]
    return run


# ------------------------------------------------------------------------------- question and answer

_FILLER = r"^\W*(?:(?:um|uh|oh|well|actually|hmm|hm|okay|ok|so|let's see|doctor|honestly)\W+)*"
_NO = re.compile(
    _FILLER + r"(?:no|nope|nah|none|never|not|negative|neither|nothing|i (?:do|have|did|am|was) ?(?:not|n't)|"
    r"i(?:'m| am) not|i don't|i haven't|i didn't|(?:he|she) (?:does|has|did|is) ?(?:not|n't)|"
    r"(?:he|she) (?:doesn't|hasn't|didn't|isn't))\b",
    re.IGNORECASE,
)
_UNSURE = re.compile(_FILLER + r"(?:not (?:sure|really sure|certain)|i(?:'m| am) not (?:sure|certain))", re.IGNORECASE)
_YES = re.compile(
    _FILLER + r"(?:yes|yeah|yep|yup|yea|correct|right|that's right|that is right|that's correct|both|sure|absolutely|"
    r"exactly|i do|i am|i have|i did|i was|mm-?hm|uh-?huh|definitely|of course|sometimes|a little|a bit|"
    r"(?:he|she) (?:does|has|did|is))\b",
    re.IGNORECASE,
)


_QUESTION = re.compile(
    r"(?:(?:\[?\w+\]?:?\s*)?(?:okay|so|and|well|alright|great)?\W*)?(?:any|do you|did you|have you|are you|were you|"
    r"has (?:he|she)|does (?:he|she)|how about|what about|is there|was there)\b[^?]*[.]?$",
    re.IGNORECASE,
)


def is_question(sentence: str, in_dialogue: bool) -> bool:
    """Whether a sentence asks; in dialogues also one whose question mark the transcript lacks."""
    return sentence.endswith("?") or (in_dialogue and bool(_QUESTION.match(sentence)))


def answer_flag(text: str, sentence: Span, following: Span | None, turns: Sequence[Turn]) -> str | None:
    """What the answer makes of the findings in a question: `negated`, `uncertain`, or None where they hold.

    `following` is the next sentence, for texts that are no dialogue ("Any fever? No.").
    """
    turn = next((i for i, turn in enumerate(turns) if turn.start < sentence[1] <= turn.end), None)
    if turn is not None:
        answer = text[turns[turn + 1].start : turns[turn + 1].end] if turn + 1 < len(turns) else ""
    else:
        answer = text[slice(*following)] if following else ""
    if _UNSURE.match(answer):
        return "uncertain"
    if _NO.match(answer):
        return "negated"
    return None if _YES.match(answer) else "uncertain"
