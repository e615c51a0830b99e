"""A summary with its fact check: how it is shown to people, and its columns in a file of summaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fact_checking.checker import check_summary
from fact_checking.claims import FactCheck
from fact_checking.explanation import doubtful_claims, explain_doubts, marked
from script_io.side_by_side import side_by_side
from script_io.word_differences import word_differences


@dataclass(frozen=True)
class CheckedSummary:
    """A summary of a note. `check` is None if it was not checked."""

    note: str
    text: str
    check: FactCheck | None

    def marked(self, differences: Sequence[tuple[int, int]] = (), *, colour: bool) -> str:
        """Return the summary with its differences and doubtful words marked."""
        return marked(self.text, doubtful_claims(self.check) if self.check else [], differences, colour=colour)

    def doubts(self, *, colour: bool) -> str:
        """Return the count of errors and the doubtful claims, with the numbers of their marks; "" without a check."""
        return explain_doubts(self.note, self.check, colour=colour) if self.check else ""

    def columns(self) -> dict[str, Any]:
        """Return the columns of the check; none without one.

        `doubtful_spans` lists the doubtful claims with their offsets in the summary, and `marked_summary` shows the
        number of each as [number words].
        """
        if self.check is None:
            return {}
        doubtful = doubtful_claims(self.check)
        return {
            "has_hallucination": int(self.check.has_hallucination),
            "hallucination_score": round(self.check.score, 6),
            "doubtful_spans": [{"number": number, **asdict(claim)} for number, claim in enumerate(doubtful, start=1)],
            "marked_summary": marked(self.text, doubtful, colour=False),
        }


def checked_summary(note: str, text: str, *, rules: bool) -> CheckedSummary:
    """Return a summary, checked against its note by the rules if `rules` is set."""
    return CheckedSummary(note, text, check_summary(note, text) if rules else None)


def shown(
    names: Sequence[str], summaries: Sequence[CheckedSummary], remarks: Sequence[str], *, width: int, colour: bool
) -> str:
    """Return the summary of a note, or the summaries of two models next to each other, with the differences marked.

    The doubts about each are listed below. `names` are the names of the models, `remarks` end the summaries, and
    `width` is that of the terminal in cells.
    """
    doubts = [each.doubts(colour=colour) for each in summaries]
    if len(summaries) == 1:
        text = _joined("\n", summaries[0].marked(colour=colour), remarks[0])
        return _joined("\n\n", text, doubts[0])
    differences = word_differences([each.text for each in summaries])
    texts = [
        _joined("\n", each.marked(spans, colour=colour), remark)
        for each, spans, remark in zip(summaries, differences, remarks, strict=True)
    ]
    table = side_by_side(names, texts, width=width, colour=colour)
    legend = f"Words that differ are {'underlined' if colour else 'in {braces}'}."
    return _joined(
        "\n\n", table, legend, *(f"{name}: {text}" for name, text in zip(names, doubts, strict=True) if text)
    )


def _joined(separator: str, *texts: str) -> str:
    return separator.join(filter(None, texts))
