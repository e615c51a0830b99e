"""The flag `--columns note=dialogue summary=section_text`, which names the columns of a user's own table."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from script_io.errors import InputError

# What a user calls a column, and its name in the suite's own files
PHASE1_ROLES = {
    **{"note": "clinical_note", "summary": "model_summary", "id": "id", "label": "label"},
    **{"type": "hallucination_type"},
}
PREFERENCE_ROLES = {
    **{"prompt": "prompt", "chosen": "chosen", "rejected": "rejected", "note": "clinical_note", "id": "id"},
}
PROMPT_ROLES = {**PHASE1_ROLES, "prompt": "prompt", "reference": "reference"}
EVALUATION_ROLES = {**PHASE1_ROLES, "generated": "generated_summary", "reference": "reference_summary"}


@dataclass(frozen=True, eq=False)
class ColumnPair:
    """A `type` for `add_argument` that takes ROLE=COLUMN with one of the roles."""

    roles: Mapping[str, str]

    def __call__(self, text: str) -> str:
        role, equals, column = text.partition("=")
        if not equals or not column:
            raise argparse.ArgumentTypeError(f"{text!r}: write ROLE=COLUMN, such as note=dialogue")
        if role not in self.roles:
            raise argparse.ArgumentTypeError(f"{text!r}: {role!r} is not one of {', '.join(self.roles)}")
        return text


def add_columns_argument(group: argparse._ActionsContainer, roles: Mapping[str, str]) -> None:
    """Add `--columns` for files whose columns have the given roles."""
    group.add_argument(
        "--columns",
        nargs="+",
        type=ColumnPair(roles),
        metavar="ROLE=COLUMN",
        help=f"columns of your own table, by role: {', '.join(roles)} (default: the names of docs/data_formats.md)",
    )


def column_names(pairs: Sequence[str] | None, roles: Mapping[str, str]) -> dict[str, str]:
    """Return {name of ours: name in the file} of the `--columns` of a command line.

    Raises InputError if a role or a column is named twice.
    """
    found: dict[str, str] = {}
    for role, _, column in (pair.partition("=") for pair in pairs or ()):
        if roles[role] in found:
            raise InputError(f"--columns names {role} twice; name one column for it")
        if column in found.values():
            raise InputError(f"--columns names the column {column} twice; name two columns")
        found[roles[role]] = column
    return found
