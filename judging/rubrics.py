"""Graded rubrics that a language model applies to a whole summary, next to the claims that it checks.

`pdsqi9` has the two items of PDSQI-9 on truth (Croxford et al. 2025, JAMIA, doi:10.1093/jamia/ocaf068). `risk` has the
four levels of MedVAL (Aali et al. 2025, arXiv:2507.03152). The grades are described in our words, so agreement that was
measured with the published wording does not carry over. Citations are graded in the format of this suite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Item:
    """A question about a summary that is answered by a whole number, with the meaning of each number."""

    name: str
    question: str
    grades: Mapping[int, str]
    reads_citations: bool = False


ACCURATE = Item(
    "accurate",
    "Is the summary true to the note? Fabrication states something that the note does not have; falsification changes "
    "a detail so that it no longer holds. A statement that repeats a mistake of the note is neither.",
    {
        1: "several major errors by fabrication or falsification",
        2: "one major error by fabrication or falsification",
        3: "at least one statement is from the note but in a wrong context, such as a diagnosis or treatment that is "
        "more or less specific than in the note",
        4: "at least one statement has the wrong source or time, but its diagnosis or treatment is right",
        5: "every statement can be traced to the note",
    },
)
CITED = Item(
    "cited",
    "Are citations present and right? A citation such as [Evidence: S1,3] follows its statement and names sentences of "
    "the note.",
    {
        1: "no citation, or several wrong ones",
        2: "one wrong citation, or citations in a group apart from the single statements",
        3: "all citations are right, but some statements have none",
        4: "every statement has right citations, and some of the relevant ones come first",
        5: "every statement has right citations, all in the order of their relevance",
    },
    reads_citations=True,
)
RISK = Item(
    "risk",
    "How much could differences from the note, statements as well as omissions, harm the patient?",
    {
        1: "no risk: no difference of clinical meaning",
        2: "low risk: slight or ambiguous differences that are unlikely to change a decision",
        3: "moderate risk: differences that could change the interpretation, the records or a decision",
        4: "high risk: at least one difference that could lead to a wrong or unsafe decision",
    },
)
RUBRICS: Mapping[str, tuple[Item, ...]] = {"pdsqi9": (ACCURATE, CITED), "risk": (RISK,)}


def grading_instructions(items: Sequence[Item]) -> str:
    """Return the part of a prompt that asks for the grades of these items, or "" without items."""
    if not items:
        return ""
    lines = ["Then grade the whole summary, and add to the object:", f'"grades": {{{_example(items)}}}']
    for item in items:
        lines.append(f"{item.name}: {item.question}")
        lines += [f"  {grade} = {meaning}" for grade, meaning in item.grades.items()]
    return "\n".join(lines)


def _example(items: Sequence[Item]) -> str:
    return ", ".join(f'"{item.name}": {max(item.grades)}' for item in items)


def grades_schema(items: Sequence[Item]) -> dict[str, Any]:
    """Return the JSON schema of the grades."""
    return {
        "type": "object",
        "properties": {item.name: {"type": "integer", "enum": list(item.grades)} for item in items},
        "required": [item.name for item in items],
        "additionalProperties": False,
    }


def read_grades(content: Any, items: Sequence[Item]) -> dict[str, int]:
    """Return the grades of a reply. Raises ValueError unless each item, and nothing else, has one of its grades."""
    if not isinstance(content, dict) or content.keys() != {item.name for item in items}:
        raise ValueError(f"grades must be an object with {', '.join(item.name for item in items)}")
    for item in items:
        if type(content[item.name]) is not int or content[item.name] not in item.grades:  # True is an int as well
            raise ValueError(f"the grade of {item.name} must be one of {', '.join(map(str, item.grades))}")
    return {item.name: content[item.name] for item in items}
