"""The flags of Stage B's loss, and which of them belong together."""

from __future__ import annotations

import argparse
import math

from language_model.counted_tokens import LOSS_ON
from script_io.errors import InputError

# The names of dpo_loss.py, which loads torch; a test holds them equal
LOSS_TYPES = ("sigmoid", "sigmoid_norm", "ipo", "hinge", "robust", "apo_zero", "sppo_hard", "simpo", "orpo")
REFERENCE_FREE = ("simpo", "orpo")
# Flags that only some loss types read
_TYPES_WITH = {
    "label_smoothing": ("sigmoid", "robust"),
    "factuality_margin": ("sigmoid", "sigmoid_norm", "simpo"),
    "dpop_penalty": ("sigmoid", "sigmoid_norm"),
}


def add_loss_arguments(parser: argparse.ArgumentParser) -> None:
    loss = parser.add_argument_group("Loss")
    loss.add_argument(
        "--beta",
        type=float,
        default=0.1,
        help="weight of the log-probability ratios, per nat; a larger value keeps the policy closer to the reference; "
        "for simpo the weight of the mean log-probabilities (2 in its paper), for orpo of the whole term",
    )
    loss.add_argument(
        "--loss_type",
        choices=LOSS_TYPES,
        default="sigmoid",
        help="preference term; simpo and orpo have no reference; docs/losses.md says when to take which "
        "(default: sigmoid)",
    )
    loss.add_argument(
        "--loss_on",
        choices=LOSS_ON,
        default="completion",
        help="tokens that the preference term counts: all of both completions, the ones that differ between them, or "
        "all of chosen and the differing ones of rejected (default: completion)",
    )
    loss.add_argument(
        "--factuality_margin",
        type=float,
        default=0.0,
        help="what the difference of the rewards must exceed, in beta x nats (beta * lambda of F-DPO, "
        "arXiv:2601.03027; gamma of SimPO); for --loss_type sigmoid, sigmoid_norm and simpo",
    )
    loss.add_argument(
        "--dpop_penalty",
        type=float,
        default=0.0,
        help="weight of each nat that chosen has lost against the reference (lambda of DPOP, arXiv:2402.13228); for "
        "--loss_type sigmoid and sigmoid_norm",
    )
    loss.add_argument(
        "--label_smoothing",
        type=float,
        default=0.0,
        help="assumed share of pairs whose labels are swapped, 0 to below 0.5; for --loss_type sigmoid and robust",
    )
    loss.add_argument(
        "--nll_weight",
        type=float,
        default=0.0,
        help="weight of the per-token negative log-likelihood of the chosen completion",
    )
    loss.add_argument(
        "--preference_weight",
        type=float,
        default=1.0,
        help="weight of the preference term; 0 trains the control, which needs no reference",
    )


def check_loss_arguments(args: argparse.Namespace) -> None:
    """Raise InputError for numbers that make no loss, and for flags that the loss type does not read."""
    if not 0 < args.beta < math.inf:
        raise InputError(f"--beta {args.beta}: must be a number above 0")
    if not 0 <= args.label_smoothing < 0.5:
        raise InputError(f"--label_smoothing {args.label_smoothing}: must be at least 0 and below 0.5")
    for name in ("factuality_margin", "dpop_penalty"):
        if not 0 <= getattr(args, name) < math.inf:
            raise InputError(f"--{name} {getattr(args, name)}: must be a number of 0 or more")
    for name, types in _TYPES_WITH.items():
        if getattr(args, name) and args.loss_type not in types:
            raise InputError(f"--{name} has no meaning for --loss_type {args.loss_type}; leave it at 0")
    weights = (args.preference_weight, args.nll_weight)
    if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        raise InputError("--preference_weight and --nll_weight must be finite and not negative, nor both 0")
    if args.loss_type in REFERENCE_FREE and args.reference == "live":
        raise InputError(f"--reference live: --loss_type {args.loss_type} has no reference; leave --reference out")
    if args.loss_type == "orpo" and args.loss_on != "completion":
        raise InputError(
            f"--loss_on {args.loss_on}: --loss_type orpo compares the odds of whole completions; take --loss_on "
            "completion, or --loss_type simpo"
        )


def reference_kind(args: argparse.Namespace) -> str:
    """Return `cached` or `live`, or `none` if the loss of the run has no reference."""
    if args.preference_weight == 0 or args.loss_type in REFERENCE_FREE:
        return "none"
    kind: str = args.reference
    return kind
