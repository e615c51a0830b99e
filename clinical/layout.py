"""Read the layout of a written note: lines that continue a sentence, headings, and what a section is about.

Notes are often wrapped at a fixed width ("hard wraps"). `unwrapped` returns such a text with spaces in place of the
line breaks inside a sentence. A line that opens an item (a bullet, a number, a heading) always begins anew.
`sections` finds the parts whose heading says whose findings they hold, such as FAMILY HISTORY.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

_OPENS_ITEM = re.compile(
    r"\s*(?:[*•·▪◦‣>#]|[-–—](?=\s)|\(?\d{1,2}[.)](?=\s)|[a-z][.)]\s|\[[ xX✓]?\]|[☐☑☒✓✗]"
    r"|\[?(?:[A-Z][\w()'’/&+-]*|[a-z]+)(?: [\w()'’/&+-]+){0,4}:(?!\d))"
)
_SIGNED = re.compile(r"\s*(?:\([-+]\)|[-+])[A-Za-z]")
_ENDS_SENTENCE = re.compile(r"[.?!;][\"')\]]*\s*$")
# a line that ends with such a word, a comma or a slash is not complete
_INCOMPLETE = re.compile(
    r"(?:[,/&+=(]|(?<!\w)-|->|→|(?<!: )\b(?:a|an|and|are|as|at|by|denie[sd]|denying|for|from|had|has|have|her|his|in|"
    r"into|is|no|"
    r"nor|not|of|on|or|per|than|that|the|their|to|twice|via|was|were|which|who|with|without|w/o?|h/o|s/p|c/o|"
    r"r/o))\s*$",
    re.IGNORECASE,
)
_CONTINUATION = re.compile(r"\s*(?:->|→|=>|\d[\d.,]* ?(?:mg|mcg|g|ml|units?|%|tablets?)(?!\w))", re.IGNORECASE)
_FIRST_WORD = re.compile(r"\s*(\S+)")
# A greedy wrap breaks a line only where the next word does not fit. Lists of short items can look like that by chance,
# so a narrow text needs more of such breaks.
_WIDE, _NARROW = 40, 20  # characters
_FEWEST_BREAKS = {_WIDE: 2, _NARROW: 6}
_SHARE_OF_BREAKS = 0.75
_FEW_CAPITALS = 0.8  # share of the lines that begin with a small letter
_GAP_BETWEEN_FIELDS = re.compile(r"(?<=[\w)\]%+]) [ \t](?=[ \t]*[A-Z\[☐☑])")


def laid_out(text: str) -> str:
    """Return `text` unwrapped, with a full stop in the gaps between fields on one line; its length is unchanged.

    "Stroke: No    Seizures: Yes" becomes "Stroke: No.   Seizures: Yes".
    """
    return _GAP_BETWEEN_FIELDS.sub(". ", unwrapped(text)) if "  " in text else unwrapped(text)


def unwrapped(text: str) -> str:
    """Return `text` with a space in place of each line break inside a sentence; its length is unchanged."""
    if "\n" not in text:
        return text
    lines = text.split("\n")
    breaks = list(pairwise(lines))
    inner = [not _is_boundary(*each) for each in breaks]
    width = max(len(line.rstrip()) for line in lines)
    full = [is_inner and not _fits(*each, width) for is_inner, each in zip(inner, breaks, strict=True)]
    is_wrapped = _is_wrapped(inner, full, width)
    starts_small = _share_of_small_starts(lines)
    pieces = [lines[0]]
    for is_inner, is_full, (line, following) in zip(inner, full, breaks, strict=True):
        soft = is_inner and _continues(line, following, is_full=is_full, is_wrapped=is_wrapped, small=starts_small)
        pieces += [" " if soft else "\n", following]
    return "".join(pieces)


def _is_boundary(line: str, following: str) -> bool:
    """Return whether the break ends a line at any width: at a blank line, a heading, an item, a sentence end."""
    if not line.strip() or not following.strip() or _ENDS_SENTENCE.search(line):
        return True
    return _OPENS_ITEM.match(following) is not None or _opens_signed_item(line, following)


def _opens_signed_item(line: str, following: str) -> bool:
    """Return whether "-cough" opens a line as a bullet or a sign, and does not continue a list of signs."""
    return _SIGNED.match(following) is not None and not line.rstrip().endswith(",")


def _fits(line: str, following: str, width: int) -> bool:
    first = _FIRST_WORD.match(following)
    return first is None or len(line.rstrip()) + 1 + len(first[1]) <= width


def _is_wrapped(inner: Sequence[bool], full: Sequence[bool], width: int) -> bool:
    """Return whether most breaks inside paragraphs are where a wrap at `width` would put them."""
    fewest = next((count for least, count in _FEWEST_BREAKS.items() if width >= least), 0)
    return 0 < fewest <= sum(full) and sum(full) >= _SHARE_OF_BREAKS * sum(inner)


def _share_of_small_starts(lines: Sequence[str]) -> float:
    starts = [line.lstrip()[0] for line in lines if line.strip()]
    return sum(start.islower() for start in starts) / len(starts) if starts else 0.0


def _continues(line: str, following: str, *, is_full: bool, is_wrapped: bool, small: float) -> bool:
    if _INCOMPLETE.search(line) or line.rstrip().endswith(":") or _CONTINUATION.match(following):
        return True
    start = following.lstrip()[0]
    if is_wrapped and is_full:
        return True
    # a list of lower-case items has few capitals at its line starts
    return (start.islower() or start in "(%") and (is_wrapped or small < _FEW_CAPITALS)


# ------------------------------------------------------------------------------------------- sections

FAMILY, ALLERGIES, OTHER = "family", "allergies", "other"
_HEADINGS = {
    heading: kind
    for kind, headings in (
        (
            FAMILY,
            "family history|family hx|fam hx|famhx|fhx|fh|fam|family medical history|family|fmh|family hist|"
            "family psych hx",
        ),
        (
            ALLERGIES,
            "allergies|allergy|drug allergies|drug allergy|allergies/intolerances|intolerances|"
            "adverse reactions|adrs|"
            "adr|allergies and intolerances|medication allergies|known allergies|all",
        ),
        (
            OTHER,
            "social history|social hx|social|soc hx|sochx|shx|sh|past medical history|pmh|pmhx|past history|"
            "medical history|past surgical history|psh|pshx|surgical history|medications|meds|home meds|current meds|"
            "current medications|home medications|medication|history of present illness|hpi|hx|history|"
            "review of systems|ros|physical exam|physical examination|exam|pe|o/e|on examination|vitals|vs|"
            "vital signs|obs|labs|imaging|assessment|plan|a/p|a&p|assessment and plan|impression|imp|dx|diagnosis|"
            "diagnoses|chief complaint|cc|pc|hpc|dh|dhx|disposition|dispo|follow-up|follow up|f/u|procedure|findings|"
            "hospital course|brief hospital course|course|subjective|objective|s|o|a|p|cxr|ecg|ekg|habits|"
            "immunizations|ob hx|gyn hx|obstetric history|occupation|lives|s/h|f/h|p/h|occ hx",
        ),
    )
    for heading in headings.split("|")
} | {"f/h": FAMILY}
_COLON = re.compile(r":")
_LABEL = re.compile(r"[A-Za-z][A-Za-z/&-]*(?: [A-Za-z/&-]+){0,3}$")
_LONGEST_LABEL = 40  # characters
_SENTENCE_STOP = re.compile(r"\n|(?<!\bdr)\.(?=\s|$)", re.IGNORECASE)
_INK = re.compile(r"\S")
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")
_LINE_LABEL = re.compile(r"(?m)^[ \t]{0,8}(?:[-*#•][ \t]{0,4})?[A-Z][\w /&()'-]{0,40}:")


@dataclass(frozen=True)
class Section:
    """The part `text[start:end]` after a heading, and what it is about: FAMILY or ALLERGIES."""

    start: int
    end: int
    kind: str


def sections(text: str) -> list[Section]:
    """Return the sections on family history and on allergies, in the order of the text.

    A section ends at the next known heading, at the next line with a label, or at a blank line after its content. If
    its heading is inside a line, it ends with its first sentence.
    """
    marks = [mark for colon in _COLON.finditer(text) if (mark := _known_heading(text, colon.start()))]
    if all(kind == OTHER for _, _, kind in marks):
        return []
    ends = [start for start, _, _ in marks] + [match.start() for match in _LINE_LABEL.finditer(text)]
    ends += [match.start() for match in _BLANK_LINE.finditer(text)]
    ends.sort()
    found = []
    for _, start, kind in marks:
        content = _INK.search(text, start)
        if kind != OTHER and content:
            index = bisect_right(ends, content.start())
            end = ends[index] if index < len(ends) else len(text)
            if "\n" not in text[start : content.start()]:
                stop = _SENTENCE_STOP.search(text, start, end)
                end = stop.start() if stop else end
            found.append(Section(start, end, kind))
    return found


def _known_heading(text: str, colon: int) -> tuple[int, int, str] | None:
    """Return (start of the heading, start of its content, kind) of the longest known heading before a colon."""
    first = max(0, colon - _LONGEST_LABEL)
    label = _LABEL.search(text[first:colon].rstrip(" \t"))
    if label is None:
        return None
    for word in re.finditer(r"\S+", label[0]):
        if kind := _HEADINGS.get(label[0][word.start() :].lower()):
            return first + label.start() + word.start(), colon + 1, kind
    return None


def opening_heading(line: str) -> str | None:
    """Return the known heading that a line opens with or consists of, in lower case ("HPI: …", "PLAN"), or None."""
    label = line.partition(":")[0].strip(" \t#*").lower()
    return label if label in _HEADINGS else None


def section_at(found: Sequence[Section], position: int) -> str | None:
    """Return the kind of the section that holds the position, or None."""
    last = bisect_right(found, position, key=lambda section: section.start)
    around = found[max(0, last - 2) : last]  # a section without content overlaps the next one, and no other
    return next((section.kind for section in around if position < section.end), None)
