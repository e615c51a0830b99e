"""Write a page on which a person can judge who is right when the fact checker and the truth disagree.

The page is self-contained, autoescaped HTML without a script. It shows note and summary next to each other, and marks
what the checker flagged and the sentence of the note that it was compared with. It contains the texts, so it is as
private as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jinja2

from fact_checking.claims import Claim
from script_io.files import atomic_write


@dataclass(frozen=True)
class Piece:
    """A part of a text; it is marked and carries its remark if `remark` is not None."""

    text: str
    remark: str | None = None


@dataclass(frozen=True)
class Disagreement:
    """A summary that the fact checker and the truth judge differently; `remark` is printed after its name."""

    name: str
    remark: str
    note: str
    summary: str
    errors: tuple[Claim, ...]

    def note_pieces(self) -> list[Piece]:
        """Return the note with the sentences marked that the errors were compared with."""
        found = ((e.evidence_start, e.evidence) for e in self.errors if e.evidence and e.evidence_start is not None)
        return pieces(self.note, [(start, start + len(evidence), "") for start, evidence in found])

    def summary_pieces(self) -> list[Piece]:
        """Return the summary with its errors marked by verdict and type."""
        return pieces(self.summary, [(e.start, e.end, f"{e.verdict}: {e.type}") for e in self.errors])


@dataclass(frozen=True)
class Section:
    """Summaries that are judged differently in the same way."""

    title: str
    explanation: str
    disagreements: Sequence[Disagreement]


@dataclass(frozen=True)
class Flag:
    """One error of a labelled summary."""

    name: str
    label: str
    claim: Claim


def pieces(text: str, spans: Iterable[tuple[int, int, str]]) -> list[Piece]:
    """Cut `text` at the (start, end, remark) spans; overlapping spans become one with all their remarks."""
    merged: list[tuple[int, int, list[str]]] = []
    for start, end, remark in sorted(spans):
        if merged and start < merged[-1][1]:
            first, last, remarks = merged[-1]
            merged[-1] = first, max(last, end), remarks if remark in remarks else [*remarks, remark]
        else:
            merged.append((start, end, [remark]))
    cut, position = [], 0
    for start, end, remarks in merged:
        cut += [Piece(text[position:start]), Piece(text[start:end], ", ".join(remarks))]
        position = end
    return [piece for piece in [*cut, Piece(text[position:])] if piece.text]


@cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("disagreements.html.j2")


def write_page(path: Path, title: str, lead: str, sections: Sequence[Section], flags: Sequence[Flag] = ()) -> None:
    """Write the page; a lone surrogate, which UTF-8 cannot encode, becomes a question mark."""
    page = _template().render(title=title, lead=lead, sections=sections, flags=flags)
    with atomic_write(path) as handle:
        handle.write(page.encode("utf-8", "replace").decode("utf-8"))
