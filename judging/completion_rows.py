"""Read sampled completions, and judge them with their references."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fact_checking.checker import coverage
from fact_checking.claims import FactCheck
from judging.judge import Judge
from judging.preference_pairs import JudgedCompletion
from language_model.prompt_format import note_of_row
from script_io.errors import InputError
from script_io.files import read_jsonl

COMPLETIONS_REMEDY = "make it with: python generate_completions.py"


@dataclass(frozen=True)
class CompletionsRow:
    """One prompt of the completions file."""

    row_id: str
    prompt: str
    note: str | None  # None if the row has no note and the prompt has another form than `build_prompt` gives
    reference: str | None
    completions: list[str]
    finished: list[bool]
    sound_reference: JudgedCompletion | None = None  # set if the judge finds no error in the reference

    @property
    def source(self) -> str:
        """Return the text that summaries are compared with: the note, or the whole prompt if the note is not known."""
        return self.prompt if self.note is None else self.note


def read_completions(path: Path) -> list[CompletionsRow]:
    """Return the rows of the file. Raises InputError with the line of a row that cannot be used."""
    rows = []
    for line, row in read_jsonl(path, ("prompt", "completions"), COMPLETIONS_REMEDY):
        problem = row_problem(row)
        if problem:
            raise InputError(f"{path}, line {line}: {problem}")
        reference = (row.get("reference") or "").strip() or None
        finished = row.get("finished") or [True] * len(row["completions"])
        row_id = str(row.get("id", f"line-{line}"))
        rows.append(CompletionsRow(row_id, row["prompt"], note_of_row(row), reference, row["completions"], finished))
    return rows


def row_problem(row: dict[str, Any]) -> str | None:
    """Return what makes a row unusable, or None."""
    completions, finished = row["completions"], row.get("finished")
    if not isinstance(row["prompt"], str) or not row["prompt"].strip():
        return "prompt is not a text; give it as one string"
    if not isinstance(row.get("reference", ""), str | None):
        return "reference is not a text; give it as one string or leave it out"
    if not isinstance(completions, list) or not all(isinstance(text, str) for text in completions):
        return "completions is not a list of texts"
    if finished is not None and (not isinstance(finished, list) or len(finished) != len(completions)):
        return "finished must hold one true or false for each completion, or be left out"
    try:
        note_of_row(row)
    except InputError as error:
        return str(error)
    return None


def judge_all(judge: Judge, rows: Sequence[CompletionsRow], counts: Counter[str]) -> list[list[JudgedCompletion]]:
    """Return the judged completions of each prompt, without blank ones and failures of the judge; count all kinds."""
    to_judge = [
        (number, text, finished)
        for number, row in enumerate(rows)
        for text, finished in zip(row.completions, row.finished, strict=True)
        if text.strip()
    ]
    counts["completions"] = sum(len(row.completions) for row in rows)
    counts["unfinished"] = sum(not finished for row in rows for finished in row.finished)
    counts["blank"] = counts["completions"] - len(to_judge)
    judged: list[list[JudgedCompletion]] = [[] for _ in rows]
    checks = judge.check_all([(rows[number].source, text) for number, text, _ in to_judge], "Judging")
    for (number, text, finished), check in zip(to_judge, checks, strict=True):
        if check is None:
            counts["judge_failures"] += 1
            continue
        share = true_coverage(rows[number], text)
        judged[number].append(JudgedCompletion.of(text, check, finished=finished, coverage=share))
    return judged


def true_coverage(row: CompletionsRow, text: str) -> float | None:
    """Return the share of the reference's true facts that a text states, or None without a reference.

    A fact is true if the note supports it.
    """
    if not row.reference:
        return None
    stated, facts = coverage(row.reference, text)
    true_facts = facts if row.sound_reference else coverage(row.reference, row.source)[0]
    return min(1.0, stated / true_facts) if true_facts else None


def judge_references(judge: Judge, rows: Sequence[CompletionsRow], counts: Counter[str]) -> list[CompletionsRow]:
    """Return the rows with `sound_reference` set if the judge did not fail on the reference and finds no error."""
    checks = iter(judge.check_all([(row.source, row.reference) for row in rows if row.reference], "References"))
    judged = [
        replace(row, sound_reference=_if_sound(row.reference, next(checks))) if row.reference else row for row in rows
    ]
    counts["references"] = sum(row.reference is not None for row in rows)
    counts["unsound_references"] = counts["references"] - sum(row.sound_reference is not None for row in judged)
    return judged


def _if_sound(reference: str, check: FactCheck | None) -> JudgedCompletion | None:
    if check is None or check.errors:
        return None
    return JudgedCompletion.of(reference, check, finished=True, coverage=1.0, is_reference=True)
