"""Summarise clinical notes with a trained model, or with two models for comparison.

In:  a model folder (or a server), and one note, a file of notes, or notes typed in a terminal.
Out: printed summaries, and with --output_file one JSONL or CSV row per note.

    python sft_inference.py --clinical_note "Patient with asthma, takes albuterol 90 mcg as needed."
    python sft_inference.py --input_file phase1_data/sft/test_set_processed.csv --output_file summaries.jsonl

As a library:

    from sft_inference import SFTInference
    SFTInference("./models/sft_specialist/final_model").generate_summary("...")["generated_summary"]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from language_model.loading import load_for_inference
from language_model.placement import add_base_model_argument, add_model_arguments
from language_model.prompt_format import build_prompt, note_of_prompt, note_of_row
from language_model.sampler import PromptTooLong, Sampler, SamplingSettings
from language_model.sampler_flags import (
    add_endpoint_arguments,
    add_sampling_arguments,
    endpoint_sampler,
    local_sampler,
    sampling_settings,
)
from script_io.csv_files import read_csv, write_csv
from script_io.errors import ArgumentParser, InputError, run_script
from script_io.files import read_jsonl, read_text, write_jsonl

DEFAULT_MODEL_PATH = "./models/sft_specialist/final_model"
RESULT_COLUMNS = ("model", "generated_summary", "num_tokens", "seconds", "finished")
BUILT_IN_NOTE = (
    "A 58-year-old woman with type 2 diabetes and hypertension comes for follow-up. She takes metformin 500 mg twice "
    "daily and lisinopril 10 mg daily. She denies chest pain. Blood pressure 142/88 mmHg, HbA1c 7.9%. Metformin is "
    "raised to 1000 mg twice daily. Return in three months."
)


class SFTInference:
    """A trained model that summarises notes."""

    def __init__(
        self,
        model_path: str | Path,
        device: str = "auto",
        dtype: str = "auto",
        use_8bit: bool = False,
        use_4bit: bool = False,
        base_model: str | Path | None = None,
    ) -> None:
        """Load the model; `auto` chooses device and dtype, and prints the choice.

        `base_model` is the base of an adapter, if it was moved.
        """
        from language_model.local_sampler import LocalSampler  # loads torch, which would slow down --help

        loaded = load_for_inference(
            model_path, device=device, dtype=dtype, use_8bit=use_8bit, use_4bit=use_4bit, base_model=base_model
        )
        self.sampler = LocalSampler(loaded, str(model_path))

    def generate_summary(
        self, clinical_note: str, max_new_tokens: int = 150, temperature: float = 0.7, seed: int = 42
    ) -> dict[str, Any]:
        """Return {clinical_note, model, generated_summary, num_tokens, seconds, finished} for one note."""
        settings = SamplingSettings(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
        return summarise(self.sampler, [clinical_note], settings)[0]

    def generate_summaries(
        self,
        notes: Sequence[str],
        *,
        max_new_tokens: int = 150,
        temperature: float = 0.7,
        seed: int = 42,
        batch_size: int = 8,
        progress: str | None = None,
    ) -> list[dict[str, Any]]:
        """Summarise many notes in batches; return one dict per note, in the order of the notes."""
        settings = SamplingSettings(1, max_new_tokens, temperature, batch_size, seed)
        return summarise(self.sampler, notes, settings, progress)


def summarise(
    sampler: Sampler, notes: Sequence[str], settings: SamplingSettings, progress: str | None = None
) -> list[dict[str, Any]]:
    """Return one summary per note, in the order of the notes."""
    summaries: dict[int, dict[str, Any]] = {}
    for index, [completion] in sampler.complete([build_prompt(note) for note in notes], settings, progress):
        summaries[index] = {
            "clinical_note": notes[index],
            "model": sampler.name,
            "generated_summary": completion.text,
            "num_tokens": completion.num_tokens,
            "seconds": round(completion.seconds, 3),
            "finished": completion.finished,
        }
    return [summaries[index] for index in range(len(notes))]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    data = parser.add_argument_group("Data").add_mutually_exclusive_group()
    data.add_argument(
        "--clinical_note",
        metavar="TEXT",
        help="text of one note (default: read --input_file, or ask for notes in a terminal)",
    )
    data.add_argument(
        "--input_file",
        type=Path,
        metavar="FILE",
        help="notes to summarise: .txt (one note per line), .csv or .jsonl (default: none)",
    )
    model = parser.add_argument_group("Model")
    model.add_argument(
        "--model_path",
        default=DEFAULT_MODEL_PATH,
        help="model or adapter, a folder or a hub id (default: %(default)s, written by Stage A)",
    )
    add_base_model_argument(model)
    second = parser.add_argument_group("Comparison").add_mutually_exclusive_group()
    second.add_argument(
        "--compare_model_path",
        metavar="MODEL",
        help="second model or adapter, whose summaries are printed after the first model's (default: none)",
    )
    second.add_argument(
        "--compare_served_model",
        metavar="NAME",
        help="name of a second model on the server at --base_url (default: none)",
    )
    output = parser.add_argument_group("Output")
    output.add_argument(
        "--output_file", type=Path, metavar="FILE", help="file for the summaries, .jsonl or .csv (default: none)"
    )
    output.add_argument(
        "--note_column",
        metavar="NAME",
        help="column of a .csv, or key of a .jsonl, that has the note (default: clinical_note; in a .jsonl without it, "
        "prompt)",
    )
    add_sampling_arguments(parser, temperature=0.7)
    add_endpoint_arguments(parser)
    add_model_arguments(parser)
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Note:
    """A note with its id: the id of its row, or its line number."""

    note_id: str
    text: str


def read_notes(path: Path, column: str | None) -> list[Note]:
    """Return the notes of a file. Raises InputError for another file name extension and for an empty note."""
    readers = {".txt": read_text_notes, ".csv": read_csv_notes, ".jsonl": read_jsonl_notes}
    if path.suffix.lower() not in readers:
        raise InputError(f"{path}: the name must end in {', '.join(readers)}; rename or convert the file")
    return readers[path.suffix.lower()](path, column)


def read_text_notes(path: Path, column: str | None) -> list[Note]:
    """Return one note per line that is not blank."""
    if column is not None:
        raise InputError(f"--note_column {column}: {path} has no columns; leave the flag out")
    lines = enumerate(read_text(path).split("\n"), start=1)
    notes = [Note(str(number), line.strip()) for number, line in lines if line.strip()]
    if not notes:
        raise InputError(f"{path}: the file is empty; expected one note per line")
    return notes


def read_csv_notes(path: Path, column: str | None) -> list[Note]:
    """Return one note per row."""
    column = column or "clinical_note"
    return [checked_note(path, line, row, row[column]) for line, row in read_csv(path, (column,))]


def read_jsonl_notes(path: Path, column: str | None) -> list[Note]:
    """Return one note per line, from `column`, else from `clinical_note` or `prompt`."""
    notes = []
    for line, row in read_jsonl(path, (column,) if column else ()):
        key = column or ("prompt" if row.get("clinical_note") is None else "clinical_note")
        if key not in row:
            raise InputError(f"{path}, line {line}: no key clinical_note or prompt; name the key with --note_column")
        text = row[key]
        if not isinstance(text, str):
            raise InputError(f"{path}, line {line}: {key} is not text; give the note as one string")
        try:
            note = note_of_prompt(text) if column else note_of_row(row)
        except InputError as error:
            raise InputError(f"{path}, line {line}: {error}") from error
        notes.append(checked_note(path, line, row, text if note is None else note))
    return notes


def checked_note(path: Path, line: int, row: dict[str, Any], text: str) -> Note:
    """Return the note of a row with its id. Raises InputError if the note is empty."""
    if not text.strip():
        raise InputError(f"{path}, line {line}: the note is empty; fill it in or delete the row")
    return Note(str(row.get("id") or row.get("example_id") or line), text)


def check_args(args: argparse.Namespace) -> None:
    """Raise InputError for flags that exclude or need each other."""
    served = args.served_model or args.compare_served_model
    if args.base_url and not served:
        raise InputError("--base_url needs --served_model, the name under which the server knows the model")
    if served and not args.base_url:
        raise InputError("--served_model and --compare_served_model need --base_url, the address of the server")
    if args.served_model and args.model_path != DEFAULT_MODEL_PATH:
        raise InputError("--model_path and --served_model name two models; compare them with --compare_model_path")
    if args.output_file and args.output_file.suffix.lower() not in (".jsonl", ".csv"):
        raise InputError(f"--output_file {args.output_file}: the name must end in .jsonl or .csv")
    if args.clinical_note is not None and not args.clinical_note.strip():
        raise InputError("--clinical_note: the note is empty; give its text")
    if args.note_column and not args.input_file:
        raise InputError("--note_column names a column of --input_file; give the file, or leave the flag out")


def sampler_makers(args: argparse.Namespace) -> list[Callable[[], Sampler]]:
    """Return a function for each model that loads it, so that the first can be freed before the second is loaded."""
    makers: list[Callable[[], Sampler]] = []
    if args.served_model:
        makers.append(lambda: endpoint_sampler(args, args.served_model))
    else:
        makers.append(lambda: local_sampler(args, args.model_path))
    if args.compare_served_model:
        makers.append(lambda: endpoint_sampler(args, args.compare_served_model))
    if args.compare_model_path:
        makers.append(lambda: local_sampler(args, args.compare_model_path))
    return makers


def run_notes(args: argparse.Namespace, notes: Sequence[Note]) -> int:
    """Summarise the notes with one model after the other, and print and write the summaries."""
    settings = sampling_settings(args)
    texts = [note.text for note in notes]
    progress = "Summaries" if len(notes) > 1 else None
    try:
        by_model = [summarise(make(), texts, settings, progress) for make in sampler_makers(args)]
    except PromptTooLong as error:
        raise InputError(f"note {notes[error.index].note_id}: {error.reason}") from error
    for summaries in zip(*by_model, strict=True):
        print_summaries(summaries)
    if args.output_file:
        write_results(args.output_file, notes, by_model)
        print(f"\nWrote {len(notes)} rows to {args.output_file}")
    return 0


def print_summaries(summaries: Sequence[dict[str, Any]]) -> None:
    """Print a note and the summary of each model, with the names of the models if there are two."""
    print(f"\nClinical Note:\n{summaries[0]['clinical_note']}")
    for summary in summaries:
        title = f"\n--- {summary['model']} ---" if len(summaries) > 1 else ""
        print(f"{title}\nGenerated Summary:\n{summary['generated_summary']}")
        if not summary["finished"]:
            print(f"(broken off after {summary['num_tokens']} tokens; --max_new_tokens sets the limit)")


def write_results(path: Path, notes: Sequence[Note], by_model: Sequence[Sequence[dict[str, Any]]]) -> None:
    """Write one row per note; the columns of a second model begin with `compare_`."""
    prefixes = ("", "compare_")[: len(by_model)]
    rows = []
    for note, summaries in zip(notes, zip(*by_model, strict=True), strict=True):
        row: dict[str, Any] = {"id": note.note_id, "clinical_note": note.text}
        for prefix, summary in zip(prefixes, summaries, strict=True):
            row |= {f"{prefix}{column}": summary[column] for column in RESULT_COLUMNS}
        rows.append(row)
    if path.suffix.lower() == ".csv":
        write_csv(path, list(rows[0]), rows)
    else:
        write_jsonl(path, rows)


def run_interactive(args: argparse.Namespace) -> int:
    """Ask for notes until the input ends, and print their summaries."""
    settings = sampling_settings(args)
    samplers = [make() for make in sampler_makers(args)]
    print("Type or paste a clinical note and end it with an empty line. Ctrl-D or the word quit leaves.")
    while (note := ask_note()) is not None:
        if note:
            print_summaries([summarise(sampler, [note], settings)[0] for sampler in samplers])
    return 0


def ask_note() -> str | None:
    """Return the lines up to the first empty line, joined, or None if the user leaves."""
    lines: list[str] = []
    try:
        line = input("\nNote> ")
        while line.strip():
            if not lines and line.strip().lower() in ("quit", "exit"):
                return None
            lines.append(line)
            line = input("    > ")
    except EOFError:
        print()
        if not lines:
            return None
    return "\n".join(lines)


def main(args: argparse.Namespace) -> int:
    """Summarise one note, a file of notes, or notes typed in a terminal."""
    check_args(args)
    if args.clinical_note is not None:
        return run_notes(args, [Note("1", args.clinical_note)])
    if args.input_file:
        return run_notes(args, read_notes(args.input_file, args.note_column))
    if sys.stdin.isatty():
        if args.output_file:
            raise InputError("--output_file needs --clinical_note or --input_file")
        return run_interactive(args)
    print("No note was given and there is no terminal to ask in: this is a built-in example.")
    return run_notes(args, [Note("1", BUILT_IN_NOTE)])


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
