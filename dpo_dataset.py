"""Read preference data for Stage B: (prompt, chosen, rejected) triplets, tokenised.

In:  JSONL, JSON array, Parquet, CSV or TSV files: `prompt`, `chosen`, `rejected`, each a text or a list of chat
     messages; script_io/preference_files.py lists the other forms, and --columns names other columns. The optional key
     `clinical_note` is the note in the prompt; --overflow shorten_note needs it for a prompt of another form.
     `edits`, `chosen_spans` and `rejected_spans`, also optional, say what differs (see docs/data_formats.md).
Out: as a library, `DPODataset`; as a script, every problem of the file with its line.

    python dpo_dataset.py                                  # checks phase2_data/dpo/train_dpo.jsonl
    python dpo_dataset.py phase2_data/dpo/val_dpo.jsonl
"""

from __future__ import annotations

import argparse
import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from language_model.chat_messages import message_problem
from language_model.counted_tokens import Counted, counted_shares, counted_tokens, span_problem
from language_model.length_limits import LengthReport, encode_within
from language_model.loading import load_tokenizer
from language_model.model_files import DEMO_BASE
from language_model.prompt_flags import add_prompt_arguments, prompt_settings
from language_model.prompt_format import encode_completion, encode_prompt, load_prompt_format, note_of_row
from scoring.packed_rows import PromptCompletions
from script_io.columns_flag import PREFERENCE_ROLES, add_columns_argument, column_names
from script_io.errors import EXIT_BAD_INPUT, ArgumentParser, InputError, placed, run_script
from script_io.preference_files import KEYS, read_preferences
from script_io.tables import Place, Row, repeated_id

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DEFAULT_TRAIN_JSONL = "phase2_data/dpo/train_dpo.jsonl"
LENGTH_BIAS = 0.1  # relative difference of the mean lengths above which length alone tells chosen from rejected


@dataclass(frozen=True)
class Triplet:
    """One preference pair in token ids. Completions end with the end-of-sequence token."""

    id: str
    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    counted: Counted | None = None  # tokens that the preference term counts; None: all


class DPODataset:
    """The triplets of one or several files, in order.

    Triplets over `max_length` tokens are listed in `report` and left out. `sizes` has the number of triplets kept from
    each file. `loss_on`, one of LOSS_ON, says which tokens the preference term counts. `columns` maps names of ours to
    names of the files. Raises InputError if a row cannot be used, or if its chosen and rejected have the same tokens.
    """

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int = 512,
        prompt_format: str = "plain",
        overflow: str = "drop",
        loss_on: str = "completion",
        columns: Mapping[str, str] | None = None,
    ) -> None:
        self.paths = one_or_several(paths)
        self.loss_on = loss_on
        self.pad_id = tokenizer.pad_token_id
        reports = [LengthReport(max_length) for _ in self.paths]
        parts = [
            read_triplets(path, tokenizer, prompt_format, overflow, report, loss_on, columns)
            for path, report in zip(self.paths, reports, strict=True)
        ]
        self.report = joined_report(self.paths, reports)
        self.sizes = [len(part) for part in parts]
        self._ends = list(accumulate(self.sizes))
        self.triplets = [triplet for part in with_distinct_ids(self.paths, parts) for triplet in part]

    def file_of(self, index: int) -> int:
        """Return the index in `paths` of the file that a triplet is from."""
        return bisect_right(self._ends, index)

    def __len__(self) -> int:
        return len(self.triplets)

    def encoded(self, index: int) -> PromptCompletions:
        """Return the token ids of a triplet: the prompt, and chosen and rejected in this order."""
        triplet = self.triplets[index]
        return PromptCompletions(triplet.prompt, (triplet.chosen, triplet.rejected))

    def tokens(self, index: int) -> int:
        """Return the number of tokens of a triplet; its prompt counts once."""
        return self.encoded(index).tokens


