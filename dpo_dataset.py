"""Preference data: (prompt, chosen, rejected) triplets from one JSONL file or several, tokenised for Stage B.

python dpo_dataset.py                                  # checks phase2_data/dpo/train_dpo.jsonl
python dpo_dataset.py phase2_data/dpo/val_dpo.jsonl    # checks a file, line by line
"""

from __future__ import annotations

import argparse
import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from language_model.length_limits import LengthReport, encode_within
from language_model.loading import load_tokenizer
from language_model.model_files import DEMO_BASE
from language_model.prompt_format import PROMPT_FORMATS, encode_completion
from scoring.packed_rows import Sample
from script_io.errors import EXIT_BAD_INPUT, ArgumentParser, InputError, run_script
from script_io.files import read_jsonl

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REQUIRED_KEYS = ("prompt", "chosen", "rejected")
DEFAULT_TRAIN_JSONL = "phase2_data/dpo/train_dpo.jsonl"
DATA_REMEDY = "make it with: python generate_phase2_data.py"
LENGTH_BIAS = 0.1  # relative difference of mean lengths from which a model can tell the answers by length alone


@dataclass(frozen=True)
class Triplet:
    """One preference pair in token ids; completions end with the end of sequence."""

    id: str
    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


class DPODataset:
    """The triplets of one JSONL file, or of several one behind the other.

    Those over `max_length` tokens are in `report`, not in the dataset; `sizes` counts what each file has left.
    Raises InputError for lines that cannot be trained on, and where chosen and rejected have the same tokens.
    """

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int = 512,
        prompt_format: str = "plain",
        overflow: str = "drop",
    ) -> None:
        self.paths = one_or_several(paths)
        self.pad_id = tokenizer.pad_token_id
        reports = [LengthReport(max_length) for _ in self.paths]
        parts = [
            read_triplets(path, tokenizer, prompt_format, overflow, report)
            for path, report in zip(self.paths, reports, strict=True)
        ]
        self.report = joined_report(self.paths, reports)
        self.sizes = [len(part) for part in parts]
        self._ends = list(accumulate(self.sizes))
        self.triplets = [triplet for part in with_distinct_ids(self.paths, parts) for triplet in part]

    def file_of(self, index: int) -> int:
        """Which of `paths` a triplet is from."""
        return bisect_right(self._ends, index)

    def __len__(self) -> int:
        return len(self.triplets)

    def sample(self, index: int) -> Sample:
        """The triplet as training computes it: its prompt with chosen and rejected, in this order."""
        triplet = self.triplets[index]
        return Sample(triplet.prompt, (triplet.chosen, triplet.rejected))

    def tokens(self, index: int) -> int:
        """Tokens of a triplet, its prompt counted once."""
        return self.sample(index).tokens


def one_or_several(paths: str | Path | Sequence[str | Path]) -> list[str]:
    """The names of one file or several, as a list."""
    return [str(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]


def read_triplets(
    path: str, tokenizer: PreTrainedTokenizerBase, prompt_format: str, overflow: str, report: LengthReport
) -> list[Triplet]:
    """The triplets of one file that are not too long; `report` takes down what became of all."""
    triplets: list[Triplet] = []
    rows = read_jsonl(path, REQUIRED_KEYS, DATA_REMEDY)
    for line, row in rows:
        if problem := row_problem(row):
            raise InputError(f"{path}, line {line}: {problem}; run python dpo_dataset.py {path} for every such line")
        example_id = str(row.get("id", f"line-{line}"))
        answers = [row["chosen"], row["rejected"]]
        encoded = encode_within(tokenizer, example_id, row["prompt"], answers, prompt_format, overflow, report)
        if encoded is None:
            continue
        prompt, (chosen, rejected) = encoded
        if chosen == rejected:
            raise InputError(f"{path}, line {line}: chosen and rejected have the same tokens; delete the line")
        triplets.append(Triplet(example_id, prompt, chosen, rejected))
    print(f"Loaded {len(rows)} DPO triplets from {path}")
    report.announce(path, overflow)
    return triplets


def joined_report(paths: Sequence[str], reports: Sequence[LengthReport]) -> LengthReport:
    """One report of all files; in that of several an id takes its file's name along."""
    if len(reports) == 1:
        return reports[0]
    joined = LengthReport(reports[0].max_length)
    for path, report in zip(paths, reports, strict=True):
        joined.lengths += report.lengths
        joined.dropped_ids += [f"{name} of {path}" for name in report.dropped_ids]
        joined.shortened_ids += [f"{name} of {path}" for name in report.shortened_ids]
    return joined


def with_distinct_ids(paths: Sequence[str], parts: Sequence[Sequence[Triplet]]) -> list[list[Triplet]]:
    """The same triplets; an id that more than one file uses takes its file's name along."""
    files_with = Counter(name for part in parts for name in {triplet.id for triplet in part})
    return [
        [replace(each, id=f"{each.id} of {path}") if files_with[each.id] > 1 else each for each in part]
        for path, part in zip(paths, parts, strict=True)
    ]


def row_problem(row: dict[str, Any]) -> str | None:
    """What is wrong with one row, or None."""
    for key in REQUIRED_KEYS:
        value = row[key]
        if isinstance(value, str):
            if not value.strip():
                return f"empty {key}; fill in or delete the line"
        elif not _is_chat(value):
            return f"{key} is neither text nor a list of messages with role and content"
    return "chosen and rejected are the same text; delete the line" if row["chosen"] == row["rejected"] else None


def _is_chat(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(message, dict)
            and isinstance(message.get("content"), str)
            and message["content"].strip()
            and isinstance(message.get("role"), str)
            for message in value
        )
    )


