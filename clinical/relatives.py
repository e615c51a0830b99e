"""Find the relatives who have a finding, named by a noun ("mother") or a pronoun ("he", "she").

In the patient's own words, "he" and "she" refer to another person: "My grandfather is gone. He had lymphoma."
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence

from clinical.text import Turn, turn_at

Span = tuple[int, int]
_KIN = (
    "mother|father|mom|dad|brother|sister|uncle|aunt|grandmother|grandfather|grandma|grandpa|son|daughter|cousin|parent|"
    "sibling"
)
_RELATIVE = re.compile(
    rf"\b(?:(?P<owner>mother|father|mom|dad)['’]s (?P<theirs>mother|father|mom|dad|brother|sister)"
    rf"|(?P<name>(?:(?:maternal|paternal) )?(?:{_KIN})|maternal|paternal))s?\b(?P<side>(?:['’]s?)? side)?",
    re.IGNORECASE,
)
_SAME = {"mom": "mother", "dad": "father", "grandma": "grandmother", "grandpa": "grandfather"}
_OF_PARENT = {"mother": "grandmother", "father": "grandfather", "brother": "uncle", "sister": "aunt"}
_SIDE_OF = {"mother": "maternal", "father": "paternal"}
_JOINED = re.compile(
    r"(?:\s|,|&|\band\b|\bor\b|\bboth\b|\bmy\b|\bhis\b|\bher\b|\byour\b|\bthe\b|\ba\b|\bher\b)*", re.IGNORECASE
)
_MALE = frozenset({"father", "brother", "uncle", "grandfather", "son"})
_FEMALE = frozenset({"mother", "sister", "aunt", "grandmother", "daughter"})
_PRONOUN = re.compile(
    r"(?:^|[.,:]\s*|\bthat |\band |\bbut |\bsaid |\bthink |\bbelieve |\b(?:problem|issue|condition|disease|illness)s? )"
    r"(?P<word>he|she|they)\b",
    re.IGNORECASE,
)
_REACH = 6  # sentences within which a pronoun can refer to the relative named last


def _name(match: re.Match[str]) -> str:
    """Return the normalised name: `mother`, `maternal uncle`, or `paternal` for the father's side."""
    if match["owner"]:
        owner, theirs = (_SAME.get(match[part].lower(), match[part].lower()) for part in ("owner", "theirs"))
        return f"{_SIDE_OF[owner]} {_OF_PARENT[theirs]}"
    *side, kin = match["name"].lower().split()
    return " ".join([*side, _SAME.get(kin, kin)])


class NamedRelatives:
    """The relatives that a sentence names, found once for all its findings."""

    def __init__(self, text: str, start: int, end: int) -> None:
        found = list(_RELATIVE.finditer(text, start, end))
        self._text = text
        self._mentions = [match for match in found if not match["side"]] or found

    def with_finding(self, start: int) -> list[str]:
        """Return the relatives who have the finding that starts at `start`.

        They are the relatives named last before the finding, else the relatives named first after it. Names joined by
        commas or "and" belong together.
        """
        before = bisect_right(self._mentions, start, key=lambda match: match.end())
        chosen: list[re.Match[str]] = []
        for index in range(before - 1, -1, -1) if before else range(len(self._mentions)):
            match = self._mentions[index]
            if chosen and not self._belong_together(match, chosen):
                break
            chosen.append(match)
        return [_name(match) for match in chosen]

    def _belong_together(self, match: re.Match[str], chosen: Sequence[re.Match[str]]) -> bool:
        first, second = sorted((match, chosen[-1]), key=lambda m: m.start())
        joined = _JOINED.fullmatch(self._text, first.end(), second.start())
        return joined is not None and _name(match) not in map(_name, chosen)


def relatives_meant(text: str, bounds: Sequence[Span], turns: Sequence[Turn]) -> dict[int, str]:
    """Map the number of each patient's sentence with a pronoun to the relative whom the pronoun refers to."""
    meant: dict[int, str] = {}
    if not any(turn.speaker == "patient" for turn in turns):
        return meant
    name, named_at = "", 0
    for index, (start, end) in enumerate(bounds):
        if found := list(_RELATIVE.finditer(text, start, end)):
            name, named_at = _name(found[-1]), index
            continue
        if not name or index - named_at > _REACH:
            continue
        turn = turn_at(turns, end)
        if turn is None or turns[turn].speaker != "patient":
            continue
        pronoun = _PRONOUN.search(text[max(start, turns[turn].start) : end])  # without the speaker's label
        if pronoun and _may_be(pronoun["word"].lower(), name):
            meant[index], named_at = name, index
    return meant


def _may_be(pronoun: str, name: str) -> bool:
    kin = name.split()[-1]
    return pronoun == "they" or kin not in (_FEMALE if pronoun == "he" else _MALE)


def same_relative(first: str, second: str) -> bool:
    """Return whether two names can mean the same relative: "uncle" and "maternal uncle", "parent" and "mother"."""
    sides = {"maternal", "paternal"}
    one, other = set(first.split()), set(second.split())
    if len((one | other) & sides) == 2:
        return False
    kin, other_kin = one - sides, other - sides
    if not kin or not other_kin:
        return True
    general = {"parent": {"mother", "father"}, "sibling": {"brother", "sister"}}
    return kin == other_kin or any(
        {wide} in (kin, other_kin) and (kin | other_kin) & some for wide, some in general.items()
    )
