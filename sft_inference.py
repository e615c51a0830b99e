"""Summarises clinical notes with a trained model, or with two of them side by side.

In:  a model folder (or a server), and one note, a file of notes, or notes typed at a prompt.
Out: printed summaries, and with --output_file one JSONL or CSV row for each note.

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

from language_model.prompt_format import build_prompt, note_of_prompt
from language_model.sampler import PromptTooLong, Sampler
from language_model.sampler_flags import add_endpoint_arguments, add_sampling_arguments, endpoint_sampler, local_sampler
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
    ) -> None:
        """Loads the model; `auto` chooses the device and the dtype and says what it chose."""
        from language_model.loading import load_for_inference
        from language_model.local_sampler import LocalSampler

        loaded = load_for_inference(model_path, device=device, dtype=dtype, use_8bit=use_8bit, use_4bit=use_4bit)
        self.sampler = LocalSampler(loaded, str(model_path))

    def generate_summary(
        self, clinical_note: str, max_new_tokens: int = 150, temperature: float = 0.7, seed: int = 42
    ) -> dict[str, Any]:
        """Summarises one note: clinical_note, model, generated_summary, num_tokens, seconds, finished."""
        settings = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
        return summarise(self.sampler, [clinical_note], **settings)[0]

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
        """Summarises many notes in batches; one dict for each, in the order of the notes."""
        return summarise(
            self.sampler,
            notes,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
            batch_size=batch_size,
            progress=progress,
        )


def summarise(sampler: Sampler, notes: Sequence[str], **settings: Any) -> list[dict[str, Any]]:
    """One summary a note, in the order of the notes. `settings` are those of `Sampler.complete`."""
    summaries: dict[int, dict[str, Any]] = {}
    for index, completions in sampler.complete([build_prompt(note) for note in notes], **settings):
        completion = completions[0]
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
    """The command line."""
    from language_model.placement import add_model_arguments

    parser = ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    data = parser.add_argument_group("Data").add_mutually_exclusive_group()
    data.add_argument("--clinical_note", help="one note to summarise")
    data.add_argument("--input_file", type=Path, help="notes to summarise: .txt (one a line), .csv or .jsonl")
    model = parser.add_argument_group("Model")
    model.add_argument(
        "--model_path",
        default=DEFAULT_MODEL_PATH,
        help="model or adapter folder, or a hub id (default: %(default)s, what Stage A writes)",
    )
    second = parser.add_argument_group("Comparison").add_mutually_exclusive_group()
    second.add_argument("--compare_model_path", help="a second model, whose summaries are printed beside the first's")
    second.add_argument("--compare_served_model", help="the same, a model that the server at --base_url knows")
    output = parser.add_argument_group("Output")
    output.add_argument("--output_file", type=Path, help="write the summaries there: .jsonl or .csv (default: none)")
    output.add_argument(
        "--note_column",
        help="column of a .csv, or key of a .jsonl, that holds the note (default: clinical_note; in a .jsonl without "
        "it, prompt)",
    )
    add_sampling_arguments(parser, temperature=0.7)
    add_endpoint_arguments(parser)
    add_model_arguments(parser)
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Note:
    """A note and the id it goes by: its row's own, or its line number."""

    note_id: str
    text: str


def read_notes(path: Path, column: str | None) -> list[Note]:
    """The notes of a file, by its ending. Raises InputError for another ending and for an empty note."""
    readers = {".txt": read_text_notes, ".csv": read_csv_notes, ".jsonl": read_jsonl_notes}
    if path.suffix.lower() not in readers:
        raise InputError(f"{path}: the name must end in {', '.join(readers)}; rename or convert the file")
    return readers[path.suffix.lower()](path, column)


def read_text_notes(path: Path, column: str | None) -> list[Note]:
    """One note a line; blank lines are passed over."""
    if column is not None:
        raise InputError(f"--note_column {column}: {path} has no columns; leave the flag out")
    lines = enumerate(read_text(path).split("\n"), start=1)
    notes = [Note(str(number), line.strip()) for number, line in lines if line.strip()]
    if not notes:
        raise InputError(f"{path}: the file is empty; expected one note a line")
    return notes


def read_csv_notes(path: Path, column: str | None) -> list[Note]:
    """One note a row."""
    column = column or "clinical_note"
    return [checked_note(path, line, row, row[column]) for line, row in read_csv(path, (column,))]


