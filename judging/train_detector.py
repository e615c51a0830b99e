"""Train a judge on summaries whose unsupported words are marked: LoRA and a linear head on a causal language model.

In:  --labels, one or several files of marked summaries in any form of judging/marked_summaries.py (labelled JSONL, the
     rating tool's manual_assessment.json, evaluation_results.csv, preferences.jsonl, triplets of
     generate_phase2_data.py), and optionally --hard_negatives, triplets to learn from first.
Out: in --output_dir the adapter, the head, `out_of_fold.jsonl` (for each summary the prediction of a detector that did
     not see its dialogue) and `detector.json` (settings, hash of the data, thresholds with both of their error rates).

    python -m judging.train_detector --labels LABELS.jsonl --base_model models/smollm2 --output_dir models/own_judge
    python -m judging.train_detector --labels manual_assessment.json --base_model models/smollm2 --output_dir judge

The dialogues are split into --folds folds. For each fold, a detector is trained on the others, and its predictions
for the fold are kept. From these predictions come the weights of judging/combination.py and all thresholds. A last
detector is trained on everything and saved. Use it with --judge detector --judge_model FOLDER, or next to the rules
with --evidence_model FOLDER. The lower layers of the model are frozen, and their output is computed once for all
folds; it is kept in memory, about 1.5 kB per token and 500 hidden units.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clinical.lexicon_flag import add_lexicon_argument, add_lexicons
from judging.combination import FOLDS, fold_of
from judging.detector_settings import PREDICTIONS_FILE, Prediction, fit_settings, print_settings
from judging.marked_summaries import MarkedSummary, read_marked
from language_model.placement import add_model_arguments, choose_placement
from script_io.errors import ArgumentParser, InputError, at_least, run_script
from script_io.files import write_jsonl
from script_io.provenance import provenance

if TYPE_CHECKING:
    import torch

    from judging.detector_training import TrainingRow, TrainingSettings
    from judging.token_detector import TokenDetector

SUMMARIES_PER_ROW = 16  # of one note; more are split over several rows
REPORT_EVERY = 25  # steps


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    data = parser.add_argument_group("Data")
    data.add_argument(
        "--labels", type=Path, nargs="+", required=True, metavar="FILE", help="files of marked summaries to learn from"
    )
    data.add_argument(
        "--hard_negatives",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="triplets to learn from first; dialogues that are also in --labels are left out (default: none)",
    )
    add_lexicon_argument(data)
    model = parser.add_argument_group("Model")
    model.add_argument(
        "--base_model", required=True, metavar="MODEL", help="folder or hub id of a causal language model"
    )
    model.add_argument(
        "--layers", type=at_least(0), default=10, help="number of layers, from the top, that get an adapter; 0: all"
    )
    model.add_argument(
        "--passes",
        type=int,
        choices=(1, 2),
        default=1,
        help="how often the model reads each summary; in the second reading a word sees what follows it",
    )
    model.add_argument("--lora_r", type=at_least(1), default=16, help="rank of the adapter")
    training = parser.add_argument_group("Optimisation")
    training.add_argument("--epochs", type=at_least(1), default=3, help="passes over the labels")
    training.add_argument(
        "--negative_epochs", type=at_least(1), default=1, help="passes over --hard_negatives before the labels"
    )
    training.add_argument(
        "--rows_per_step", type=at_least(1), default=2, help="notes per step, each with its summaries"
    )
    training.add_argument("--learning_rate", type=float, default=1e-3, help="highest learning rate of AdamW")
    training.add_argument(
        "--folds",
        type=at_least(2),
        default=FOLDS,
        help="number of equal parts of the notes; for each, a detector learns from the other notes",
    )
    training.add_argument(
        "--specificity",
        type=float,
        default=0.89,
        help="share of faultless summaries, above 0 and below 1, that the thresholds leave unflagged",
    )
    add_model_arguments(parser)
    output = parser.add_argument_group("Output")
    output.add_argument("--output_dir", type=Path, required=True, metavar="FOLDER", help="folder for the detector")
    output.add_argument(
        "--overwrite_output_dir", action="store_true", help="replace what is in --output_dir when the training ends"
    )
    return parser.parse_args(argv)


def read_all(paths: Sequence[Path]) -> list[MarkedSummary]:
    """Return the marked summaries of all files, each pair of note and summary once; print what was read."""
    seen: dict[tuple[str, str], MarkedSummary] = {}
    for path in paths:
        found = read_marked(path)
        wrong = sum(row.has_error for row in found)
        print(f"{path}: {len(found)} summaries of {len({row.note for row in found})} notes, {wrong} with an error")
        for row in found:
            seen.setdefault((row.note, row.summary), row)
    return list(seen.values())


def by_note(rows: Sequence[MarkedSummary]) -> list[list[MarkedSummary]]:
    """Return the rows in groups of one note, at most SUMMARIES_PER_ROW each."""
    groups: dict[str, list[MarkedSummary]] = {}
    for row in rows:
        groups.setdefault(row.note, []).append(row)
    return [
        group[first : first + SUMMARIES_PER_ROW]
        for group in groups.values()
        for first in range(0, len(group), SUMMARIES_PER_ROW)
    ]


def check_labels(rows: Sequence[MarkedSummary], folds: int) -> None:
    """Raise InputError if the cross-validation has nothing to measure."""
    notes = {row.note for row in rows}
    used = {fold_of(note, folds) for note in notes}
    if len(used) < folds:
        raise InputError(f"--labels: {len(notes)} notes are too few for --folds {folds}; label more, or lower --folds")
    for name, kind in (("with", True), ("without", False)):
        if not any(row.has_error is kind for row in rows):
            raise InputError(f"--labels: no summary {name} an error; the judge needs both kinds")


class Trainer:
    """The detector with its tokenizer, its state before training, and the settings."""

    def __init__(self, args: argparse.Namespace) -> None:
        import torch

        from judging.detector_training import TrainingSettings
        from judging.token_detector import new_detector
        from language_model.loading import load_base_model, load_tokenizer

        placement = choose_placement(args, args.base_model)
        self.tokenizer = load_tokenizer(args.base_model, args.trust_remote_code)
        model = load_base_model(args.base_model, placement, self.tokenizer)
        torch.manual_seed(args.seed)  # the adapter's random start
        self.detector: TokenDetector = new_detector(model, args.layers, args.lora_r, 2 * args.lora_r)
        self.passes = args.passes
        self.settings = TrainingSettings(args.epochs, args.rows_per_step, args.learning_rate, seed=args.seed)
        self.start = self.state()

    def state(self) -> list[torch.Tensor]:
        """Return a copy of adapter and head."""
        return [parameter.detach().clone() for parameter in self.detector.trained_parameters()]

    def reset(self) -> None:
        """Return adapter and head to their start."""
        for parameter, start in zip(self.detector.trained_parameters(), self.start, strict=True):
            parameter.data.copy_(start)

    def prepare(self, groups: Sequence[Sequence[MarkedSummary]], name: str) -> list[TrainingRow]:
        """Return the rows of the groups with the output of the frozen layers; print how long it took."""
        from judging.detector_training import training_row

        began = time.perf_counter()
        rows = [training_row(self.detector, self.tokenizer, group, self.passes) for group in groups]
        tokens = sum(row.packed.tokens for row in rows)
        seconds = time.perf_counter() - began
        print(f"{name}: {len(rows)} notes, {tokens:,} tokens; frozen layers computed in {seconds:.0f} s", flush=True)
        return rows

    def train(self, rows: Sequence[TrainingRow], settings: TrainingSettings, name: str) -> None:
        """Train on the rows and print the loss now and then."""
        from judging.detector_training import train

        began = time.perf_counter()
        recent: list[float] = []

        def report(step: int, steps: int, loss: float) -> None:
            recent.append(loss)
            if step % REPORT_EVERY == 0 or step == steps:
                mean = sum(recent[-REPORT_EVERY:]) / len(recent[-REPORT_EVERY:])
                seconds = time.perf_counter() - began
                print(f"{name} | step {step:>5}/{steps} | loss {mean:.4f} | {seconds:6.0f} s", flush=True)

        train(self.detector, rows, settings, report)


def learn_negatives(trainer: Trainer, args: argparse.Namespace, labelled: Sequence[MarkedSummary]) -> None:
    """Train on the hard negatives of other dialogues; the result is the start of every later training."""
    from dataclasses import replace

    notes = {row.note for row in labelled}
    negatives = read_all(args.hard_negatives)
    others = [row for row in negatives if row.note not in notes]
    print(f"Hard negatives: {len(others)} of {len(negatives)} texts are of other notes than the labels")
    if others:
        rows = trainer.prepare(by_note(others), "Hard negatives")
        trainer.train(rows, replace(trainer.settings, epochs=args.negative_epochs), "hard negatives")
        trainer.start = trainer.state()


def cross_validate(
    trainer: Trainer, groups: Sequence[Sequence[MarkedSummary]], rows: Sequence[TrainingRow], folds: int
) -> list[dict[str, Any]]:
    """Return the prediction for each summary by a detector that did not see its note, in the order of the groups."""
    from judging.detector_training import predictions

    found: dict[int, list[dict[str, Any]]] = {}
    fold = [fold_of(group[0].note, folds) for group in groups]
    for held_out in range(folds):
        trainer.reset()
        training = [row for row, own in zip(rows, fold, strict=True) if own != held_out]
        trainer.train(training, trainer.settings, f"fold {held_out + 1}/{folds}")
        for place in (place for place, own in enumerate(fold) if own == held_out):
            found[place] = predictions(trainer.detector, rows[place], groups[place])
    return [prediction for place in range(len(groups)) for prediction in found[place]]


def settings_of(args: argparse.Namespace, predicted: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the content of `detector.json`. Files are named without their folders."""
    files = [*args.labels, *args.hard_negatives]
    arguments = vars(args) | {
        name: [path.name for path in getattr(args, name)] for name in ("labels", "hard_negatives", "lexicon_dir")
    }
    return {
        "base_model": Path(args.base_model).name,
        "passes": args.passes,
        "arguments": {name: value for name, value in arguments.items() if name != "output_dir"},
        "sha256": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
        **fit_settings([Prediction.from_row(row) for row in predicted], args.specificity),
        **provenance(),
    }


