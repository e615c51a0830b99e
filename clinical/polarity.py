"""Read the polarity of findings in typed notes: signs, check boxes, fields and labelled lists.

`clinical.scope` reads polarity from words ("denies fever"). This module reads it from notation:

signs         (-) fever, -cough, +DOE, COVID (+), HIV -, ?pneumonia
check boxes   [ ] Diabetes, [x] Hypertension, Fever: [ ] yes [x] no
fields        Diabetes: No; Fever: absent; Smoker: former; Stroke: unknown
lists         Pertinent negatives: fever, chills

A field or sign that the rules do not understand makes its findings open, which is neither affirmed nor denied.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from clinical.values import Fact, ignoring_case

NEGATED, AFFIRMED, OPEN, UNCERTAIN, HISTORICAL = "negated", "affirmed", "open", "uncertain", "historical"
Mark = tuple[int, int, str]  # start and end of the text that a mark governs, and its polarity


def marked_polarity(text: str, findings: Sequence[Fact]) -> dict[int, str]:
    """Map the index of each finding whose polarity is marked by notation to NEGATED, AFFIRMED, OPEN, ...

    `findings` are sorted by start. Boxes win over fields, and fields over signs.
    """
    starts = [fact.start for fact in findings]
    polarity: dict[int, str] = {}
    for marks in (_signs(text, findings), _fields(text, findings), _boxes(text)):
        for start, end, mark in marks:
            for index in range(bisect_left(starts, start), bisect_left(starts, end)):
                polarity[index] = mark
    return polarity


# ---------------------------------------------------------------------------------------------- signs

_MINUS = "–−-"  # the hyphen is last, because it would be a range elsewhere in a class
_SIGN_BEFORE = re.compile(
    rf"\((?P<bracketed>[+{_MINUS}]|\+/-|neg|pos)\)(?=[ ]?[A-Za-z])"
    rf"|(?<![\w)\]>+.-])(?P<attached>[+{_MINUS}])(?=[A-Za-z(])"
    r"|(?:(?<=[,:;(] )|(?<=^)|(?<=\n))(?P<spaced>\+)[ ](?=[A-Za-z])"
)
_SIGN_AFTER = re.compile(
    rf"[ ]?(?:\((?P<bracketed>[+{_MINUS}]|neg|pos)\)|"
    rf"(?P<plain>[+{_MINUS}])(?=\s*(?:[,;.)\n]|$)))"
)
_QUESTIONED = re.compile(r"(?<![\w?])\?[ ]?(?=[A-Za-z])")
_ENDS_SIGN = re.compile(
    r"[.;:\n]|[(\s,/][-+–−](?=[A-Za-z(])|\([-+–−]\)|\s\+ |\b(?:but|no|not|denies|without|nor)\b", re.IGNORECASE
)
_COMMA = re.compile(r",")
_POSITIVE = frozenset({"+", "pos"})


def _signs(text: str, findings: Sequence[Fact]) -> Iterator[Mark]:
    if not any(sign in text for sign in ("+", "?", "(", *_MINUS)):
        return
    matches = list(_SIGN_BEFORE.finditer(text))
    inline = [match for match in matches if not _opens_line(text, match)]
    for match in matches:
        sign = match["bracketed"] or match["attached"] or match["spaced"]
        if sign not in _POSITIVE and _opens_line(text, match) and not match["bracketed"] and not inline:
            continue  # "-cough" at the starts of lines only: bullets
        mark = OPEN if sign == "+/-" else AFFIRMED if sign in _POSITIVE else NEGATED
        stop = _ENDS_SIGN.search(text, match.end())
        end = stop.start() if stop else len(text)
        comma = _COMMA.search(text, match.end(), end)
        yield match.end(), end, mark
        if comma and match["attached"] and mark == NEGATED:
            yield comma.end(), end, OPEN  # "-fever, chills": the sign may or may not govern the chills
    for match in _QUESTIONED.finditer(text):
        yield match.end(), match.end() + 1, UNCERTAIN
    for fact in findings:
        if after := _SIGN_AFTER.match(text, fact.end):
            sign = after["bracketed"] or after["plain"]
            yield fact.start, fact.start + 1, AFFIRMED if sign in _POSITIVE else NEGATED


def _opens_line(text: str, match: re.Match[str]) -> bool:
    index = match.start() - 1
    while index >= 0 and text[index] in " \t":
        index -= 1
    return index < 0 or text[index] == "\n"


# ---------------------------------------------------------------------------------------- check boxes

_BOX = re.compile(r"\[(?P<tick>[ xX✓✔*]?)\]|(?P<empty>[☐□◻])|(?P<full>[☑☒■✓✔])")
_YES_NO = ignoring_case(r"[ ]?\b(?P<word>yes|no|y|n)\b")
_YES_NO_BEFORE = ignoring_case(r"\b(?P<word>yes|no|y|n)[ ]?$")


def _boxes(text: str) -> Iterator[Mark]:
    matches = list(_BOX.finditer(text))
    starts = [match.start() for match in matches]
    for line_start, line in _lines(text) if matches else ():
        boxes = matches[bisect_left(starts, line_start) : bisect_left(starts, line_start + len(line))]
        if not boxes:
            continue
        words = [_answer_of(text, box, line_start) for box in boxes]
        if all(words):
            ticked = {word for box, word in zip(boxes, words, strict=True) if _is_ticked(box)}
            mark = AFFIRMED if ticked == {"y"} else NEGATED if ticked == {"n"} else OPEN
            yield line_start, line_start + len(line), mark
            continue
        ends = [box.start() for box in boxes[1:]] + [line_start + len(line)]
        for box, end in zip(boxes, ends, strict=True):
            yield box.end(), end, AFFIRMED if _is_ticked(box) else NEGATED


def _answer_of(text: str, box: re.Match[str], line_start: int) -> str | None:
    """Return "y" or "n" for a box that is labelled yes or no, else None."""
    match = _YES_NO.match(text, box.end()) or _YES_NO_BEFORE.search(
        text, max(line_start, box.start() - len("yes ")), box.start()
    )
    return match["word"][0].lower() if match else None


def _is_ticked(box: re.Match[str]) -> bool:
    return bool((box["tick"] or "").strip() or box["full"])


def _lines(text: str) -> Iterator[tuple[int, str]]:
    start = 0
    for line in text.split("\n"):
        yield start, line
        start += len(line) + 1


# --------------------------------------------------------------------------------------------- fields

_FIELD = re.compile(
    r"(?P<label>[A-Za-z(][^:;.\n]{1,60}?)[ ]?:[ \t]*(?P<value>[^;\n]*?)"
    r"(?=[ \t]*(?:$|[;\n]|\.(?:\s|$)|[ \t]{2,}[A-Z]|,?[ ](?:[A-Z][\w/-]*)(?:[ ][\w/-]+){0,3}:|"
    r",[ ][a-z][\w-]*(?:[ ][\w-]+)?:))",
    re.MULTILINE,
)
_AT_THIS_TIME = (
    r"(?:known|history|current(?:ly)?|complaints?|reported|at (?:this|present)|evidence|present|to date|ever)"
)
_NO_VALUE = ignoring_case(
    r"(?:(?:none|neg|negative|denie[sd]|denies any|absent|not present|nil|never|"
    r"non[ -]?(?:reactive|smoker|drinker|user)|not detected|"
    r"not reported|"
    r"not taking|not on|undetect(?:ed|able)|nad|ø)\b(?! \w+ed by)"
    rf"|(?:no|n|false|0|[-–−]|\([-–−]\))(?=\s*(?:$|[,.;(/]|{_AT_THIS_TIME}\b)))"
)
_YES_VALUE = ignoring_case(
    r"(?:yes|y|pos|positive|present|current|ongoing|active|true|taking|continue[sd]?|known|since|see|diagnosed|"
    r"controlled|well|poorly|stable|improv\w+|worse\w*|chronic|acute|mild|moderate|severe|likely|on|as|with|"
    r"detected|reactive|x|\+|\(\+\)|[\d~<>≥≤])(?!\w)"
)
_PAST_VALUE = ignoring_case(r"(?:former(?:ly)?|past|quit|ex|previous(?:ly)?|remote|resolved|stopped|gave up)\b")
_MAYBE_VALUE = ignoring_case(r"(?:possible|possibly|suspected|probable|likely|rule out|r/o|maybe)\b")
_UNKNOWN_VALUE = ignoring_case(
    r"(?:unknown|unsure|n/?a\b|not (?:assessed|asked|known|documented|done|obtained|applicable|recorded|tested)|"
    r"deferred|unable|refused|declined|pending|\?|-{2,}|_+|unobtainable|unclear|tbd)"
)
_LABELLED_LIST = ignoring_case(
    r"(?:.*\b)?(?P<no>negatives?|denie[sd]|absent|not present|denying)\s*$|(?:.*\b)?(?P<yes>positives?|present|"
    r"reports)\s*$"
)
_EXPLAINED = 3  # words from which a value is a text about the finding ("AKI: creatinine rose to 2.4")


def _fields(text: str, findings: Sequence[Fact]) -> Iterator[Mark]:
    if ":" not in text:
        return
    starts = [fact.start for fact in findings]
    for match in _FIELD.finditer(text):
        start, end = match.span("label")
        value = match["value"].strip()
        if listed := _LABELLED_LIST.fullmatch(match["label"].strip()):
            stop = text.find("\n", match.end("label"))
            limit = len(text) if stop < 0 else stop
            period = re.compile(r"[.;](?:\s|$)").search(text, match.start("value"), limit)
            yield match.start("value"), period.start() if period else limit, NEGATED if listed["no"] else AFFIRMED
            continue
        index = bisect_left(starts, start)
        if index < len(findings) and findings[index].end <= end and value:
            yield start, end, value_polarity(value)


def value_polarity(value: str) -> str:
    """Return what the value of a field says of the finding in its label. OPEN: the rules do not understand it."""
    for pattern, polarity in (
        (_UNKNOWN_VALUE, OPEN),
        (_NO_VALUE, NEGATED),
        (_PAST_VALUE, HISTORICAL),
        (_MAYBE_VALUE, UNCERTAIN),
        (_YES_VALUE, AFFIRMED),
    ):
        if pattern.match(value):
            return polarity
    if re.match(r"no\b", value, re.IGNORECASE):
        return OPEN  # "Chest pain: no relief from nitroglycerin"
    return AFFIRMED if len(value.split()) >= _EXPLAINED or re.search(r"\d", value) else OPEN
