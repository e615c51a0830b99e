"""What Stage B starts from: an adapter on its base, or a whole model.

An adapter may be of any maker, with or without the files that this suite adds. A whole model is a merged or an instruct
model, in a folder or on the hub.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from language_model.hub import local_adapter
from language_model.lora_settings import LoraVariant
from language_model.model_files import absolute_model_name, base_of_adapter, is_whole_model
from script_io.errors import InputError
from training import pissa, policy_adapters
from training.activation_memory import Adapters
from training.loss_settings import reference_kind
from training.planned_adapters import fresh_adapter, trained_whole

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from language_model.placement import Placement
    from training.policy_adapters import AdapterPair

DEFAULT_RANK, DEFAULT_TARGETS = 16, ("q_proj", "v_proj")  # of the adapter on a whole model
# Flags of the adapter on a whole model with their defaults; another adapter brings these settings along
_FOR_A_WHOLE_MODEL: Mapping[str, Any] = {
    **{"lora_target_modules": None, "lora_alpha": None, "lora_exclude_modules": [], "lora_modules_to_save": []},
    **{"use_rslora": False, "use_dora": False, "lora_init": "zero"},
}


@dataclass(frozen=True)
class StartModel:
    """The model that the policy starts as, which is also the reference."""

    path: str  # the adapter, or the whole model
    base_name: str  # what the policy's adapter will name as its base
    adapter: Mapping[str, Any] | None  # the adapter's configuration; None: a whole model

    def adapters(self, args: argparse.Namespace, placement: Placement) -> Adapters:
        """Return what the estimate of the memory needs to know about policy and reference."""
        if self.adapter is None:
            rank, targets = args.lora_r or DEFAULT_RANK, args.lora_target_modules or DEFAULT_TARGETS
            variant, start_rank = LoraVariant.from_arguments(args), rank if args.lora_init == "pissa" else 0
            return fresh_adapter(self.base_name, placement, rank, 0, targets, variant, frozen_rank=start_rank)
        rank = self.adapter["r"]
        return Adapters(
            args.lora_r or rank,
            self.adapter["target_modules"],
            rank if args.lora_r or reference_kind(args) == "live" else 0,
            other_trained=0 if args.lora_r else trained_whole(self.path),
        )

    def check_reference(self, args: argparse.Namespace, placement: Placement) -> None:
        """Raise InputError for a live reference from which the policy would start apart, by rounding.

        In half precision, DoRA's norms, float32 copies of whole modules and the two adapters of PiSSA round otherwise
        than the model with its adapter off.
        """
        given = [name for name in ("use_dora", "lora_modules_to_save") if getattr(args, name)]
        given += ["lora_init pissa"] * (args.lora_init == "pissa")
        if given and reference_kind(args) == "live" and placement.dtype.itemsize == 2:
            dtype = str(placement.dtype).removeprefix("torch.")
            raise InputError(
                f"--reference live: with --{given[0]} in {dtype}, the policy does not start equal to the model without "
                "its adapter; leave --reference out, so that the start is scored once, or add --dtype float32"
            )

    def add_policy(self, base: PreTrainedModel, args: argparse.Namespace) -> AdapterPair:
        """Put the adapters of policy and reference on the loaded base."""
        if self.adapter is None:
            rank, targets = args.lora_r or DEFAULT_RANK, args.lora_target_modules or DEFAULT_TARGETS
            alpha, variant = args.lora_alpha or 2 * rank, LoraVariant.from_arguments(args)
            pair = policy_adapters.add_policy(base, rank, alpha, targets, variant)
            if args.lora_init == "pissa":
                pissa.start_from_singular_values(pair.model, policy_adapters.POLICY)
                return replace(pair, policy_names=(pissa.START, policy_adapters.POLICY))
            return pair
        live = reference_kind(args) == "live"
        return policy_adapters.load_adapter_pair(base, self.path, fresh_rank=args.lora_r, live=live)


def find_start_model(args: argparse.Namespace, remedy: str) -> StartModel:
    """Return the model that `--sft_model_path` names, and say of which kind it is.

    Raises InputError if it is neither a LoRA adapter that Stage B can train nor a model; `remedy` says what to do then.
    """
    try:
        path = local_adapter(args.sft_model_path)
    except InputError as error:
        raise InputError(f"{error}; or {remedy}") from error
    if is_whole_model(path):
        if args.base_model:
            raise InputError(f"--base_model is for an adapter, and {path} is a whole model; leave it out")
        print(f"Start: the whole model {path} is the reference, the policy a fresh adapter on it")
        return StartModel(path, absolute_model_name(path), None)
    adapter = policy_adapters.require_sft_adapter(path, remedy, args.lora_r)
    if given := [name for name, unset in _FOR_A_WHOLE_MODEL.items() if getattr(args, name) != unset]:
        raise InputError(f"--{given[0]} is for a whole model, and {path} is an adapter; leave it out")
    return StartModel(path, absolute_model_name(base_of_adapter(path, adapter, args.base_model)), adapter)
