"""Read a Phase 1 file for Stage A: factual notes and summaries, tokenised, with the loss on the summary only.

In:  a Phase 1 CSV, TSV, JSONL, JSON array or Parquet file (id, clinical_note, model_summary, label, hallucination_type;
     --columns names other columns), or conversations: a file with `messages`.
Out: as a library, `SFTDataset` and loaders; as a script, every problem of the file with its line.

    python sft_dataset.py                                           # checks phase1_data/sft/train_set_processed.csv
    python sft_dataset.py phase1_data/sft/test_set_processed.csv
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from language_model.chat_messages import conversation_problem
from language_model.conversations import KEY, holds_conversations, read_conversations, read_turns
from language_model.length_limits import LengthReport, encode_within
from language_model.loading import load_tokenizer
from language_model.prompt_flags import add_prompt_arguments, prompt_settings
from language_model.prompt_format import Text, build_prompt, encode_completion, encode_prompt, load_prompt_format
from scoring.packed_rows import PromptCompletions
from script_io.columns_flag import PHASE1_ROLES, add_columns_argument, column_names
from script_io.errors import EXIT_BAD_INPUT, ArgumentParser, InputError, placed, run_script
from script_io.phase1_csv import FACTUAL_LABELS, row_problem
from script_io.phase1_files import Phase1Row, read_phase1
from script_io.tables import TABLE_SUFFIXES, Place, repeated_id

if TYPE_CHECKING:
    import torch
    from torch.utils.data import DataLoader
    from transformers import PreTrainedTokenizerBase

DEFAULT_TRAIN_CSV = "phase1_data/sft/train_set_processed.csv"


@dataclass(frozen=True)
class Example:
    """A prompt and the answer that is trained on. `note` is the note in the prompt, if it is known."""

    id: str
    prompt: Text
    answer: Text
    note: str | None = None


class SFTDataset:
    """Factual rows of a Phase 1 file, or turns of conversations, as tensors that are each (T,) long.

    An item has `input_ids`, `attention_mask` and `labels`. T is the length of the longest example, so that any collator
    can stack the items; `collate` trims the padding. Labels are -100 on the prompt and on padding. Rows over
    `max_length` tokens are listed in `report` and left out. `columns` maps names of ours to names of the file.
    PyTorch's DataLoader and transformers' Trainer accept the dataset. It does not inherit from PyTorch's `Dataset`,
    because importing torch would slow down `--help`.
    """

    def __init__(
        self,
        path: str | Path,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int = 512,
        prompt_format: str = "plain",
        overflow: str = "drop",
        columns: Mapping[str, str] | None = None,
    ) -> None:
        self.path = str(path)
        self.pad_id = tokenizer.pad_token_id
        self.report = LengthReport(max_length)
        self.ids: list[str] = []
        self.examples: list[tuple[list[int], list[int]]] = []  # prompt, completion
        for place, example in training_examples(path, columns):
            with placed(place):
                encoded = encode_within(
                    tokenizer,
                    example.id,
                    example.prompt,
                    [example.answer],
                    prompt_format,
                    overflow,
                    self.report,
                    note=example.note,
                )
            if encoded:
                self.ids.append(example.id)
                self.examples.append((encoded[0], encoded[1][0]))
        self.report.announce(self.path, overflow)
        self.longest = max(len(prompt) + len(completion) for prompt, completion in self.examples)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        from scoring.padded_logps import pad_examples

        return {name: rows[0] for name, rows in pad_examples([self.encoded(index)], self.pad_id, self.longest).items()}

    def encoded(self, index: int) -> PromptCompletions:
        """Return the token ids of an example, without padding."""
        prompt, completion = self.examples[index]
        return PromptCompletions(prompt, (completion,))

    def tokens(self, index: int) -> int:
        """Return the number of tokens of an example, prompt and summary."""
        return sum(map(len, self.examples[index]))

    def supervised_tokens(self, index: int) -> int:
        """Return the number of tokens with a loss."""
        return len(self.examples[index][1])


def collate(items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Stack items into (B, T) tensors; T is the length of the longest item without padding."""
    import torch

    batch = {key: torch.stack([item[key] for item in items]) for key in items[0]}
    length = int(batch["attention_mask"].sum(dim=1).max())
    return {key: tensor[:, :length] for key, tensor in batch.items()}


def training_examples(path: str | Path, columns: Mapping[str, str] | None = None) -> Iterator[tuple[str, Example]]:
    """Yield (place, example) for the factual rows of a Phase 1 file, or for the turns of conversations."""
    if holds_conversations(path):
        for turn in read_turns(path):
            yield f"{path}, {turn.place}", Example(turn.id, turn.prompt, turn.answer)
        return
    for row in load_factual_rows(path, columns):
        note = row["clinical_note"]
        yield f"{path}, row {row['id']}", Example(row["id"], build_prompt(note), row["model_summary"], note.strip())


def load_factual_rows(path: str | Path, columns: Mapping[str, str] | None = None) -> list[dict[str, str]]:
    """Return the factual rows of a Phase 1 file, each with an id. Raises InputError with place and remedy."""
    rows = read_phase1(path, columns)
    print(f"Loaded {len(rows)} examples from {path}")
    ids: dict[str, Place] = {}
    for place, row in rows:
        row["id"] = row.get("id") or place.row_id
        if problem := row_problem(row) or repeated_id(row["id"], place, ids):
            raise InputError(
                f"{path}, {place}: {problem}; run python sft_dataset.py {path} for every such {place.unit}"
            )
    factual = [row for _, row in rows if row["label"] in FACTUAL_LABELS]
    print(f"Filtered to {len(factual)} factual examples")
    if not factual:
        raise InputError(f"{path}: no row is labelled {' or '.join(FACTUAL_LABELS)}; there is nothing to train on")
    return factual


