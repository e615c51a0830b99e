"""Sample several summaries of each note, from which `judge_completions.py` makes on-policy pairs for Stage B.

In:  a Phase 1 CSV (its distinct notes), or a JSONL file with `prompt`; a model folder or a server.
Out: `completions.jsonl`, one row per prompt: {id, prompt, clinical_note and reference (if known), completions,
     finished}; and `completions.config.json`, its settings. The same command continues a run that was stopped.

    python generate_completions.py --max_prompts 20
    python generate_completions.py --base_url http://localhost:8000/v1 --served_model sft --num_completions 5

On-policy pairs come from the distribution of the model that will be trained on them (Tajwar et al. 2024).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from language_model.placement import add_base_model_argument, add_model_arguments
from language_model.prompt_flags import PROMPT_FLAGS, template_content
from language_model.prompt_format import build_prompt, note_of_row
from language_model.sampler import Completion, Sampler, SamplingSettings
from language_model.sampler_flags import (
    add_endpoint_arguments,
    add_sampling_arguments,
    endpoint_sampler,
    local_sampler,
    sampling_settings,
)
from script_io.columns_flag import PROMPT_ROLES, add_columns_argument, column_names
from script_io.errors import ArgumentParser, InputError, at_least, run_script
from script_io.files import (
    private_opener,
    read_json_object,
    read_jsonl,
    refuse_overwriting,
    write_json,
    write_jsonl,
)
from script_io.folder_lock import lock_folder
from script_io.phase1_csv import DATA_REMEDY, FACTUAL_LABELS, row_problem
from script_io.phase1_files import stream_phase1
from script_io.stop_signals import told_when_stopped
from script_io.tables import DELIMITERS, TABLE_SUFFIXES, stream_table

DEFAULT_MODEL_PATH = "./models/sft_specialist/final_model"
CHOSEN_DTYPE = "chosen_dtype"  # what --dtype auto found by a measurement, which may differ when a run is resumed
# the texts depend on these flags and on the model
SAMPLING_FLAGS = ("num_completions", "max_new_tokens", "temperature", "seed", "top_k", "top_p", "keep_thinking")
# what earlier versions, which had no such flags, did; they stored nothing
UNSTORED = {"top_k": 0, "top_p": 1.0, "keep_thinking": False}


@dataclass(frozen=True)
class Prompt:
    """One prompt to complete, with its note and a factual summary of the note if they are known."""

    prompt_id: str
    text: str
    reference: str | None
    note: str | None


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    data = parser.add_argument_group("Data")
    data.add_argument(
        "--prompts_path",
        type=Path,
        default=Path("phase1_data/sft/train_set_processed.csv"),
        help="Phase 1 file, or one with prompt and optionally id, clinical_note and reference: .csv, .tsv, .jsonl, "
        ".json or .parquet (default: %(default)s)",
    )
    add_columns_argument(data, PROMPT_ROLES)
    data.add_argument(
        "--max_prompts", type=at_least(1), help="number of prompts to complete, from the top of the file (default: all)"
    )
    model = parser.add_argument_group("Model")
    model.add_argument(
        "--model_path",
        default=DEFAULT_MODEL_PATH,
        help="model or adapter, a folder or a hub id (default: %(default)s, written by Stage A)",
    )
    add_base_model_argument(model)
    output = parser.add_argument_group("Output")
    output.add_argument(
        "--output_path",
        type=Path,
        default=Path("phase2_data/on_policy/completions.jsonl"),
        help="JSONL file for the completions; prompts that have a row there are not completed again (default: "
        "%(default)s)",
    )
    generation = add_sampling_arguments(parser, temperature=0.9)
    generation.add_argument("--num_completions", type=at_least(1), default=3, help="number of summaries per prompt")
    add_endpoint_arguments(parser)
    add_model_arguments(parser)
    return parser.parse_args(argv)


def read_prompts(path: Path, columns: Mapping[str, str] | None = None) -> list[Prompt]:
    """Return the distinct prompts of a Phase 1 file or a file of prompts, in order.

    `columns` maps names of ours to names of the file. Raises InputError if two prompts share an id.
    """
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise InputError(f"{path}: the name must end in {', '.join(TABLE_SUFFIXES)}; rename or convert the file")
    _, first = next(stream_table(path, (), DATA_REMEDY, columns))
    is_phase1 = "prompt" not in first and ("clinical_note" in first or path.suffix.lower() in DELIMITERS)
    prompts = prompts_of_phase1(path, columns) if is_phase1 else prompts_of_table(path, columns)
    texts: dict[str, str] = {}
    for prompt in prompts:
        if texts.setdefault(prompt.prompt_id, prompt.text) != prompt.text:
            raise InputError(f"{path}: two different notes have the id {prompt.prompt_id}; rename one")
    return prompts


def prompts_of_phase1(path: Path, columns: Mapping[str, str] | None) -> list[Prompt]:
    """Return one prompt per distinct note; its reference is the first factual summary of the note."""
    found: dict[str, Prompt] = {}
    for place, row in stream_phase1(path, columns):
        if problem := row_problem(row):
            raise InputError(f"{path}, {place}: {problem}")
        text = build_prompt(row["clinical_note"])
        reference = row["model_summary"].strip() if row["label"] in FACTUAL_LABELS else None
        known = found.get(text)
        if known is None:
            found[text] = Prompt(row.get("id") or place.row_id, text, reference, row["clinical_note"].strip())
        elif known.reference is None:
            found[text] = replace(known, reference=reference)
    return list(found.values())


def prompts_of_table(path: Path, columns: Mapping[str, str] | None) -> list[Prompt]:
    """Return one prompt per distinct `prompt`; without an id, its id is the number of its line or row."""
    found: dict[str, Prompt] = {}
    for place, row in stream_table(path, ("prompt",), DATA_REMEDY, columns):
        text, reference = row["prompt"], row.get("reference")
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{path}, {place}: prompt is not a text; give it as one string")
        if reference is not None and not isinstance(reference, str):
            raise InputError(f"{path}, {place}: reference is not a text; give it as one string or leave it out")
        try:
            note = note_of_row(row)
        except InputError as error:
            raise InputError(f"{path}, {place}: {error}") from error
        found.setdefault(text, Prompt(str(row.get("id", place.row_id)), text, reference or None, note))
    return list(found.values())


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that the texts depend on; a file is resumed only with the same settings."""
    served = {
        "base_url": args.base_url,
        "served_model": args.served_model,
        "prompt_format": args.endpoint_prompt_format,
    }
    model_path = str(Path(args.model_path))
    local = {"model_path": model_path, "weights_sha256": weights_sha256(Path(model_path))}
    local |= {
        name: getattr(args, name) for name in ("base_model", "dtype", "use_8bit", "use_4bit", "overflow", *PROMPT_FLAGS)
    }
    local |= template_content(args)
    return (served if args.base_url else local) | {name: getattr(args, name) for name in SAMPLING_FLAGS}


