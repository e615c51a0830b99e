"""The flags of a fresh LoRA adapter, and the peft configuration that they ask for on a model.

LoRA: Hu et al. 2021, arXiv:2106.09685. DoRA: Liu et al. 2024, arXiv:2402.09353. rsLoRA: Kalajdzievski 2023,
arXiv:2312.03732. PiSSA: Meng et al. 2024, arXiv:2404.02948.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from script_io.errors import InputError, at_least

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig

ALL_LINEAR = "all-linear"
STARTS = ("zero", "pissa")
_REGEX_CHARACTERS = frozenset("*+?()[]{}|\\^$")


@dataclass(frozen=True)
class LoraVariant:
    """What a fresh adapter has besides rank, scaling, dropout and target modules."""

    exclude_modules: tuple[str, ...] = ()
    modules_to_save: tuple[str, ...] = ()
    use_dora: bool = False
    use_rslora: bool = False

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> LoraVariant:
        """Return the variant that the flags of `add_variant_arguments` ask for."""
        excluded, saved = tuple(args.lora_exclude_modules), tuple(args.lora_modules_to_save)
        return cls(excluded, saved, args.use_dora, args.use_rslora)


PLAIN = LoraVariant()


def add_lora_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a fresh adapter."""
    lora = parser.add_argument_group("LoRA")
    lora.add_argument("--lora_r", type=at_least(1), default=16, help="rank of the adapter")
    lora.add_argument(
        "--lora_alpha", type=at_least(1), default=32, help="the adapter's output is scaled by alpha / rank"
    )
    lora.add_argument(
        "--lora_dropout",
        type=float,
        default=0.05,
        help="share of the adapter's inputs that are dropped in training, 0 to below 1",
    )
    lora.add_argument(
        "--lora_target_modules",
        nargs="+",
        metavar="NAME",
        default=["q_proj", "v_proj"],
        help="layers to adapt: names or ends of paths, one regular expression over whole paths, or all-linear for all "
        "linear layers except the output head (default: q_proj v_proj)",
    )
    add_variant_arguments(lora)
    lora.add_argument(
        "--neftune_noise_alpha",
        type=float,
        default=0.0,
        help="size of the noise on the embeddings in training (NEFTune's alpha, a factor; 5 to 15 are usual); 0: none",
    )


def add_variant_arguments(lora: argparse._ArgumentGroup) -> None:
    """Add the flags of a `LoraVariant` and of the adapter's start."""
    lora.add_argument(
        "--lora_exclude_modules",
        nargs="+",
        metavar="NAME",
        default=[],
        help="layers that are not adapted although --lora_target_modules covers them: names of layers or of parts of "
        "the model, such as vision_tower, or one regular expression over whole paths (default: none)",
    )
    lora.add_argument(
        "--lora_modules_to_save",
        nargs="+",
        metavar="NAME",
        default=[],
        help="modules that are trained whole and saved with the adapter, such as lm_head (default: none)",
    )
    lora.add_argument("--use_rslora", action="store_true", help="scale the adapter by alpha / sqrt(rank) (rsLoRA)")
    lora.add_argument("--use_dora", action="store_true", help="also train the norm of each output's weights (DoRA)")
    lora.add_argument(
        "--lora_init",
        choices=STARTS,
        default="zero",
        help="start of the adapter. zero: without effect; pissa: the largest singular values of each weight, saved as "
        "a plain adapter of twice the rank for the original base (default: zero)",
    )


def check_lora_arguments(args: argparse.Namespace) -> None:
    """Raise InputError for flags that exclude each other or are out of range."""
    if not 0 <= args.lora_dropout < 1:
        raise InputError(f"--lora_dropout {args.lora_dropout}: must be at least 0 and below 1")
    if not 0 <= args.neftune_noise_alpha < math.inf:
        raise InputError(f"--neftune_noise_alpha {args.neftune_noise_alpha}: must be a number of 0 or more")
    check_start(args)
    if args.lora_init == "pissa" and args.lora_dropout:
        raise InputError(
            "--lora_init pissa: dropout would drop the base's own weights; add --lora_dropout 0 to the command"
        )