def create_sft_dataloaders(
    train_csv: str | Path,
    val_csv: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int = 8,
    max_length: int = 512,
    prompt_format: str = "plain",
    overflow: str = "drop",
    seed: int = 42,
    columns: Mapping[str, str] | None = None,
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Return two loaders of (B, T) batches; `seed` shuffles the training one. Their `.dataset` suits any trainer."""
    import torch
    from torch.utils.data import DataLoader

    options: dict[str, Any] = {"max_length": max_length, "prompt_format": prompt_format, "overflow": overflow}
    options["columns"] = columns
    train: Any = SFTDataset(train_csv, tokenizer, **options)
    val: Any = SFTDataset(val_csv, tokenizer, **options)
    generator = torch.Generator().manual_seed(seed)
    return (
        DataLoader(train, batch_size=batch_size, shuffle=True, generator=generator, collate_fn=collate),
        DataLoader(val, batch_size=batch_size, collate_fn=collate),
    )


def find_problems(path: str | Path, columns: Mapping[str, str] | None = None) -> list[str]:
    """Return the problems of a Phase 1 file, one line each: bad rows, duplicates, notes of other splits."""
    return problems_of_rows(path, read_phase1(path, columns), columns)


def problems_of_rows(
    path: str | Path, rows: Sequence[Phase1Row], columns: Mapping[str, str] | None = None
) -> list[str]:
    """Return the problems of the rows of the Phase 1 file `path`; see `find_problems`."""
    problems = [f"{place}: {problem}" for place, row in rows if (problem := row_problem(row))]
    first_places: dict[tuple[str, str], Place] = {}
    first_ids: dict[str, Place] = {}
    for place, row in rows:
        pair = (row["clinical_note"], row["model_summary"])
        if first_places.setdefault(pair, place) != place:
            problems.append(f"{place}: the same note and summary as on {first_places[pair]}; delete one")
        if row.get("id") and (problem := repeated_id(row["id"], place, first_ids)):
            problems.append(f"{place}: {problem}")
    return problems + _shared_notes(Path(path), rows, columns)


def _shared_notes(path: Path, rows: Sequence[Phase1Row], columns: Mapping[str, str] | None) -> list[str]:
    problems = []
    for other in sorted(path.parent.glob("*_set_processed.*")):
        if other.suffix not in TABLE_SUFFIXES or other.resolve() == path.resolve():
            continue
        notes = {row["clinical_note"] for _, row in read_phase1(other, columns)}
        problems += [
            f"{place}: the note is also in {other.name}; keep it in one split"
            for place, row in rows
            if row["clinical_note"] in notes
        ]
    return problems


def rendering_problems(
    path: str | Path, tokenizer: PreTrainedTokenizerBase, prompt_format: str, columns: Mapping[str, str]
) -> list[str]:
    """Return the rows that cannot be rendered as training would render them, one line each."""
    problems = []
    for place, example in training_examples(path, columns):
        try:
            encode_prompt(tokenizer, example.prompt, prompt_format)
            encode_completion(tokenizer, example.answer, prompt_format)
        except InputError as error:
            problems.append(f"{place.removeprefix(f'{path}, ')}: {error}")
    return problems


def conversation_problems(path: str | Path) -> list[str]:
    """Return the problems of a file of conversations, one line each."""
    found = ((place, conversation_problem(row[KEY])) for place, row in read_conversations(path))
    return [f"{place}: {KEY}: {problem}" for place, problem in found if problem]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    data = parser.add_argument_group("Data")
    data.add_argument(
        "file",
        nargs="?",
        default=DEFAULT_TRAIN_CSV,
        help="Phase 1 file or conversations to check (default: %(default)s)",
    )
    add_columns_argument(data, PHASE1_ROLES)
    data.add_argument(
        "--tokenizer",
        metavar="MODEL",
        help="tokenizer to render every row with, a model folder or hub id, which the prompt flags below need "
        "(default: none, rows are not rendered)",
    )
    add_prompt_arguments(parser)
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    columns = column_names(args.columns, PHASE1_ROLES)
    if holds_conversations(args.file):
        problems = conversation_problems(args.file)
    else:
        rows = read_phase1(args.file, columns)
        describe_phase1(args.file, rows)
        problems = problems_of_rows(args.file, rows, columns)
    if args.tokenizer and not problems:  # what cannot be read cannot be rendered
        tokenizer = load_tokenizer(args.tokenizer)
        prompt_format = load_prompt_format(args.tokenizer, tokenizer, prompt_settings(args))
        problems = rendering_problems(args.file, tokenizer, prompt_format, columns)
    print("\n".join(f"{args.file}, {problem}" for problem in problems) or "No problem found.")
    return EXIT_BAD_INPUT if problems else 0


def describe_phase1(path: str, numbered_rows: Sequence[Phase1Row]) -> None:
    """Print how many rows a Phase 1 file has of each label, and how long its notes are."""
    rows = [row for _, row in numbered_rows]
    labels = ", ".join(f"{label} {count}" for label, count in Counter(row["label"] for row in rows).most_common())
    words = sorted(len(row["clinical_note"].split()) for row in rows)
    print(f"{path}: {len(rows)} rows ({labels}); notes of {words[0]} to {words[-1]} words")


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
