"""Summarise clinical notes with a trained model, or with two models for comparison.

In:  a model folder (or a server), and one note, a file or folder of notes, or notes typed in a terminal.
Out: printed summaries, and with --output_file one JSONL or CSV row per note, after the columns of its input row. With
     --check, the words of a summary that its note does not support are marked in both. Device, progress and speed are
     printed on stderr. A run that is stopped leaves FILE.partial, and the same command goes on from there.

    python sft_inference.py --clinical_note "Patient with asthma, takes albuterol 90 mcg as needed." --check
    python sft_inference.py --input_file phase1_data/sft/test_set_processed.csv --output_file summaries.jsonl

As a library:

    from sft_inference import SFTInference
    SFTInference("./models/sft_specialist/final_model").generate_summary("...")["generated_summary"]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from shutil import get_terminal_size
from typing import Any

from clinical.lexicon_flag import add_lexicon_argument, add_lexicons
from clinical.note_pieces import warn_of_pieces
from fact_checking.checked_summary import CheckedSummary, checked_summary, shown
from language_model.loading import load_for_inference
from language_model.model_files import model_state, require_model
from language_model.note_files import KEPT, Note, note_of_argument, one_note, read_notes
from language_model.note_flags import add_note_arguments
from language_model.placement import add_base_model_argument, add_model_arguments
from language_model.prompt_flags import prompt_settings_of, template_content
from language_model.prompt_format import build_prompt
from language_model.sampler import PromptTooLong, Sampler, SamplingSettings
from language_model.sampler_flags import (
    add_endpoint_arguments,
    add_sampling_arguments,
    endpoint_sampler,
    local_sampler,
    sampling_settings,
)
from language_model.text_stream import TextStream, add_stream_argument, attach_stream, check_stream, heading
from script_io.errors import ArgumentParser, InputError, run_script
from script_io.folder_lock import lock_folder
from script_io.partial_file import PartialRows, key_of
from script_io.result_rows import add_results, require_free_output, write_rows
from script_io.stop_signals import told_when_stopped
from script_io.terminal import ask_lines, shows_colour

DEFAULT_MODEL_PATH = "./models/sft_specialist/final_model"
RESULT_COLUMNS = ("model", "generated_summary", "num_tokens", "seconds", "finished")
PREFIXES = ("", "compare_")  # of the result columns of the first and the second model
# Flags that change no summary, so that a run which was stopped goes on with other values of them
WITHOUT_EFFECT = {
    *("input_file", "note_column", "one_note_per_file", "clinical_note", "check", "lexicon_dir", "output_file"),
    *("overwrite", "stream", "num_threads", "concurrency"),
}
END_OF_NOTE = "."
NARROWEST = 60  # terminal cells that two summaries next to each other need
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
        *,
        prompt_format: str | None = None,
        prompt_template: str | Path | None = None,
        system_prompt: str | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Load the model; `auto` chooses device and dtype, and prints the choice.

        `base_model` is the base of an adapter, if it was moved. The last four are the flags of the same names, for a
        model without a stored prompt: `prompt_template` is a file, `chat_template_kwargs` holds variables by name.
        """
        from language_model.local_sampler import LocalSampler  # loads torch, which would slow down --help

        loaded = load_for_inference(
            model_path,
            device=device,
            dtype=dtype,
            use_8bit=use_8bit,
            use_4bit=use_4bit,
            base_model=base_model,
            prompt=prompt_settings_of(prompt_format, prompt_template, system_prompt, chat_template_kwargs),
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
    sampler: Sampler,
    notes: Sequence[str],
    settings: SamplingSettings,
    progress: str | None = None,
    kept: PartialRows | None = None,
    prefix: str = "",
) -> list[dict[str, Any]]:
    """Return one summary per note, in the order of the notes.

    Each is stored in `kept` as soon as it exists, under a key with `prefix`, and what is there already is not made
    again.
    """
    keys = [prefix + key_of(note) for note in notes]
    summaries = {index: kept.done[key] for index, key in enumerate(keys) if kept and key in kept.done}
    prompts = [build_prompt(note) for note in notes]
    for index, [completion] in sampler.complete(prompts, settings, progress, frozenset(summaries)):
        summaries[index] = {
            "clinical_note": notes[index],
            "model": sampler.name,
            "generated_summary": completion.text,
            "num_tokens": completion.num_tokens,
            "seconds": round(completion.seconds, 3),
            "finished": completion.finished,
        }
        if kept:
            kept.append(keys[index], summaries[index])
    return [summaries[index] for index in range(len(notes))]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    add_note_arguments(parser)
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
        help="second model or adapter, whose summaries are printed next to the first model's, with the "
        "differences marked (default: none)",
    )
    second.add_argument(
        "--compare_served_model",
        metavar="NAME",
        help="name of a second model on the server at --base_url (default: none)",
    )
    check = parser.add_argument_group("Check")
    check.add_argument(
        "--check",
        action="store_true",
        help="check each summary against its note by rules; mark the doubtful words where it is printed and written",
    )
    add_lexicon_argument(check)
    output = parser.add_argument_group("Output")
    output.add_argument(
        "--output_file",
        type=Path,
        metavar="FILE",
        help="file for the summaries with all columns of the input, .jsonl or .csv (default: none)",
    )
    output.add_argument("--overwrite", action="store_true", help="replace an --output_file that exists")
    add_stream_argument(output)
    add_sampling_arguments(parser, temperature=0.7)
    add_endpoint_arguments(parser)
    add_model_arguments(parser)
    return parser.parse_args(argv)