def find_problems(path: str | Path, tokenizer: PreTrainedTokenizerBase, prompt_format: str) -> list[str]:
    """Every problem of a DPO JSONL, one line each; of the length bias, one line for the file."""
    problems: list[str] = []
    first_lines: dict[str, int] = {}
    chosen_tokens = rejected_tokens = 0
    rows = read_jsonl(path, REQUIRED_KEYS, DATA_REMEDY)
    for line, row in rows:
        if problem := row_problem(row):
            problems.append(f"line {line}: {problem}")
            continue
        key = json.dumps([row[name] for name in REQUIRED_KEYS], sort_keys=True)
        if first_lines.setdefault(key, line) != line:
            problems.append(f"line {line}: the same triplet as on line {first_lines[key]}; delete one")
        chosen, rejected = (encode_completion(tokenizer, row[name], prompt_format) for name in REQUIRED_KEYS[1:])
        if chosen == rejected:
            problems.append(f"line {line}: chosen and rejected have the same tokens; delete the line")
        chosen_tokens += len(chosen)
        rejected_tokens += len(rejected)
    bias = rejected_tokens / chosen_tokens - 1 if chosen_tokens else 0.0
    if abs(bias) > LENGTH_BIAS:
        longer = "longer" if bias > 0 else "shorter"
        problems.append(f"all lines: rejected are {abs(bias):.0%} {longer} than chosen; length would tell them apart")
    return problems + _shared_prompts(Path(path), rows)


def _shared_prompts(path: Path, rows: list[tuple[int, dict[str, Any]]]) -> list[str]:
    """Lines whose prompt is also in the other split of the same folder: train beside val."""
    swapped = {"train": "val", "val": "train"}
    split = next((name for name in swapped if path.name.startswith(name)), None)
    other = path.with_name(path.name.replace(split, swapped[split], 1)) if split else path
    if split is None or not other.exists():
        return []
    prompts = {json.dumps(row["prompt"], sort_keys=True) for _, row in read_jsonl(other, REQUIRED_KEYS)}
    return [
        f"line {line}: the prompt is also in {other.name}; keep it in one split"
        for line, row in rows
        if json.dumps(row["prompt"], sort_keys=True) in prompts
    ]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("Data")
    data.add_argument("file", nargs="?", default=DEFAULT_TRAIN_JSONL, help="a DPO JSONL (default: %(default)s)")
    data.add_argument("--tokenizer", default=str(DEMO_BASE), help="model folder or hub id (default: the demo's base)")
    data.add_argument("--prompt_format", choices=PROMPT_FORMATS, default="plain", help="of training (default: plain)")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    rows = [row for _, row in read_jsonl(args.file, REQUIRED_KEYS, DATA_REMEDY)]
    problems = find_problems(args.file, load_tokenizer(args.tokenizer), args.prompt_format)
    print(f"{args.file}: {len(rows)} triplets")
    print("\n".join(f"{args.file}, {problem}" for problem in problems) or "No problem found.")
    return EXIT_BAD_INPUT if problems else 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