def read_jsonl_notes(path: Path, column: str | None) -> list[Note]:
    """One note an object, under `clinical_note`, or as a `prompt` of the suite's form."""
    notes = []
    for line, row in read_jsonl(path, (column,) if column else ()):
        key = column or ("clinical_note" if "clinical_note" in row else "prompt")
        if key not in row:
            raise InputError(f"{path}, line {line}: no key clinical_note or prompt; name the note's by --note_column")
        if not isinstance(row[key], str):
            raise InputError(f"{path}, line {line}: {key} is not text; give the note as one string")
        notes.append(checked_note(path, line, row, note_of_prompt(row[key])))
    return notes


def checked_note(path: Path, line: int, row: dict[str, Any], text: str) -> Note:
    if not text.strip():
        raise InputError(f"{path}, line {line}: the note is empty; fill it in or take the row out")
    return Note(str(row.get("id") or row.get("example_id") or line), text)


def check_args(args: argparse.Namespace) -> None:
    """Raises InputError for flags that do not go together."""
    served = args.served_model or args.compare_served_model
    if args.base_url and not served:
        raise InputError("--base_url needs --served_model, the name under which the server knows the model")
    if served and not args.base_url:
        raise InputError("--served_model and --compare_served_model need --base_url, the address of the server")
    if args.served_model and args.model_path != DEFAULT_MODEL_PATH:
        raise InputError("--model_path and --served_model name two models; compare them by --compare_model_path")
    if args.output_file and args.output_file.suffix.lower() not in (".jsonl", ".csv"):
        raise InputError(f"--output_file {args.output_file}: the name must end in .jsonl or .csv")
    if args.clinical_note is not None and not args.clinical_note.strip():
        raise InputError("--clinical_note: the note is empty; give its text")
    if args.note_column and not args.input_file:
        raise InputError("--note_column names a column of --input_file; give the file, or leave the flag out")


def sampler_makers(args: argparse.Namespace) -> list[Callable[[], Sampler]]:
    """What loads the one or two models asked for. They are loaded when called, so that one can go before the next."""
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
    """Summarises the notes with each model in turn; prints and stores them."""
    texts = [note.text for note in notes]
    progress = "Summaries" if len(notes) > 1 else None
    try:
        by_model = [summarise(make(), texts, **sampling(args), progress=progress) for make in sampler_makers(args)]
    except PromptTooLong as error:
        raise InputError(f"note {notes[error.index].note_id}: {error.reason}") from error
    for summaries in zip(*by_model, strict=True):
        print_summaries(summaries)
    if args.output_file:
        write_results(args.output_file, notes, by_model)
        print(f"\nWrote {len(notes)} rows to {args.output_file}")
    return 0


def sampling(args: argparse.Namespace) -> dict[str, Any]:
    """The flags that `Sampler.complete` takes."""
    names = ("max_new_tokens", "temperature", "batch_size", "seed")
    return {name: getattr(args, name) for name in names}


def print_summaries(summaries: Sequence[dict[str, Any]]) -> None:
    """Prints a note and what each model made of it; the models' names only where there are two."""
    print(f"\nClinical Note:\n{summaries[0]['clinical_note']}")
    for summary in summaries:
        title = f"\n--- {summary['model']} ---" if len(summaries) > 1 else ""
        print(f"{title}\nGenerated Summary:\n{summary['generated_summary']}")
        if not summary["finished"]:
            print(f"(broken off after {summary['num_tokens']} tokens; --max_new_tokens sets the limit)")


def write_results(path: Path, notes: Sequence[Note], by_model: Sequence[Sequence[dict[str, Any]]]) -> None:
    """One row a note; a second model's results stand under the same names with `compare_` before them."""
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
    """Asks for notes until the input ends; the models stay loaded meanwhile."""
    samplers = [make() for make in sampler_makers(args)]
    print("Type or paste a clinical note and end it with an empty line. Ctrl-D or the word quit leaves.")
    while (note := ask_note()) is not None:
        if note:
            print_summaries([summarise(sampler, [note], **sampling(args))[0] for sampler in samplers])
    return 0


def ask_note() -> str | None:
    """Lines up to the first empty one, joined; None where the user leaves."""
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
    """One note, a file of notes, or a dialogue."""
    check_args(args)
    if args.clinical_note is not None:
        return run_notes(args, [Note("1", args.clinical_note)])
    if args.input_file:
        return run_notes(args, read_notes(args.input_file, args.note_column))
    if sys.stdin.isatty():
        if args.output_file:
            raise InputError("--output_file needs --clinical_note or --input_file")
        return run_interactive(args)
    print("No note was given and there is no terminal to ask at: this is a built-in example.")
    return run_notes(args, [Note("1", BUILT_IN_NOTE)])


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