def check_args(args: argparse.Namespace) -> None:
    """Raise InputError for flags that exclude or need each other."""
    check_stream(args)
    served = args.served_model or args.compare_served_model
    if args.base_url and not served:
        raise InputError("--base_url needs --served_model, the name under which the server knows the model")
    if served and not args.base_url:
        raise InputError("--served_model and --compare_served_model need --base_url, the address of the server")
    if args.served_model and args.model_path != DEFAULT_MODEL_PATH:
        raise InputError("--model_path and --served_model name two models; compare them with --compare_model_path")
    if args.note_column and not args.input_file:
        raise InputError("--note_column names a column of --input_file; give the file, or leave the flag out")
    if args.one_note_per_file and not args.input_file:
        raise InputError("--one_note_per_file is for --input_file; give the file, or leave the flag out")
    if args.lexicon_dir and not args.check:
        raise InputError("--lexicon_dir is for --check; add --check, or leave the flag out")


def sampler_makers(args: argparse.Namespace, kept: PartialRows | None = None) -> list[Callable[[], Sampler]]:
    """Return a function for each model that loads it, so that the first can be freed before the second is loaded.

    A model is loaded in the dtype of its summaries in `kept`. Raises InputError if a model is not there, before any is
    loaded and has summarised its notes.
    """
    for name in filter(None, (None if args.served_model else args.model_path, args.compare_model_path)):
        require_model(name)
    makers: list[Callable[[], Sampler]] = []
    dtypes = kept.dtypes if kept else {}
    if args.served_model:
        makers.append(lambda: endpoint_sampler(args, args.served_model))
    else:
        makers.append(lambda: local_sampler(args, args.model_path, dtypes))
    if args.compare_served_model:
        makers.append(lambda: endpoint_sampler(args, args.compare_served_model))
    if args.compare_model_path:
        makers.append(lambda: local_sampler(args, args.compare_model_path, dtypes))
    return makers


def load(make: Callable[[], Sampler]) -> Sampler:
    """Load a model. What is said about it goes to stderr, so that stdout has the summaries alone."""
    with redirect_stdout(sys.stderr):
        return make()


def partial_rows(args: argparse.Namespace) -> PartialRows | None:
    """Return the file next to --output_file that has the summaries so far; what a stopped run left is used again."""
    if not args.output_file:
        return None
    settings = {name: str(value) for name, value in vars(args).items() if name not in WITHOUT_EFFECT}
    paths = [*([] if args.served_model else [args.model_path]), *filter(None, [args.compare_model_path])]
    files = [model_state(path, args.base_model) for path in paths]
    path = args.output_file.with_name(f"{args.output_file.name}.partial")
    with redirect_stdout(sys.stderr):
        rows = PartialRows(path, {**settings, **template_content(args), "files": files}, "--output_file")
    if rows.done:
        print(f"{len(rows.done)} summaries are there already, from a run that was stopped: {path}", file=sys.stderr)
    return rows


def run_notes(args: argparse.Namespace, notes: Sequence[Note]) -> int:
    """Summarise the notes, print the summaries and write them to --output_file; return the exit code."""
    kept = partial_rows(args)
    with told_when_stopped(lambda: kept.kept() if kept else ""):
        summarise_notes(args, notes, kept)
    return 0


def summarise_notes(args: argparse.Namespace, notes: Sequence[Note], kept: PartialRows | None) -> None:
    """Summarise the notes with one model after the other, and print and write the summaries."""
    settings = sampling_settings(args)
    by_model = []
    makers = sampler_makers(args, kept)
    resumed = bool(kept and kept.done)
    for prefix, make in zip(PREFIXES, makers, strict=False):
        sampler = load(make)
        stream = attach_stream(sampler, notes[0].text) if args.stream else None
        started = time.perf_counter()
        try:
            progress = "Summaries" if len(notes) > 1 else None
            summaries = summarise(sampler, [n.text for n in notes], settings, progress, kept, prefix)
        except PromptTooLong as error:
            raise InputError(f"note {notes[error.index].name}: {error.reason}") from error
        if args.input_file and not resumed:
            print(speed(summaries, time.perf_counter() - started), file=sys.stderr)
        by_model.append(summaries)
        del sampler  # frees the memory for the next one
    by_note = list(zip(*by_model, strict=True))
    checked = [check(summaries, rules=args.check) for summaries in by_note]
    if args.output_file:  # before they are printed, since the reader of stdout may leave
        rows = [result_columns(*each) for each in zip(by_note, checked, strict=True)]
        write_rows(args.output_file, add_results([note.columns for note in notes], rows, KEPT))
        if kept:
            kept.remove()
        print(f"Wrote {len(notes)} rows to {args.output_file}", file=sys.stderr)
    for each in zip(by_note, checked, strict=True):
        print_summaries(*each, stream)


