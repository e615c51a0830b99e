"""The flags that say which notes are summarised."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_note_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say which notes are summarised."""
    data = parser.add_argument_group("Data")
    notes = data.add_mutually_exclusive_group()
    notes.add_argument(
        "--clinical_note",
        metavar="TEXT",
        help="text of one note; @FILE: read it from a UTF-8 file (default: read --input_file, or ask in a terminal)",
    )
    notes.add_argument(
        "--input_file",
        type=Path,
        metavar="FILE",
        help="notes to summarise: .txt (one note per line), .csv, .tsv, .jsonl, .json or .parquet (one per row), or a "
        "folder (one per .txt file) (default: none)",
    )
    data.add_argument(
        "--one_note_per_file", action="store_true", help="take a .txt file as one note, with all its lines"
    )
    data.add_argument(
        "--note_column",
        metavar="NAME",
        help="column of a .csv, or key of a .jsonl, that has the note (default: clinical_note; in a .jsonl without it, "
        "prompt)",
    )