def one_or_several(paths: str | Path | Sequence[str | Path]) -> list[str]:
    """Return the paths of one or several files as a list."""
    return [str(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]


def read_triplets(
    path: str,
    tokenizer: PreTrainedTokenizerBase,
    prompt_format: str,
    overflow: str,
    report: LengthReport,
    loss_on: str = "completion",
    columns: Mapping[str, str] | None = None,
) -> list[Triplet]:
    """Return the triplets of a file, without the ones that are too long, and record all of them in `report`."""
    triplets: list[Triplet] = []
    rows = read_preferences(path, columns)
    places: dict[str, Place] = {}
    for place, row in rows:
        if problem := row_problem(row) or repeated_id(row.get("id", place.row_id), place, places):
            raise InputError(
                f"{path}, {place}: {problem}; run python dpo_dataset.py {path} for every such {place.unit}"
            )
        example_id = str(row.get("id", place.row_id))
        answers = [row["chosen"], row["rejected"]]
        with placed(f"{path}, {place}"):
            encoded = encode_within(
                tokenizer, example_id, row["prompt"], answers, prompt_format, overflow, report, note=note_of_row(row)
            )
        if encoded is None:
            continue
        prompt, (chosen, rejected) = encoded
        if chosen == rejected:
            raise InputError(f"{path}, {place}: chosen and rejected have the same tokens; delete the {place.unit}")
        ids, counts_all = (chosen, rejected), loss_on == "completion"
        with placed(f"{path}, {place}"):
            counted = None if counts_all else counted_tokens(row, ids, tokenizer, prompt_format, loss_on)
        triplets.append(Triplet(example_id, prompt, chosen, rejected, counted))
    print(f"Loaded {len(rows)} DPO triplets from {path}")
    report.announce(path, overflow)
    if found := [triplet.counted for triplet in triplets if triplet.counted]:
        print(f"The preference term counts {counted_shares(found)}")
    return triplets


def joined_report(paths: Sequence[str], reports: Sequence[LengthReport]) -> LengthReport:
    """Return one report for all files. With several files, each id is followed by its file name."""
    if len(reports) == 1:
        return reports[0]
    joined = LengthReport(reports[0].max_length)
    for path, report in zip(paths, reports, strict=True):
        joined.lengths += report.lengths
        joined.dropped_ids += [f"{name} of {path}" for name in report.dropped_ids]
        joined.shortened_ids += [f"{name} of {path}" for name in report.shortened_ids]
    return joined


def with_distinct_ids(paths: Sequence[str], parts: Sequence[Sequence[Triplet]]) -> list[list[Triplet]]:
    """Return the triplets; an id that several files use is followed by the file name."""
    files_with = Counter(name for part in parts for name in {triplet.id for triplet in part})
    return [
        [replace(each, id=f"{each.id} of {path}") if files_with[each.id] > 1 else each for each in part]
        for path, part in zip(paths, parts, strict=True)
    ]


def row_problem(row: dict[str, Any]) -> str | None:
    """Return what makes a row unusable and how to mend it, or None."""
    for key in KEYS:
        value = row[key]
        if isinstance(value, str):
            if not value.strip():
                return f"empty {key}; fill in or delete the line"
        elif problem := message_problem(value, is_prompt=key == "prompt"):
            return f"{key}: {problem}"
    if row["chosen"] == row["rejected"]:
        return "chosen and rejected are the same text; delete the line"
    if problem := span_problem(row):
        return problem
    try:
        note_of_row(row)
    except InputError as error:
        return str(error)
    return None


def find_problems(
    path: str | Path,
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    prompt_format: str,
    columns: Mapping[str, str] | None = None,
) -> list[str]:
    """Return the problems of the rows of a preference file, one line each; a length bias is one of the whole file."""
    problems: list[str] = []
    first_places: dict[str, Place] = {}
    ids: dict[str, Place] = {}
    chosen_tokens = rejected_tokens = 0
    for place, row in rows:
        if problem := repeated_id(row.get("id", place.row_id), place, ids):
            problems.append(f"{place}: {problem}")
        if problem := row_problem(row):
            problems.append(f"{place}: {problem}")
            continue
        key = json.dumps([row[name] for name in KEYS], sort_keys=True)
        if first_places.setdefault(key, place) != place:
            problems.append(f"{place}: the same triplet as on {first_places[key]}; delete one")
        try:
            encode_prompt(tokenizer, row["prompt"], prompt_format)
            chosen, rejected = (encode_completion(tokenizer, row[name], prompt_format) for name in KEYS[1:])
        except InputError as error:
            problems.append(f"{place}: {error}")
            continue
        if chosen == rejected:
            problems.append(f"{place}: chosen and rejected have the same tokens; delete the {place.unit}")
        chosen_tokens += len(chosen)
        rejected_tokens += len(rejected)
    bias = rejected_tokens / chosen_tokens - 1 if chosen_tokens else 0.0
    if abs(bias) > LENGTH_BIAS:
        longer = "longer" if bias > 0 else "shorter"
        problems.append(f"all lines: rejected are {abs(bias):.0%} {longer} than chosen; length alone tells them apart")
    return problems + _shared_prompts(Path(path), rows, columns)


def _shared_prompts(path: Path, rows: Sequence[Row], columns: Mapping[str, str] | None) -> list[str]:
    """Return a problem for each prompt that is also in the other split (train, or val or validation) of the folder."""
    others = {"train": ("val", "validation"), "validation": ("train",), "val": ("train",)}
    split = next((name for name in others if path.name.startswith(name)), None)
    if split is None:
        return []
    named = [path.with_name(path.name.replace(split, other, 1)) for other in others[split]]
    prompts = {
        json.dumps(row["prompt"], sort_keys=True): other.name
        for other in named
        if other.exists()
        for _, row in read_preferences(other, columns)
    }
    return [
        f"{place}: the prompt is also in {prompts[prompt]}; keep it in one split"
        for place, row in rows
        if (prompt := json.dumps(row["prompt"], sort_keys=True)) in prompts
    ]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    data = parser.add_argument_group("Data")
    data.add_argument(
        "file", nargs="?", default=DEFAULT_TRAIN_JSONL, help="preference file to check (default: %(default)s)"
    )
    add_columns_argument(data, PREFERENCE_ROLES)
    data.add_argument(
        "--tokenizer",
        default=str(DEMO_BASE),
        help="tokenizer to render every row with, a model folder or hub id (default: the demo's base)",
    )
    add_prompt_arguments(parser)
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    columns = column_names(args.columns, PREFERENCE_ROLES)
    rows = read_preferences(args.file, columns)
    tokenizer = load_tokenizer(args.tokenizer)
    prompt_format = load_prompt_format(args.tokenizer, tokenizer, prompt_settings(args))
    problems = find_problems(args.file, rows, tokenizer, prompt_format, columns)
    print(f"{args.file}: {len(rows)} triplets")
    print("\n".join(f"{args.file}, {problem}" for problem in problems) or "No problem found.")
    return EXIT_BAD_INPUT if problems else 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
