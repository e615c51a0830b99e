"""Find the scope of a finding: negated, uncertain, historical, or about a relative.

The method is ConText (Harkema et al., J Biomed Inform 2009). A trigger phrase governs the findings before or after it
in its segment. A segment ends at a contrasting word ("but"), a semicolon, a new clause or the end of the sentence. In a
dialogue, the answer sets the scope of the findings in its question: "Any fever?" "No."
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from clinical.text import Turn, lower_case, turn_at

Span = tuple[int, int]
# hyphens and white space only separate words; a punctuation mark is a token, so that no phrase extends across it
TOKEN = re.compile(r"n't|[A-Za-z0-9&]+?(?=n't\b)|[A-Za-z0-9&]+(?:['’][A-Za-z]+)*|[,;:.?!/()\n]")


class Token(NamedTuple):
    """A word or a punctuation mark, in lower case, with its span."""

    word: str
    start: int
    end: int


def tokens_of(text: str) -> list[Token]:
    """Return the words and punctuation marks of `text`."""
    lower = lower_case(text).replace("’", "'")
    return [Token(lower[start:end], start, end) for start, end in (match.span() for match in TOKEN.finditer(text))]


# (kind, direction) -> phrases, separated by "|". The direction decides which findings of the segment a trigger governs.
# `wide`: all after it. `run`: the next list, at most 4 words away. `near`: the next list, at most 5 words away.
# `back`: the last list before it, at most 3 words away. `all`: all
_TRIGGERS: dict[tuple[str, str], str] = {
    ("negated", "wide"): (
        "no|denies|denied|deny|denying|without|negative for|no evidence of|no sign of|no signs of|no history of|"
        "no reports of|no complaints of|no known|absence of|absent|free of|rules out|ruled out for|never had|"
        "never|neither|nor|no family history of|does not have|do not have|did not have|not have|n't have|"
        "not had|n't had|not yet had|n't yet had|not yet|no longer has|"
        "unremarkable for|none of|denial of|fails to reveal|"
        "not reporting|not report|not having|not experiencing|not experience|not complaining of|not complain of|"
        "not endorse|not notice|not noticed"
    ),
    ("negated", "near"): "not|n't|cannot|unable to|lack of|negative|non|nil|resolved|no longer",
    ("negated", "back"): (
        "ruled out|was ruled out|were ruled out|is ruled out|has been ruled out|excluded|was excluded|denied|"
        "were denied|was denied|negative|absent|unlikely|is unlikely|nonreactive|non reactive|was not to be|"
        "is not to be|"
        "not indicated|nil|"
        "not detected|"
        "not present|"
        "not seen|not identified|not found|not appreciated|not elicited|not palpable|undetectable|no growth|"
        "none seen|"
        "not demonstrated|not visualized|not observed|was unlikely|were unlikely|"
        "thought unlikely|was thought unlikely|denies .|denies ;|, denies .|, denied .|"
        ": no .|: no ;|: no ,|: none|: negative .|: negative ;|: denied ."
    ),
    ("uncertain", "run"): (
        "suspected|suspect|suspicion of|suspicion for|suspicious for|possible|possibly|probable|probably|likely|"
        "presumed|presumptive|concern for|concerning for|concerned for|concerned about|worried about|may have|"
        "might have|could be|may be|might be|could have|question of|questionable|consistent with possible|"
        "versus|vs|rule out|r/o|to rule out|differential includes|apparent|cannot exclude|could not exclude|"
        "can not exclude|cannot rule out|could not rule out|not sure|evaluate for|"
        "concerns of|concern of|unknown history of|"
        "appears to be|seems to be|if|"
        "look for|looking for|checking for|to exclude|screen for|screening for|test for|tested for|testing for|"
        "investigate for"
    ),
    ("uncertain", "back"): (
        "is suspected|was suspected|suspected|suspect|is possible|is likely|is probable|possible|likely|is a concern|"
        "cannot be excluded|in question|could not be excluded|not excluded|not be excluded|cannot be ruled out|"
        "could not be ruled out|not ruled out|to be ruled out|is to be ruled out|being ruled out|to be excluded|"
        "is being considered|was considered|remains possible|was possible|was suspected"
    ),
    ("historical", "wide"): (
        "history of|past medical history of|past history of|hx of|h/o|history significant for|medical history|"
        "past medical history|status post|s/p|previous|previously|prior|former|formerly|past"
    ),
    ("historical", "near"): "quit|stopped|ex|used to|gave up|stop",
    ("historical", "back"): "in the past|years ago|year ago|as a child|in childhood|history|months ago",
    ("family", "all"): (
        "no family history of|mother|father|mom|dad|brother|brothers|sister|sisters|sibling|siblings|uncle|"
        "uncles|aunt|aunts|"
        "grandmother|grandfather|grandma|grandpa|grandparents|grandparent|parents|parent|cousin|cousins|niece|"
        "nephew|family history|"
        "maternal|paternal|runs in the family|run in the family|runs in my family|runs in your family|in his family|"
        "in her family|in the family|in my family|in your family|side of the family|relatives|relative|"
        "his son|her son|my son|his daughter|her daughter|my daughter|son had|daughter had|son has|daughter has|"
        "son with|daughter with|son who|daughter who|son was|daughter was|mother's|father's|mom's|dad's|brother's|"
        "sister's|sons|daughters|mgm|mgf|pgm|pgf|husband had|husband has|wife had|wife has|spouse has|"
        "partner has|partner had|husband with|wife with|my family has|my family had|family has|family had|"
        "children have|family member|family members"
    ),
    ("end", "end"): (
        ";|but|until|however|although|though|except|except for|apart from|aside from|other than|yet|presents with|"
        "presented with|presenting with|presents for|who presents|who presented|complains of|complaining of|"
        "complained of|and complains|and i|, i|and the patient|, the patient|admits to|admits|"
        "endorses|is here|came in|because of|and i'm|, i'm|and i've|, i've|then i|and it|and my|, my|, there was|"
        ", there is|, it was|, it is|, it's|, just|, only|even with|"
        "even after|despite|in a patient with|in a patient who|in a man with|in a woman with"
    ),
    # a new clause, except for a relative named before it: "Mother is alive and has gout"
    ("end", "clause"): (
        "still has|still have|and reports|, reports|, has|, had|, have|and has|and had|and he|and she|, he|, she|"
        "reports|does have|, with|developed|positive for|states|states that|"
        "and started|and was started|and takes|and is taking|and took|and was given|and received|and is on|"
        "because|and was|and were|and lives|and works|indicated ,|needed ,|required ,|given ,|done ,|and a|"
        "and an|, 1|, 2|, 3|, 4|, one|, two|, three|, drinks|, drank|, smokes|"
        ", vapes|, uses|and drinks|and smokes|and vapes|"
        "and continues|and underwent|, started|, was started|, takes|, is taking|, was given|, received|, underwent"
    ),
    # phrases that contain a trigger's words without its meaning
    ("pseudo", ""): (
        "no change|no changes|not only|no increase|no doubt|no problem|no further|no worries|not certain|"
        "mother states|mother reports|mother says|father states|father says|daughter says|son says|lives with|"
        "no more than|with his mother|with her mother|by his mother|by her mother|with mother|mother of|father of|"
        "gram negative|non smoker|non drinker|never smoker|never drinker|not necessarily|"
        "why not|whether or not|history of present illness|no time|"
        "past week|past month|past year|past day|past few|past several|past couple|over the past|in the past year|"
        "for the past|history taking|likely to|no relief|family doctor|family physician|"
        "possible cause|possible causes|likely cause|probable cause|"
        "as if|what if|if you|if i|if he|if she|if it|if there|let me know if|presents with his mother|"
        "presents with her mother|presents with his father|"
        "presents with her father|comes in with his mother|comes in with her mother|accompanied by his mother|"
        "accompanied by her mother|accompanied by mother|brought in by his mother|brought in by her mother|"
        "past weeks|past months|past years|past days|no improvement|no benefit|no response|no effect|not help|"
        "n't help|"
        "not helped|n't helped|not helping|n't helping|not respond|n't respond|not responded|not work|n't work|"
        "not improve|n't improve|not improved|n't improved|not relieve|n't relieve|not relieved|n't relieved|"
        "not better|not get better|n't get better|not too sure|never felt|can't stop|cannot stop|not treated for"
    ),
}


_KIN = "mother|father|mom|dad|brother|sister|son|daughter|aunt|uncle|grandmother|grandfather|parents|parent|family"
_OWNERS = ("", "his ", "her ", "the ", "their ")
_BROUGHT = ("brought in by", "brought by", "accompanied by", "per", "according to", "lives with", "here with", "told")
_TELLS = (
    "states|reports|says|denies|notes|noted|reported|stated|called|describes|feels|noticed|thinks|concerned|at bedside"
)
_SHOWN = (
    "seen noted found identified detected diagnosed reported present given taken used started needed required "
    "performed done demonstrated visualized observed appreciated evident confirmed indicated recommended prescribed "
    "documented felt described elicited mentioned"
).split()
_NOT_HAD = "|".join(
    f"not {done}" for done in (*_SHOWN, "had", "required", "req", "tolerated", "continued", "restarted")
)
_NOT_SHOWN = ("was not", "were not", "is not", "are not", "has not been", "have not been", "was never")
_TRIGGERS["negated", "back"] += "".join(f"|{was} {shown}" for was in _NOT_SHOWN for shown in _SHOWN) + f"|{_NOT_HAD}"
_TRIGGERS["negated", "near"] += "".join(  # "was not given steroids"
    f"|{was}{done}"
    for was in ("not ", *(f"{was} " for was in _NOT_SHOWN))
    for done in "given prescribed taken used needed required had received started".split()
)
# a relative who tells of the patient: "brought in by mother", "mother reports"
_TRIGGERS["pseudo", ""] += "".join(
    [f"|{before} {owner}{kin}" for before in _BROUGHT for owner in _OWNERS for kin in _KIN.split("|")]
    + [f"|{kin} {verb}" for kin in _KIN.split("|") for verb in _TELLS.split("|")]
    + ["|non rebreather|non small|non st|non stemi|non insulin|non healing|not only"]
)


Meaning = tuple[str, str]  # kind, direction


def _phrase_table() -> tuple[dict[tuple[str, ...], list[Meaning]], dict[str, int]]:
    """Map each phrase to its meanings (at most two), and each first word to the length of its longest phrase."""
    meanings: dict[tuple[str, ...], list[Meaning]] = {}
    longest: dict[str, int] = {}
    for meaning, phrases in _TRIGGERS.items():
        for phrase in phrases.split("|"):
            words = tuple(token.word for token in tokens_of(phrase))
            meanings.setdefault(words, []).append(meaning)
            longest[words[0]] = max(longest.get(words[0], 0), len(words))
    return meanings, longest


_MEANINGS, _LONGEST = _phrase_table()


class _Trigger(NamedTuple):
    kind: str
    direction: str
    start: int
    end: int


def _triggers(tokens: Sequence[Token], taken: Sequence[Span]) -> list[_Trigger]:
    """Return the triggers among the tokens. The first word of a finding ("no appetite") is not a trigger."""
    found: list[_Trigger] = []
    inside = {start for start, _ in taken}
    index = 0
    while index < len(tokens):
        word, start, _ = tokens[index]
        length = _phrase_length(tokens, index) if word in _LONGEST and start not in inside else 0
        if length:
            phrase = tokens[index : index + length]
            for kind, direction in _MEANINGS[tuple(token.word for token in phrase)]:
                found.append(_Trigger(kind, direction, start, phrase[-1].end))
        index += length or 1
    return found


def _phrase_length(tokens: Sequence[Token], index: int) -> int:
    """Return the number of words in the longest phrase that begins at `index`, 0 if there is none."""
    words = tuple(token.word for token in tokens[index : index + _LONGEST[tokens[index].word]])
    return next((length for length in range(len(words), 0, -1) if words[:length] in _MEANINGS), 0)


_LIST_GAP = re.compile(
    r"[\s,]*(?:(?:and/or|and|or|nor|any|no|and no|or any|plus|uses?|utilizes?|consumes?|takes?|abuses?)[\s,]*)*"
    r"(?:(?!as |so |since )[a-z]+ )?",
    re.IGNORECASE,
)


# "no lytic - on apixaban", "cultures neg -> amp stopped"; not "denies - fever"
_DASH = re.compile(
    r"(?<!denies)(?<!denied)(?<!denying)(?<!negative)(?<!positive)(?<!no)(?<!\bof)(?<=[\w)%]) [–—-] (?=[\w(])"
    r"|->|→|=>",
    re.IGNORECASE,
)
_REACH = 1500  # characters that a trigger can govern, a limit for texts without sentence ends


def _end_of(sentence: str) -> list[Token]:
    """Return a full stop for a sentence without one, so that phrases which a full stop closes are found there too."""
    return [] if sentence.endswith((".", "?", "!", ";")) else [Token(".", len(sentence), len(sentence))]


@lru_cache(maxsize=20_000)
def scopes(sentence: str, findings: tuple[Span, ...]) -> tuple[frozenset[str], ...]:
    """Return the flags (`negated`, `uncertain`, `historical`, `family`) of each finding of one sentence.

    `findings` are sorted spans in the sentence. Results are cached, because texts that differ in one place share most
    of their sentences.
    """
    flags: list[set[str]] = [set() for _ in findings]
    triggers = _triggers([*tokens_of(sentence), *_end_of(sentence)], findings)
    dashes = [match.start() for match in _DASH.finditer(sentence)]
    every_end = sorted([*dashes, *(trigger.start for trigger in triggers if trigger.kind == "end")])
    hard_ends = [trigger.start for trigger in triggers if trigger[:2] == ("end", "end")]
    starts = [start for start, _ in findings]
    for trigger in triggers:
        if trigger.kind in ("end", "pseudo"):
            continue
        ends = hard_ends if trigger.kind == "family" else every_end
        segment = bisect_right(ends, trigger.start)
        near = range(bisect_left(starts, trigger.start - _REACH), bisect_right(starts, trigger.end + _REACH))
        inside = [i for i in near if bisect_right(ends, starts[i]) == segment]
        for i in _governed(sentence, trigger, findings, inside):
            flags[i].add(trigger.kind)
    return tuple(map(frozenset, flags))


def _governed(text: str, trigger: _Trigger, findings: Sequence[Span], inside: Sequence[int]) -> list[int]:
    """Return the indices of the findings that the trigger governs. `inside` are the indices of its segment."""
    after = [i for i in inside if findings[i][0] >= trigger.end]
    before = [i for i in inside if findings[i][1] <= trigger.start][::-1]
    if trigger.direction == "all":
        return list(inside)
    if trigger.direction == "wide":
        return after
    if trigger.direction == "near":
        return _run(text, trigger, findings, after, 0 if text[trigger.start : trigger.end].lower() == "non" else 5)
    if trigger.direction == "run":
        return _run(text, trigger, findings, after, 4)
    return _run(text, trigger, findings, before, 3)


def _run(
    text: str, trigger: _Trigger, findings: Sequence[Span], nearest_first: Sequence[int], max_words: int
) -> list[int]:
    """Return the nearest finding, at most `max_words` from the trigger, and the findings joined to it in a list.

    `nearest_first` are the indices of the findings on one side of the trigger.
    """
    run: list[int] = []
    last = (trigger.start, trigger.end)
    for i in nearest_first:
        gap = _between(text, last, findings[i])
        if not run and ("," in gap or len(gap.split()) > max_words):
            break
        if run and not _LIST_GAP.fullmatch(gap):
            break
        run.append(i)
        last = findings[i]
    return run


def _between(text: str, first: Span, second: Span) -> str:
    """Return the text between two spans, in either order, or "" if they overlap."""
    return text[min(first[1], second[1]) : max(first[0], second[0])]


# ------------------------------------------------------------------------------- question and answer

_FILLER = (
    r"^\W*(?:(?:um+|uh+|er|oh|ah|well|actually|hmm?|okay|ok|alright|so|let's see|let me think|doctor|honestly|"
    r"luckily|"
    r"thankfully|fortunately|unfortunately|thank (?:god|goodness|you)|hopefully|i mean|no idea but|sir|ma'am|see|"
    r"good question|as of now|not really sure but)\W+)*"
)
_NO = re.compile(
    _FILLER + r"(?:no|nope|nah|none|never|negative|neither|nothing|zero|"
    r"not(?! (?:too |so |that |very |really )?(?:bad|good|great|well)\b)|"
    r"(?:absolutely|definitely|certainly|of course|probably) not|i don't know of any|"
    r"(?:i|we|they|you) (?:(?:do|have|did|am|was|are|were|had) ?(?:not|n't)|don't|haven't|didn't|wasn't|aren't|"
    r"never)|"
    r"i'm not|i've (?:never|not)|i can't (?:think|say|recall)|(?:everything|all|that|it)(?:'s| is| seems?| has been) "
    r"(?:all |pretty |just |been )?(?:fine|good|normal|okay|clear|negative)|all (?:good|normal|fine|clear)|"
    r"(?:he|she|it|that|there) (?:(?:does|has|did|is|was) ?(?:not|n't)|doesn't|hasn't|didn't|isn't|wasn't|never))\b"
    r"|^[^.?!,]{0,25}, (?:no|nope)\b",
    re.IGNORECASE,
)
_UNSURE = re.compile(
    _FILLER + r"(?:not (?:sure|really sure|certain|that sure)|i(?:'m| am) not (?:sure|certain|positive)|"
    r"i don't (?:know|remember|recall)(?! (?:of )?any)|no (?:idea|clue))",
    re.IGNORECASE,
)
_YES = re.compile(
    _FILLER + r"(?:yes|yeah|yep|yup|yea|ye|correct|right|that(?:'s| is| would be) (?:right|correct|true)|both|sure|"
    r"(?:absolutely|certainly|definitely|of course)(?! not)|exactly|indeed|true|you(?:'re| are) right|you bet|"
    r"i think so|i believe so|mm-?hm+|uh-?huh|sometimes|"
    r"occasionally|often|always|all the time|once in a while|every now and then|now and then|a little|a bit|just a|"
    r"(?:i|we|he|she|it|they) (?:do|does|am|is|are|have|has|did|was|were|had)"
    r"(?=\s*(?:[,.;!?]|$|and\b|but\b|indeed\b|that\b|those\b|it\b|too\b|sometimes\b)))(?![\w'])",
    re.IGNORECASE,
)
# such a question presupposes its finding: "How long have you had the fever?"
_PRESUPPOSING = re.compile(
    r"(?:\[?\w+\]?:\s*)?(?:[^,.?]{0,30},\s*|(?:okay|so|and|well|alright|great|good|now|remind me|but|then|exactly|"
    r"do you (?:know|remember|recall)|(?:can|could) you (?:tell me|describe)|tell me)\s+)*"
    r"(?:when|where|why|which|who|since when|(?:for|in|at|to|on) (?:how|what|which)|"
    r"how (?:long|much|many|often|bad|severe|old|far|would|did|do|does|is|are|was|were|has|have)|"
    r"what (?!about|(?:is|are|was|were) (?:the results?|your)\b))\b",
    re.IGNORECASE,
)


_QUESTION = re.compile(
    r"(?:(?:\[?\w+\]?:?\s*)?(?:okay|so|and|or|that,? or|well|alright|great)?\W*)?"
    r"(?:any|do you|did you|have you|are you|were you|"
    r"has (?:he|she)|does (?:he|she)|how about|what about|is there|was there)\b[^?]*[.]?$",
    re.IGNORECASE,
)


ANSWERS = frozenset({"negated", "uncertain", "asked"})  # the flags that `answer_flag` returns


def is_question(sentence: str, in_dialogue: bool) -> bool:
    """Return whether a sentence is a question. In a dialogue, the question mark may be missing."""
    return sentence.endswith("?") or (in_dialogue and (sentence.endswith("-") or bool(_QUESTION.match(sentence))))


def answer_flag(text: str, sentence: Span, following: Span | None, turns: Sequence[Turn]) -> str | None:
    """Return the flag that the answer gives to the findings of a question, or None if the answer confirms them.

    `negated`: the answer is no. `uncertain`: the speaker is not sure. `asked`: the rules do not understand the answer.
    `following` is the next sentence, which is the answer in a text without turns ("Any fever? No.").
    """
    if _PRESUPPOSING.match(text[slice(*sentence)]):
        return None
    turn = turn_at(turns, sentence[1])
    if turn is not None:
        answer = text[turns[turn + 1].start : turns[turn + 1].end] if turn + 1 < len(turns) else ""
    else:
        answer = text[slice(*following)] if following else ""
    if _UNSURE.match(answer):
        return "uncertain"
    if _NO.match(answer):
        return "negated"
    return None if _YES.match(answer) else "asked"