def speed(summaries: Sequence[dict[str, Any]], seconds: float) -> str:
    """Return how fast a model was: summaries, tokens, seconds and tokens a second. Some servers count no tokens."""
    tokens = sum(summary["num_tokens"] for summary in summaries)
    counted = f", {tokens} tokens ({tokens / seconds:.0f} tokens a second)" if tokens else ""
    count = f"{len(summaries)} summar{'y' if len(summaries) == 1 else 'ies'}"
    return f"{summaries[0]['model']}: {count} in {seconds:.1f} s{counted}"


def check(summaries: Sequence[dict[str, Any]], *, rules: bool) -> list[CheckedSummary]:
    """Return the summaries of one note, checked against it by the rules if `rules` is set."""
    return [checked_summary(each["clinical_note"], each["generated_summary"], rules=rules) for each in summaries]


def print_summaries(
    summaries: Sequence[dict[str, Any]], checked: Sequence[CheckedSummary], stream: TextStream | None = None
) -> None:
    """Print a note and its summary; the summaries of two models next to each other, with the differences marked.

    What `stream` has printed already is not printed again.
    """
    remarks = [
        "" if each["finished"] else f"(broken off after {each['num_tokens']} tokens; --max_new_tokens sets the limit)"
        for each in summaries
    ]
    if stream:
        stream.finish(summaries[0]["generated_summary"], remarks[0])
        return
    print(heading(summaries[0]["clinical_note"]))
    width = max(get_terminal_size().columns, NARROWEST)
    print(shown([each["model"] for each in summaries], checked, remarks, width=width, colour=shows_colour()))


def result_columns(summaries: Sequence[dict[str, Any]], checked: Sequence[CheckedSummary]) -> dict[str, Any]:
    """Return what an output row says about the summaries of one note; a second model's names begin with `compare_`."""
    columns: dict[str, Any] = {}
    for prefix, summary, each in zip(PREFIXES, summaries, checked, strict=False):
        found = {name: summary[name] for name in RESULT_COLUMNS} | each.columns()
        columns |= {f"{prefix}{name}": value for name, value in found.items()}
    return columns


def run_interactive(args: argparse.Namespace) -> int:
    """Ask for notes until the input ends, and print their summaries."""
    settings = sampling_settings(args)
    samplers = [load(make) for make in sampler_makers(args)]
    print("Type or paste a clinical note, blank lines and all. A line with only a full stop ends it.")
    print("Ctrl-D or the word quit leaves.")
    while (note := ask_lines("\nNote> ", "(. ends) > ", END_OF_NOTE, ("quit", "exit"))) is not None:
        if not note:
            continue
        stream = attach_stream(samplers[0], note) if args.stream else None
        try:
            summaries = [summarise(sampler, [note], settings)[0] for sampler in samplers]
        except PromptTooLong as error:  # the next note may be shorter
            print(f"error: the note is too long: {error.reason}", file=sys.stderr)
        else:
            print_summaries(summaries, check(summaries, rules=args.check), stream)
    return 0


def main(args: argparse.Namespace) -> int:
    """Summarise one note, a file of notes, or notes typed in a terminal."""
    check_args(args)
    if not args.output_file:
        return summarise_input(args)
    require_free_output(args.output_file, args.input_file, overwrite=args.overwrite)
    with lock_folder(args.output_file.parent, args.output_file.name):
        return summarise_input(args)


def summarise_input(args: argparse.Namespace) -> int:
    """Do what the script is for, while no other run writes to the same file; return the exit code."""
    add_lexicons(args.lexicon_dir)
    if args.clinical_note is not None:
        return run_notes(args, [note_of_argument(args.clinical_note, "--clinical_note")])
    if args.input_file:
        notes = read_notes(args.input_file, args.note_column, one_per_file=args.one_note_per_file)
        if args.input_file.suffix.lower() == ".txt" and args.input_file.is_file() and not args.one_note_per_file:
            warn_of_pieces(args.input_file)
        return run_notes(args, notes)
    if sys.stdin.isatty():
        if args.output_file:
            raise InputError("--output_file needs --clinical_note or --input_file")
        return run_interactive(args)
    print("No note was given and there is no terminal to ask in: this is a built-in example.", file=sys.stderr)
    return run_notes(args, [one_note("1", BUILT_IN_NOTE)])


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
