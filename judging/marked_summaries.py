"""Read summaries whose unsupported words are marked, from every form in which the suite has them.

    labelled summaries     JSONL: clinical_note, generated_summary, unsupported (a list of the exact words), optionally
                           has_hallucination and dialogue_id
    ratings of people      manual_assessment.json of the rating tool; the texts come from evaluation_results.csv in the
                           same folder and from the files that manual_assessment.csv names. Where assessors disagree,
                           the ratings that agree with the decision, as the tool's report counts it, and none of a draw
                           that nobody has settled; of several rated files, blind ratings only
    judged summaries       evaluation_results.csv: the wrong claims of the judge
    hard negatives         JSONL of generate_phase2_data.py: the edits of the rejected text; the chosen text has none
    judged completions     preferences.jsonl of judge_completions.py: the rejected text has an error somewhere

A row that says that a summary has an error but not where gives a label for the summary only (`spans` is None).
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fact_checking.claims import UNSUPPORTED
from judging.packed_summaries import Span
from language_model.counted_tokens import spans_of_edits
from language_model.prompt_format import note_of_row
from script_io.csv_files import read_csv
from script_io.errors import InputError
from script_io.files import read_json, read_jsonl

RESULTS_FILE, RATINGS_TABLE = "evaluation_results.csv", "manual_assessment.csv"
_HAS_ERROR = {"hallucinated": True, "not hallucinated": False}  # verdicts of a rating; skipped ones are left out


@dataclass(frozen=True)
class MarkedSummary:
    """A summary of a note with its unsupported spans; `spans` is None if only `has_error` is known."""

    row_id: str
    note: str
    summary: str
    has_error: bool
    spans: tuple[Span, ...] | None


def read_marked(path: Path) -> list[MarkedSummary]:
    """Return the marked summaries of a file in any of the forms above, without blank ones.

    Raises InputError with the line if a row has none of these forms, or marks words that its summary lacks.
    """
    if path.suffix.lower() == ".csv":
        rows = list(_of_results(path))
    elif path.suffix.lower() == ".json":
        rows = list(_of_ratings(path))
    else:
        rows = [marked for line, row in read_jsonl(path, ()) for marked in _of_row(row, f"{path}, line {line}")]
    return [row for row in rows if row.summary.strip() and row.note.strip()]


def locate(words: Sequence[str], summary: str) -> list[Span] | None:
    """Return the place of each marked text, the first after the one before it; None if one is not in the summary."""
    spans: list[Span] = []
    after = 0
    for text in words:
        start = summary.find(text, after)
        start = summary.find(text) if start < 0 else start
        if start < 0 or not text:
            return None
        after = start + len(text)
        spans.append((start, after))
    return spans


def _of_row(row: Mapping[str, Any], place: str) -> Iterator[MarkedSummary]:
    try:
        note = note_of_row(row)
    except InputError as error:
        raise InputError(f"{place}: {error}") from error
    if note is None:
        raise InputError(f"{place}: has no clinical_note; give the note of the summary")
    row_id = str(row.get("id", place))
    if "generated_summary" in row:
        yield _labelled(row, row_id, note, place)
    elif "edits" in row:
        yield MarkedSummary(f"{row_id}-chosen", note, _text(row, "chosen", place), False, ())
        yield _negative(row, row_id, note, place)
    elif "chosen" in row and "rejected" in row:
        if not row.get("chosen_errors"):
            yield MarkedSummary(f"{row_id}-chosen", note, _text(row, "chosen", place), False, ())
        if row.get("rejected_errors", 1):
            yield MarkedSummary(f"{row_id}-rejected", note, _text(row, "rejected", place), True, None)
    else:
        raise InputError(f"{place}: has neither generated_summary nor chosen and rejected; see the forms in --help")


def _text(row: Mapping[str, Any], key: str, place: str) -> str:
    if not isinstance(row.get(key), str):
        raise InputError(f"{place}: {key} is missing or not a text; give it as one string")
    return str(row[key])


def _labelled(row: Mapping[str, Any], row_id: str, note: str, place: str) -> MarkedSummary:
    summary, words = _text(row, "generated_summary", place), row.get(UNSUPPORTED)
    if words is None and row.get("has_hallucination") in (0, 1):
        has_error = bool(row["has_hallucination"])
        return MarkedSummary(row_id, note, summary, has_error, None if has_error else ())
    if not isinstance(words, list) or not all(isinstance(each, str) for each in words):
        raise InputError(f"{place}: unsupported is not a list of texts; list the unsupported words, [] for none")
    spans = locate(words, summary)
    if spans is None:
        raise InputError(f"{place}: a text in unsupported is not in generated_summary; copy the words exactly")
    if bool(row.get("has_hallucination", bool(spans))) != bool(spans):
        raise InputError(f"{place}: has_hallucination and unsupported contradict each other; correct one of them")
    return MarkedSummary(row_id, note, summary, bool(spans), tuple(spans))


def _negative(row: Mapping[str, Any], row_id: str, note: str, place: str) -> MarkedSummary:
    """Return the rejected text with the new words of its edits, whose offsets are into the chosen text."""
    rejected = _text(row, "rejected", place)
    try:
        _, spans = spans_of_edits(row["edits"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{place}: its edits cannot be read; make the file with generate_phase2_data.py") from error
    written = tuple(span for span in spans if span[0] < span[1])  # an edit may only delete words
    return MarkedSummary(f"{row_id}-rejected", note, rejected, True, written or None)


def _of_results(path: Path) -> Iterator[MarkedSummary]:
    columns = ("example_id", "clinical_note", "generated_summary", "has_hallucination", "unsupported_spans")
    for line, row in read_csv(path, columns):
        if row["has_hallucination"] == "":  # the judge failed
            continue
        try:
            claims = json.loads(row["unsupported_spans"] or "[]")
            spans = tuple((int(claim["start"]), int(claim["end"])) for claim in claims if claim["level"] == "error")
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}, line {line}: unsupported_spans cannot be read; evaluate again") from error
        has_error = row["has_hallucination"] == "1"
        marked = (spans or None) if has_error else ()
        yield MarkedSummary(row["example_id"], row["clinical_note"], row["generated_summary"], has_error, marked)


def _of_ratings(path: Path) -> Iterator[MarkedSummary]:
    """Yield the rated summaries. A rating names its texts by their hash, as assessment/ratings.py computes it."""
    content = read_json(path, "rate summaries with manual_assessment_tool.py")
    files = _rated_files(path)
    rows = [row for file in files for _, row in read_csv(file, ("clinical_note", "generated_summary"))]
    texts = {_sha256(row["clinical_note"], row["generated_summary"]): row for row in rows}
    left_out = 0
    try:
        ratings = [rating for rating in content["ratings"] if len(files) == 1 or rating.get("blind")]
        for rating in _decided(ratings):
            row = texts.get(rating["text_sha256"])
            if row is None:
                left_out += 1
                continue
            has_error = _HAS_ERROR[rating["verdict"]]
            spans = tuple((error["start"], error["end"]) for error in rating["errors"] if error["end"] is not None)
            marked = (spans or None) if has_error else ()
            row_id = f"{rating['example_id']}-{rating['assessor']}"
            yield MarkedSummary(row_id, row["clinical_note"], row["generated_summary"], has_error, marked)
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: is not a file of ratings; rate summaries with manual_assessment_tool.py") from error
    if left_out:
        names = ", ".join(map(str, files))
        print(f"warning: {path}: {left_out} ratings are left out, of texts that are not in {names}", file=sys.stderr)


def _rated_files(path: Path) -> list[Path]:
    """Return the results next to a file of ratings, and the others that its table names, as far as they are there.

    The table names them as the command line of the rating tool did, from a folder above it or from the present one.
    """
    own, table = path.with_name(RESULTS_FILE), path.with_name(RATINGS_TABLE)
    names = [row["results_csv"] for _, row in read_csv(table, ("results_csv",))] if table.is_file() else []
    found = [own.resolve()] if own.is_file() else []
    for name in dict.fromkeys(names):
        places = [folder / name for folder in (*path.resolve().parents, Path())]
        found += [place.resolve() for place in places if place.is_file()][:1]
    return list(dict.fromkeys(found)) or [own]


def _decided(ratings: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield the ratings that agree with the decision on their summary, as assessment/tally.py makes it.

    The last adjudication decides and is yielded alone; without one, most assessors decide, and a draw has no label.
    """
    by_text: dict[str, list[Mapping[str, Any]]] = {}
    for rating in ratings:
        if rating["verdict"] in _HAS_ERROR:
            by_text.setdefault(rating["text_sha256"], []).append(rating)
    for group in by_text.values():
        settled = [rating for rating in group if rating.get("adjudication")]
        if settled:
            yield max(settled, key=lambda rating: str(rating.get("rated_at", "")))
            continue
        balance = sum(1 if _HAS_ERROR[rating["verdict"]] else -1 for rating in group)
        yield from (rating for rating in group if balance and _HAS_ERROR[rating["verdict"]] == (balance > 0))


def _sha256(note: str, summary: str) -> str:
    return hashlib.sha256(f"{note}\0{summary}".encode()).hexdigest()
