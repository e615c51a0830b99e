"""Find which columns of a table hold the note, the summary and what else is known of a row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from script_io.errors import InputError

# By role, the names that exports and public data sets use, the likeliest first
COMMON_NAMES: dict[str, tuple[str, ...]] = {
    "summary": (
        *("model_summary", "clinical_summary", "summary", "section_text", "reference_summary", "gold_summary"),
        *("summary_text", "impression", "impressions", "brief_hospital_course", "discharge_summary", "highlights"),
        *("abstract", "reference", "target", "output", "completion", "response", "answer", "chosen"),
    ),
    "note": (
        *("clinical_note", "note", "note_text", "notes", "dialogue", "dialog", "conversation", "transcript"),
        *("findings", "report", "document", "article", "encounter_text", "source", "input", "context", "text", "body"),
        *("prompt", "content"),
    ),
    "id": (
        *("id", "row_id", "note_id", "example_id", "document_id", "doc_id", "record_id", "sample_id", "case_id"),
        *("report_id", "study_id", "accession_number", "dialogue_id", "dialog_id", "conversation_id", "transcript_id"),
        *("visit_id", "encounter_id", "hadm_id", "admission_id", "stay_id", "uid", "uuid", "key", "index"),
    ),
    "label": ("label", "labels", "factuality", "verdict"),
    "hallucination_type": ("hallucination_type", "error_type"),
}
REQUIRED = ("note", "summary")
MOST_SHOWN = 12  # of the columns that nothing reads


def choose_columns(columns: Sequence[str], named: Mapping[str, str | None], path: object) -> dict[str, str]:
    """Return {role: column} for the roles that are named or found by a common name; says aloud which were guessed.

    `named` has the user's column for each role, or None. Raises InputError if a named column is missing, if one column
    is named for two roles, or if no note or summary is found.
    """
    chosen = {role: _exact(columns, column, role, path) for role, column in named.items() if column}
    for role, names in COMMON_NAMES.items():
        if role in chosen:
            continue
        free = {_plain(column): column for column in reversed(columns) if column not in chosen.values()}
        if guess := next((free[name] for name in names if name in free), None):
            chosen[role] = guess
    if missing := [role for role in REQUIRED if role not in chosen]:
        raise InputError(
            f"{path}: no column has a common name for the {' or the '.join(missing)}; found {', '.join(columns)}; "
            f"name it with {' and '.join(f'--{role}_column' for role in missing)}"
        )
    _refuse_shared(chosen, path)
    return chosen


def unused_columns(columns: Sequence[str], chosen: Mapping[str, str]) -> list[str]:
    """Return the columns that have a name and no role."""
    return [column for column in columns if column.strip() and column not in chosen.values()]


def column_lines(columns: Sequence[str], chosen: Mapping[str, str], named: Mapping[str, str | None]) -> Iterable[str]:
    """Yield a line for each chosen column that says whether it was guessed, and one with the columns left out."""
    for role, column in chosen.items():
        flag = f" (guessed; --{role}_column names another)" if role in named and not named[role] else ""
        yield f"  {role.replace('_', ' ')}: column {column}{flag}"
    if unused := unused_columns(columns, chosen):
        more = f" and {len(unused) - MOST_SHOWN} more" if len(unused) > MOST_SHOWN else ""
        without_id = "" if "id" in chosen else "; rows are named by their number (--id_column names a column)"
        yield f"  not used: {', '.join(unused[:MOST_SHOWN])}{more}{without_id}"


def _plain(column: str) -> str:
    """Return a column name in lower case with underscores: "Section Text" and "section-text" are the same."""
    with_breaks = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column.strip())
    return re.sub(r"[\s.-]+", "_", with_breaks).lower()


def _exact(columns: Sequence[str], name: str, role: str, path: object) -> str:
    found = [column for column in columns if column == name] or [c for c in columns if _plain(c) == _plain(name)]
    if not found:
        raise InputError(f"{path}: has no column {name}; give --{role}_column one of {', '.join(columns)}")
    return found[0]


def _refuse_shared(chosen: Mapping[str, str], path: object) -> None:
    roles: dict[str, str] = {}
    for role, column in chosen.items():
        if role != "group" and column in roles:
            raise InputError(f"{path}: column {column} is named for {roles[column]} and {role}; name two columns")
        if role != "group":
            roles[column] = role