def check_args(args: argparse.Namespace) -> None:
    """Raise InputError for a number out of range."""
    if not 0 < args.specificity < 1:
        raise InputError(f"--specificity {args.specificity}: give a share above 0 and below 1, such as 0.9")
    if not 0 < args.learning_rate < 1:
        raise InputError(f"--learning_rate {args.learning_rate}: give a number above 0 and below 1, such as 1e-3")


def refuse_used_folder(args: argparse.Namespace) -> None:
    """Raise InputError if the output folder holds something that may not be replaced."""
    folder = args.output_dir
    if folder.is_file():
        raise InputError(f"{folder}: is a file; name a folder with --output_dir")
    if folder.is_dir() and any(folder.iterdir()) and not args.overwrite_output_dir:
        raise InputError(f"{folder}: is not empty; pass --overwrite_output_dir to replace it, or another --output_dir")


def main(args: argparse.Namespace) -> int:
    """Cross-validate, fit the thresholds, train on everything, and save."""
    from judging.token_detector import save_detector

    check_args(args)
    add_lexicons(args.lexicon_dir)
    refuse_used_folder(args)
    labelled = read_all(args.labels)
    check_labels(labelled, args.folds)
    groups = by_note(labelled)
    trainer = Trainer(args)
    if args.hard_negatives:
        learn_negatives(trainer, args, labelled)
    rows = trainer.prepare(groups, "Labels")
    predicted = cross_validate(trainer, groups, rows, args.folds)
    settings = settings_of(args, predicted)
    print_settings(settings)
    write_jsonl(args.output_dir / PREDICTIONS_FILE, predicted)  # there already if the last training is interrupted
    trainer.reset()
    trainer.train(rows, trainer.settings, "all")
    save_detector(trainer.detector, args.output_dir, trainer.tokenizer, settings, args.base_model)
    write_jsonl(args.output_dir / PREDICTIONS_FILE, predicted)
    print(f"Saved the judge to {args.output_dir}")
    print(f"Next: python evaluation/evaluate_model.py --predictions FILE --evidence_model {args.output_dir}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