def check_start(args: argparse.Namespace) -> None:
    """Raise InputError for a variant that the adapter's start rules out."""
    if args.lora_init == "pissa" and (args.use_dora or args.lora_modules_to_save):
        raise InputError(
            "--lora_init pissa is saved as a plain adapter for the original base, which --use_dora and "
            "--lora_modules_to_save rule out; leave them out"
        )


def lora_config(
    model: torch.nn.Module, r: int, alpha: int, dropout: float, targets: str | Sequence[str], variant: LoraVariant
) -> LoraConfig:
    """Return peft's configuration of an adapter for `model`. Raises InputError for modules that it does not have."""
    from peft import LoraConfig

    names = [targets] if isinstance(targets, str) else list(targets)
    _require_modules(model, names, "--lora_target_modules")
    _require_modules(model, variant.exclude_modules, "--lora_exclude_modules", parts=True)
    _require_modules(model, variant.modules_to_save, "--lora_modules_to_save")
    _refuse_tied(model, variant.modules_to_save)
    return LoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=names[0] if names == [ALL_LINEAR] or _is_regex(names) else names,
        exclude_modules=_excluded(variant.exclude_modules),
        modules_to_save=list(variant.modules_to_save) or None,
        use_dora=variant.use_dora,
        use_rslora=variant.use_rslora,
        task_type="CAUSAL_LM",
    )


def _is_regex(names: Sequence[str]) -> bool:
    return len(names) == 1 and bool(_REGEX_CHARACTERS & set(names[0]))


def _excluded(names: Sequence[str]) -> str | None:
    """Return the expression that peft matches against whole paths: each name excludes everything inside it."""
    if not names or _is_regex(names):
        return names[0] if names else None
    return rf"(.*\.)?({'|'.join(map(re.escape, names))})(\..*)?"


def _require_modules(model: torch.nn.Module, names: Sequence[str], flag: str, *, parts: bool = False) -> None:
    """Raise InputError unless every name is in the model; `parts`: the name may be of any part, not only of layers."""
    paths = [path for path, module in model.named_modules() if path and (parts or _can_be_adapted(module))]
    if list(names) == [ALL_LINEAR] and not parts:
        return
    if _is_regex(names):
        try:
            pattern = re.compile(names[0])
        except re.error as error:
            raise InputError(f"{flag} {names[0]}: is not a regular expression ({error})") from error
        unknown = [] if any(map(pattern.fullmatch, paths)) else list(names)
    else:
        unknown = [name for name in names if not any(path == name or path.endswith(f".{name}") for path in paths)]
    if unknown:
        raise InputError(f"{flag} {' '.join(unknown)}: the model has no such module; it has {_last_names(paths)}")


def _last_names(paths: Iterable[str]) -> str:
    names = {path.rsplit(".", 1)[-1] for path in paths}
    return ", ".join(sorted(name for name in names if not name.isdigit()))


def _can_be_adapted(module: Any) -> bool:
    """Return whether the module is a layer that LoRA knows: linear (dense or quantised), GPT-2's, or an embedding."""
    name = type(module).__name__
    return "Linear" in name or name == "Conv1D" or ("Embedding" in name and hasattr(module, "num_embeddings"))


def _refuse_tied(model: Any, names: Sequence[str]) -> None:
    """Raise InputError if a module to train whole shares its weights with the head: a saved model would tie them."""
    if not names or not hasattr(model, "get_output_embeddings"):
        return
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    if layers[1] is None or layers[0].weight is not layers[1].weight:
        return
    tied = {path for path, module in model.named_modules() if any(module is layer for layer in layers)}
    named = [name for name in names if any(path == name or path.endswith(f".{name}") for path in tied)]
    if named:
        raise InputError(
            f"--lora_modules_to_save {' '.join(named)}: the model ties its output head to its input embeddings, so "
            "neither can be trained whole alone; add it to --lora_target_modules instead"
        )
