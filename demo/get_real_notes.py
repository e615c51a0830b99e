"""Write the Phase 1 CSV files of real doctor-patient dialogues: MTS-Dialog, in its official splits.

In:  the public CSVs of MTS-Dialog (`ID,section_header,section_text,dialogue`; CC BY 4.0), downloaded, or found
     anywhere below --input. Files there with the names and columns of Phase 1 are taken instead.
Out: in --output_dir `train_set_processed.csv`, `validation_set_processed.csv` and `test_set_processed.csv`: dialogues
     as notes, the sections of clinicians' notes as factual summaries. The test split is MTS-Dialog-TestSet-1.

    python demo/get_real_notes.py --test_tokens 20 700
    python demo/get_real_notes.py --input MTS-Dialog --output_dir runs/phase1_real

Ben Abacha, Yim, Fan and Lin (EACL 2023) describe the dialogues, which were written for published clinical notes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs from any working folder

from demo.recipes import REAL_MODEL, REAL_NOTES
from script_io.csv_files import read_csv, stream_csv, update_csv
from script_io.errors import ArgumentParser, InputError, at_least, run_script
from script_io.phase1_csv import COLUMNS, FACTUAL, REQUIRED_COLUMNS, row_problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REPOSITORY = "https://github.com/abachaa/MTS-Dialog"
ADDRESS = "https://raw.githubusercontent.com/abachaa/MTS-Dialog/main/Main-Dataset"
SOURCES = {  # file of each split in the public repository; its second test set stays unread
    "train": "MTS-Dialog-TrainingSet.csv",
    "validation": "MTS-Dialog-ValidationSet.csv",
    "test": "MTS-Dialog-TestSet-1-MEDIQA-Chat-2023.csv",
}
DIALOGUE_COLUMNS = ("ID", "section_text", "dialogue")
SECONDS_TO_WAIT = 60  # for an answer of the server
Rows = list[dict[str, str]]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    data = parser.add_argument_group("Data")
    data.add_argument(
        "--input",
        type=Path,
        metavar="FOLDER",
        help="folder with the CSV files, such as a clone of the public repository (default: none, download them)",
    )
    data.add_argument(
        "--test_tokens",
        type=at_least(0),
        nargs=2,
        metavar=("LEAST", "MOST"),
        help="keep test dialogues of this many tokens (default: keep all)",
    )
    data.add_argument(
        "--tokenizer", default=REAL_MODEL, metavar="FOLDER", help="model folder or hub id that counts tokens"
    )
    output = parser.add_argument_group("Output")
    output.add_argument("--output_dir", type=Path, default=Path(REAL_NOTES), metavar="FOLDER", help="Phase 1 folder")
    return parser.parse_args(argv)


def phase1_name(split: str) -> str:
    """Return the name of the Phase 1 file of a split."""
    return f"{split}_set_processed.csv"


# --------------------------------------------------------------------------------------------- the files


def download(folder: Path) -> None:
    """Download the files of all splits into `folder`. Raises InputError if the server cannot be reached."""
    for name in SOURCES.values():
        try:
            with urllib.request.urlopen(f"{ADDRESS}/{name}", timeout=SECONDS_TO_WAIT) as answer:
                (folder / name).write_bytes(answer.read())
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", None) or error
            raise InputError(
                f"{ADDRESS}/{name}: cannot be downloaded ({reason}); clone {REPOSITORY} where there is a network, and "
                "name the folder with --input"
            ) from error


def find_file(folder: Path, split: str) -> Path:
    """Return the file of a split below `folder`. Raises InputError if there is none, or more than one."""
    names = (SOURCES[split], phase1_name(split))
    found = sorted(path for name in names for path in folder.rglob(name))
    if not found:
        raise InputError(f"{folder}: no {' or '.join(names)} in it; name a clone of {REPOSITORY} with --input")
    if len(found) > 1:
        raise InputError(f"{folder}: both {found[0]} and {found[1]} are for the {split} split; name a folder with one")
    return found[0]


# ---------------------------------------------------------------------------------------------- the rows


def read_rows(path: Path, split: str) -> tuple[Rows, int]:
    """Return the usable rows of a file in Phase 1 columns, and the number of rows without dialogue or summary."""
    _, first = next(stream_csv(path, ()))
    is_phase1 = "clinical_note" in first
    rows = read_csv(path, REQUIRED_COLUMNS if is_phase1 else DIALOGUE_COLUMNS)
    usable = []
    for line, row in rows:
        converted = phase1_row(row) if is_phase1 else row_of_dialogue(row, split)
        if not converted["clinical_note"] or not converted["model_summary"]:
            continue
        if problem := row_problem(converted):
            raise InputError(f"{path}, line {line}: {problem}")
        usable.append(converted)
    return usable, len(rows) - len(usable)


def row_of_dialogue(row: dict[str, str], split: str) -> dict[str, str]:
    """Return a dialogue of the public repository as a Phase 1 row. The ids of its splits all begin at 0."""
    cells = (f"{split}-{row['ID']}", plain(row["dialogue"]), plain(row["section_text"]), FACTUAL, "")
    return dict(zip(COLUMNS, cells, strict=True))


def phase1_row(row: dict[str, str]) -> dict[str, str]:
    """Return a Phase 1 row with plain texts and the columns of Phase 1 alone."""
    cells = {column: row.get(column, "") for column in COLUMNS}
    return cells | {name: plain(cells[name]) for name in ("clinical_note", "model_summary")}


def plain(text: str) -> str:
    """Return a text with \\n as its line end, and without blanks at the ends of lines."""
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def of_length(rows: Rows, tokenizer: PreTrainedTokenizerBase, limits: Sequence[int]) -> Rows:
    """Return the rows whose notes have from `limits[0]` to `limits[1]` tokens."""
    least, most = limits
    encoded = tokenizer([row["clinical_note"] for row in rows], add_special_tokens=False).input_ids
    return [row for row, ids in zip(rows, encoded, strict=True) if least <= len(ids) <= most]


# -------------------------------------------------------------------------------------------- the script


def check_arguments(args: argparse.Namespace) -> None:
    """Raise InputError for limits in the wrong order, and for a folder that is none."""
    if args.test_tokens and args.test_tokens[0] > args.test_tokens[1]:
        raise InputError(f"--test_tokens {' '.join(map(str, args.test_tokens))}: give the smaller number first")
    if args.input and not args.input.is_dir():
        raise InputError(f"{args.input}: no such folder; name a clone of {REPOSITORY} with --input")
    if args.test_tokens and args.tokenizer == REAL_MODEL and not Path(REAL_MODEL).exists():  # could be a hub id
        raise InputError(f"{REAL_MODEL}: no such folder; make it with: python demo/get_real_model.py")


def main(args: argparse.Namespace) -> int:
    """Read or download the files of all splits and write them in Phase 1 columns."""
    check_arguments(args)
    with tempfile.TemporaryDirectory() as scratch:
        source = args.input or Path(scratch)
        if not args.input:
            download(source)
        read = {split: read_rows(find_file(source, split), split) for split in SOURCES}
    splits = {split: usable for split, (usable, _) in read.items()}
    left_out = [f"{sum(empty for _, empty in read.values())} rows without dialogue or summary"]
    if args.test_tokens:
        from language_model.loading import load_tokenizer

        kept = of_length(splits["test"], load_tokenizer(args.tokenizer), args.test_tokens)
        least, most = args.test_tokens
        left_out.append(f"{len(splits['test']) - len(kept)} test dialogues not of {least} to {most} tokens")
        splits["test"] = kept
    empty = [split for split in splits if not splits[split]]
    if empty:
        raise InputError(f"no usable row is left for the {empty[0]} split; check the files and --test_tokens")
    for split, rows in splits.items():
        update_csv(args.output_dir / phase1_name(split), COLUMNS, rows)
        print(f"{split}: {len(rows)} rows in {args.output_dir / phase1_name(split)}")
    print(f"Left out: {', '.join(left_out)}\nNext: python run_pipeline.py --real")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
