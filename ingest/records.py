"""Turn the rows of a table into records of note and summary, and count what is left out and why."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ingest.tables import SourceRow
from script_io.errors import InputError
from script_io.phase1_csv import COLUMNS, FACTUAL, FACTUAL_LABELS, HALLUCINATED, LABELS, label_problem, label_spelling
from script_io.phase1_files import value_text

# What programs write for "no value"
MISSING = frozenset(("", "nan", "none", "null", "nil", "n/a", "na", "#n/a", "<na>", "nat", "-", "--", "."))


@dataclass(frozen=True)
class Record:
    """A note with one summary. `group` is a patient or an encounter, or ""; `rejected` a worse summary, or ""."""

    place: str
    id: str
    note: str
    summary: str
    label: str
    hallucination_type: str = ""
    group: str = ""
    rejected: str = ""

    def phase1_row(self) -> dict[str, str]:
        """Return the row of the Phase 1 CSV."""
        cells = (self.id, self.note, self.summary, self.label, self.hallucination_type)
        return dict(zip(COLUMNS, cells, strict=True))


def records_of(
    rows: Sequence[SourceRow], columns: Mapping[str, str], *, label_was_named: bool
) -> tuple[list[Record], Counter[str]]:
    """Return the usable records, and how many rows were left out for each reason.

    A guessed label column with no known label is not used. Raises InputError with the place of a row whose cell is no
    text, or whose label is not known.
    """
    columns = dict(columns)
    if "label" in columns and not label_was_named and not _has_a_label(rows, columns["label"]):
        print(f"  column {columns.pop('label')} is not used: it holds none of {', '.join(LABELS)}")
    left_out: Counter[str] = Counter()
    records = []
    for number, row in enumerate(rows, start=1):
        cells = {role: cell_text(row, column) for role, column in columns.items()}
        if reason := _reason_to_leave_out(cells):
            left_out[reason] += 1
            continue
        label = label_spelling(cells.get("label", FACTUAL))
        if problem := label_problem(label):
            raise InputError(f"{row.place}: {problem}")
        record = Record(
            row.place,
            _known(cells.get("id", "")) or f"row-{number:05d}",
            cells["note"],
            cells["summary"],
            label,
            _known(cells.get("hallucination_type", "")),
            _known(cells.get("group", "")),
            _known(cells.get("rejected", "")),
        )
        records.append(record)
    return _with_distinct_ids(_without_repeats(records, left_out)), left_out


def cell_text(row: SourceRow, column: str) -> str:
    """Return a cell as text with \\n as its line end and no blanks at line ends. A list of texts becomes lines.

    Raises InputError if the cell is another list or an object, or holds half of a character.
    """
    value = row.cells.get(column)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = "\n".join(value)
    if isinstance(value, list | dict | tuple | bytes):
        raise InputError(
            f"{row.place}: column {column} holds {type(value).__name__}, not text; write it as text, or name another "
            "column"
        )
    text = value_text(value)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{row.place}: column {column} holds half of a character, which no file can hold; remove it"
        ) from error
    return "\n".join(line.rstrip() for line in text.replace("\0", "").strip().splitlines())


def is_missing(text: str) -> bool:
    """Return whether a cell says that it has no value: "nan", "None", "N/A"."""
    return text.strip().lower() in MISSING


def _known(text: str) -> str:
    return "" if is_missing(text) else text


def _has_a_label(rows: Sequence[SourceRow], column: str) -> bool:
    return any(label_spelling(str(row.cells.get(column))) in LABELS for row in rows)


def _reason_to_leave_out(cells: Mapping[str, str]) -> str | None:
    for role in ("note", "summary", "label"):
        if role in cells and is_missing(cells[role]):
            return f"no {role}"
    return None


def _without_repeats(records: Iterable[Record], left_out: Counter[str]) -> list[Record]:
    """Keep one record of each note and summary, and none that is labelled both factual and hallucinated."""
    by_pair: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        by_pair[record.note, record.summary].append(record)
    kept = []
    for same in by_pair.values():
        if len({record.label in FACTUAL_LABELS for record in same}) > 1:
            left_out["labelled factual and hallucinated"] += len(same)
            continue
        kept.append(same[0])
        left_out["repeats an earlier row"] += len(same) - 1
    left_out += Counter()  # drops reasons that no row has
    return kept


def _with_distinct_ids(records: Sequence[Record]) -> list[Record]:
    """Give each repeated id a number of its own."""
    taken = {record.id for record in records}
    seen: Counter[str] = Counter()
    found = []
    for record in records:
        seen[record.id] += 1
        name, number = record.id, seen[record.id]
        if number > 1:
            while (name := f"{record.id}-{number}") in taken:
                number += 1
            taken.add(name)
        found.append(replace(record, id=name))
    return found


def with_rejected_rows(records: Sequence[Record]) -> list[Record]:
    """Return the records, each followed by its rejected summary as a record labelled hallucinated."""
    found = []
    for record in records:
        found.append(replace(record, rejected=""))
        if record.rejected and record.rejected != record.summary and record.label != HALLUCINATED:
            found.append(
                replace(record, id=f"{record.id}-rejected", summary=record.rejected, label=HALLUCINATED, rejected="")
            )
    return found
