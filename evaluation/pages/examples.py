"""Prepare one note and its summaries for a page: errors marked and numbered, citations, figures, what is missing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from clinical.facts import sentences
from evaluation.pages.marked_text import Part, Span, note_pieces, number_flags, parts_of, segments
from evaluation.result_files import CITATION_KEYS, MISSING_KEYS, SPAN_KEYS, VERDICTS, Row, listed
from script_io.word_differences import word_differences

Bounds = Sequence[tuple[int, int]]


def make_example(anchor: str, verdict: str, sides: Mapping[str, Row], model: str = "") -> dict[str, Any]:
    """Return what the page shows of one note and its summaries, given as {title: row}.

    With several summaries, the words are marked that they do not share. Files that the page saves name the model of a
    summary: `model`, or else its title.
    """
    rows = list(sides.values())
    note, bounds = rows[0]["clinical_note"], sentences(rows[0]["clinical_note"])
    flags = number_flags([listed(row, "unsupported_spans", SPAN_KEYS) for row in rows], bounds, anchor)
    citations = [listed(row, "citations", CITATION_KEYS) for row in rows]
    errors = [flag for side in flags for flag in side if flag.number]
    cited = {number for side in citations for citation in side for number in citation["sentences"]}
    different = word_differences([row["generated_summary"] for row in rows]) if len(rows) > 1 else [[]]
    return {
        "id": rows[0]["example_id"],
        "anchor": anchor,
        "verdict": verdict,
        "claims": json.dumps([[flag.span["verdict"], flag.span["type"]] for flag in errors], ensure_ascii=False),
        "order": _order(rows),
        "note": note_pieces(note, bounds, errors, cited),
        "reference": _reference(rows),
        "sides": [
            {
                **_side(title, row, len(bounds)),
                "model": model or title,
                "segments": segments(row["generated_summary"], side_flags, spans),
                "errors": [flag for flag in side_flags if flag.number],
            }
            for (title, row), side_flags, spans in zip(sides.items(), flags, different, strict=True)
        ],
    }


def _side(title: str, row: Row, sentences_in_note: int) -> dict[str, Any]:
    return {
        "title": title,
        "verdict": VERDICTS[row["has_hallucination"]],
        "judged": row["has_hallucination"],
        "score": row.get("hallucination_score", ""),
        "coverage": row.get("coverage", ""),
        "key": _key(row),
        "citations": [_citation(each, sentences_in_note) for each in listed(row, "citations", CITATION_KEYS)],
        "figures": _figures(row),
        "missing": [_missing(each) for each in listed(row, "missing_facts", MISSING_KEYS)],
    }


def _key(row: Row) -> str:
    """Return a digest of note, summary and verdict, under which the browser keeps the reader's mark."""
    texts = (row["clinical_note"], row["generated_summary"], row["has_hallucination"])
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def _order(rows: Sequence[Row]) -> dict[str, float]:
    """Return the numbers that sort the examples: the highest of several summaries, of coverage the lowest."""
    scores = [float(row["hallucination_score"]) for row in rows if row.get("hallucination_score")]
    covered = [float(row["coverage"]) for row in rows if row.get("coverage")]
    return {
        "score": max(scores, default=-1.0),
        "length": max(len(row["generated_summary"].split()) for row in rows),
        "coverage": min(covered, default=2.0),  # after all that are known
    }


def _reference(rows: Sequence[Row]) -> list[Part]:
    """Return the reference, with the facts marked that at least one of the summaries does not state."""
    reference = rows[0].get("reference_summary", "")
    same = [row for row in rows if row.get("reference_summary", "") == reference]
    missing = [fact for row in same for fact in listed(row, "missing_facts", MISSING_KEYS)]
    return parts_of(reference, [(fact["start"], fact["end"]) for fact in missing])


def _missing(fact: Span) -> dict[str, str]:
    """Return the words of a fact with its subject, such as `500 mg (metformin)`, and its kind."""
    text = " ".join(fact["text"].split())
    named = fact["type"] == "sex" or fact["key"].lower() in text.lower()
    return {
        "text": ("no " if fact["negated"] else "") + text + ("" if named else f" ({fact['key']})"),
        "type": fact["type"].replace("_", " "),
    }


def _citation(citation: Span, sentences_in_note: int) -> dict[str, Any]:
    """Return the text of a citation, its verdict in words, and the cited sentences that exist."""
    found = [number for number in citation["sentences"] if 1 <= number <= sentences_in_note]
    if not citation["exists"]:
        judgement = "the note has no such sentence" if citation["sentences"] else "cannot be read as a citation"
    else:
        words = {True: "supports the statement", False: "does not support the statement"}
        judgement = words.get(citation["supported"], "cannot be checked by rules")
    return {"text": citation["text"], "judgement": judgement, "sentences": found}


def _figures(row: Row) -> str:
    """Return the known figures of a summary: `3 of 4 claims supported; coverage 50%; 17 words; 1.2 s`."""
    words = len(row["generated_summary"].split())
    parts = (
        row.get("claims") and f"{row['claims_supported']} of {row['claims']} claims supported",
        row.get("coverage") and f"coverage {float(row['coverage']):.0%}",
        f"{words} word{'s' if words != 1 else ''}",
        row.get("finished") == "0" and "cut off at the token limit",
        row.get("repeated") == "1" and "repeats itself",
        row.get("seconds") and f"{float(row['seconds']):.1f} s",
    )
    return "; ".join(part for part in parts if part)