def weights_sha256(folder: Path) -> str | None:
    """Return a hash of the weights in a folder, which changes if the model is trained again; None for a hub id."""
    digest = hashlib.sha256()
    files = sorted(folder.glob("*.safetensors"))
    for file in files:
        with file.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest() if files else None


def config_path_of(output_path: Path) -> Path:
    return output_path.with_name(f"{output_path.stem}.config.json")


def read_output(output_path: Path, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the finished rows by prompt, and drop an incomplete last line, left by a killed run, from the file.

    Raises InputError if the rows were made with other settings.
    """
    if not output_path.exists():
        return {}
    remedy = "name another --output_path, or move the file aside to start again"
    stored = UNSTORED | read_json_object(config_path_of(output_path), remedy)
    stored.pop(CHOSEN_DTYPE, None)
    changed = [name for name in {**stored, **settings} if stored.get(name) != settings.get(name)]
    if changed:
        pairs = ", ".join(f"{name} {stored.get(name)} there, {settings.get(name)} now" for name in changed)
        raise InputError(f"{output_path}: made with other settings ({pairs}); {remedy}")
    drop_torn_line(output_path)
    if output_path.stat().st_size == 0:
        return {}
    columns = ("id", "prompt", "completions", "finished")
    return {row["prompt"]: row for _, row in read_jsonl(output_path, columns, remedy)}


def drop_torn_line(path: Path) -> None:
    """Cut the file after its last line end; the rest was being written when the run was killed."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        print(f"{path}: dropped a torn last line of {len(content) - whole} bytes; its prompt is completed again")
        with path.open("r+b") as handle:
            handle.truncate(whole)


def row_of(prompt: Prompt, completions: Sequence[Completion]) -> dict[str, Any]:
    """Return the stored form, without `clinical_note` and `reference` if they are not known."""
    row: dict[str, Any] = {"id": prompt.prompt_id, "prompt": prompt.text}
    if prompt.note is not None:
        row["clinical_note"] = prompt.note
    if prompt.reference is not None:
        row["reference"] = prompt.reference
    row["completions"] = [completion.text for completion in completions]
    row["finished"] = [completion.finished for completion in completions]
    return row


def without_long_ones(sampler: Sampler, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Prompt]:
    """Return the prompts for which the model has room, and print the ids of the others."""
    errors = {error.index: error for error in sampler.too_long([prompt.text for prompt in prompts], max_new_tokens)}
    for index, error in errors.items():
        print(f"left out: prompt {prompts[index].prompt_id}: {error.reason}", file=sys.stderr)
    return [prompt for index, prompt in enumerate(prompts) if index not in errors]


def append_completions(
    sampler: Sampler,
    prompts: Sequence[Prompt],
    known: Collection[str],
    sampling: SamplingSettings,
    output_path: Path,
    stored: dict[str, Any],
) -> None:
    """Write the `stored` settings, and append the completions of each prompt as soon as they are ready.

    The texts of the prompts in `known` have a row already. The sampler gets them as well: it may compute prompts
    together, and then repeats what was not completed together, so that the file equals an uninterrupted run's.
    """
    prompts = without_long_ones(sampler, prompts, sampling.max_new_tokens)
    done = {index for index, prompt in enumerate(prompts) if prompt.text in known}
    if len(done) == len(prompts):
        return
    results = sampler.complete([prompt.text for prompt in prompts], sampling, "Completions", done)
    write_json(config_path_of(output_path), stored)
    said = f"{output_path} keeps the completions so far; the same command goes on from there."
    with (
        told_when_stopped(lambda: said),
        open(output_path, "a", encoding="utf-8", newline="", opener=private_opener) as handle,
    ):
        for index, completions in results:
            handle.write(json.dumps(row_of(prompts[index], completions), ensure_ascii=False) + "\n")
            handle.flush()


def make_sampler(args: argparse.Namespace) -> Sampler:
    """Return the model on the server, or load the local one, in the dtype that the rows so far were made in.

    Sets `args.dtype` to the dtype that was chosen.
    """
    if args.base_url:
        return endpoint_sampler(args, args.served_model)
    config = config_path_of(args.output_path)
    chosen = read_json_object(config).get(CHOSEN_DTYPE) if config.exists() else None
    dtypes = {args.model_path: chosen} if chosen else {}
    sampler = local_sampler(args, args.model_path, dtypes)
    args.dtype = dtypes[args.model_path]
    return sampler


def check_args(args: argparse.Namespace) -> None:
    """Raise InputError for flags that exclude or need each other."""
    if bool(args.base_url) != bool(args.served_model):
        raise InputError("--base_url and --served_model go together: the server, and its name for the model")
    if args.base_url and args.model_path != DEFAULT_MODEL_PATH:
        raise InputError("--model_path and --base_url name two models; give one of them")
    if args.output_path.suffix != ".jsonl":
        raise InputError(f"--output_path {args.output_path}: the name must end in .jsonl")
    refuse_overwriting(args.prompts_path, [args.output_path], "--output_path")


def main(args: argparse.Namespace) -> int:
    """Complete the prompts that have no row yet, and sort the rows in the order of the prompts."""
    check_args(args)
    with lock_folder(args.output_path.parent, args.output_path.name):
        return complete_prompts(args)


def complete_prompts(args: argparse.Namespace) -> int:
    """Do what the script is for, while no other run writes to the same file; return the exit code."""
    sampling = sampling_settings(args, args.num_completions)
    prompts = read_prompts(args.prompts_path, column_names(args.columns, PROMPT_ROLES))[: args.max_prompts]
    known = sum(prompt.reference is not None for prompt in prompts)
    print(f"Loaded {len(prompts)} prompts from {args.prompts_path}, {known} with a reference")
    settings = settings_of(args)
    rows = read_output(args.output_path, settings)
    missing = [prompt for prompt in prompts if prompt.text not in rows]
    print(f"{len(prompts) - len(missing)} are completed already, {len(missing)} are to do")
    if missing:
        sampler = make_sampler(args)
        stored = settings if args.base_url else settings | {CHOSEN_DTYPE: args.dtype}
        append_completions(sampler, prompts, rows, sampling, args.output_path, stored)
        rows = read_output(args.output_path, settings)
        if not rows:
            raise InputError("no prompt leaves room for its completion; lower --max_new_tokens or use another model")
    place = {prompt.text: number for number, prompt in enumerate(prompts)}
    in_order = sorted(rows.values(), key=lambda row: place.get(row["prompt"], len(place)))
    if in_order != list(rows.values()):  # also if an earlier run was killed before it had sorted them
        write_jsonl(args.output_path, in_order)
    finished = [each for row in rows.values() for each in row["finished"]]
    print(f"{finished.count(False)} of {len(finished)} completions were cut off at {args.max_new_tokens} tokens")
    if left_out := len(prompts) - sum(prompt.text in rows for prompt in prompts):
        print(f"{left_out} of {len(prompts)} prompts were left out as too long for the model (named above)")
    print(f"Saved {len(rows)} rows to {args.output_path}")
    print(f"Next: python judge_completions.py --completions_path {shlex.quote(str(args.output_path))}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
