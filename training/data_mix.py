"""Stage B's training files: the share of each in an epoch, as the flags ask for it and as a run records it."""

from __future__ import annotations

import argparse
import math
import os
from typing import Any

from dpo_dataset import DPODataset, one_or_several
from script_io.columns_flag import PREFERENCE_ROLES, add_columns_argument
from script_io.errors import InputError
from training.batch_plan import Source, weighted_sources


class OneOrSeveral(argparse.Action):
    """Stores a single path as text, as the settings of earlier runs have it, and several as a list."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        setattr(namespace, self.dest, values[0] if len(values) == 1 else values)


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that name the training and validation files of Stage B."""
    data = parser.add_argument_group("Data")
    for flag, split in (("train", "training"), ("val", "validation")):
        data.add_argument(
            f"--{flag}_data_path",
            nargs="+",
            metavar="FILE",
            default=f"phase2_data/dpo/{flag}_dpo.jsonl",
            action=OneOrSeveral,
            help=f"preference file of the {split} split, as docs/data_formats.md lists them; several are joined",
        )
    add_columns_argument(data, PREFERENCE_ROLES)
    data.add_argument(
        "--data_weights",
        nargs="+",
        type=float,
        metavar="W",
        help="share of each training file in an epoch; a larger file is subsampled, a smaller one repeated "
        "(default: every triplet once)",
    )


def check_data_files(args: argparse.Namespace) -> None:
    """Raise InputError if a file is named twice, or if `--data_weights` does not fit the training files."""
    for flag in ("train_data_path", "val_data_path"):
        paths = one_or_several(getattr(args, flag))
        places = [os.path.realpath(path) for path in paths]  # Path.resolve fails on a circle of links
        if twice := [path for path, place in zip(paths, places, strict=True) if places.count(place) > 1]:
            raise InputError(f"--{flag} names {twice[0]} twice; name it once, --data_weights sets how often it is seen")
    if args.data_weights:
        weights, files = args.data_weights, len(one_or_several(args.train_data_path))
        given = " ".join(f"{weight:g}" for weight in weights)
        if len(weights) != files:
            raise InputError(f"--data_weights {given}: {len(weights)} for {files} training files; give one per file")
        if not all(0 < weight < math.inf for weight in weights):
            raise InputError(f"--data_weights {given}: must be numbers above 0; leave out a file that is not wanted")


def data_sources(args: argparse.Namespace, train: DPODataset) -> tuple[Source, ...]:
    """Return the share of each training file in an epoch and print it; empty if every triplet is seen once."""
    if not args.data_weights or len(train.paths) == 1:
        return ()
    sources = weighted_sources(train.sizes, args.data_weights)
    for path, source, weight in zip(train.paths, sources, args.data_weights, strict=True):
        share = f"{source.drawn} of {len(train)} triplets an epoch"
        if not source.drawn:
            raise InputError(f"--data_weights {weight:g} of {path}: {share}; raise it or leave the file out")
        print(f"{path}: {share}, from {source.size} ({source.drawn / source.size:.2f} times each)")
    return sources


def training_files(args: argparse.Namespace, train: DPODataset, sources: tuple[Source, ...]) -> list[dict[str, Any]]:
    """Return what is recorded of each training file; the weights add up to 1."""
    weights = args.data_weights or train.sizes
    drawn = [source.drawn for source in sources] or train.sizes
    return [
        {"path": path, "weight": weight / math.fsum(weights), "triplets": size, "triplets_an_epoch": count}
        for path, weight, size, count in zip(train.paths, weights, train.sizes, drawn, strict=True)
    ]
