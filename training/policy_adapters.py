"""Stage B's adapters: policy and reference as LoRA adapters on one base model, and the policy saved as one adapter.

After Stage A the reference is the Stage A model, never its base, so a forward pass with the adapter disabled is not
enough. Either the log-probabilities of the untrained policy are cached, or a frozen adapter is kept in memory. Where
Stage B starts from a whole model, the reference is that model, which is the policy with its adapter off.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, PeftModel
from peft.functional import cast_adapter_dtype

from language_model.adapters import (
    adapter_tensors,
    add_lora,
    attach_adapter,
    save_adapter,
    train_in_float32,
    write_adapter,
)
from language_model.lora_settings import PLAIN, LoraVariant
from language_model.model_files import require_adapter
from script_io.errors import InputError
from training.dropouts import turn_dropout_off

if TYPE_CHECKING:
    from peft.tuners.lora import LoraModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

POLICY, REFERENCE, JOINED = "policy", "reference", "joined"

# Options of peft's LoraConfig that Stage B handles, whatever their value
_HANDLED = {
    "task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "r", "lora_alpha", "lora_dropout", "use_rslora", "rank_pattern", "alpha_pattern", "fan_in_fan_out",
    "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "init_lora_weights",
    "loftq_config", "eva_config", "corda_config", "lora_ga_config",  # of init_lora_weights
    "megatron_core", "qalora_group_size",  # without effect unless megatron_config or use_qalora is set
}  # fmt: skip
# Options of an adapter that can be trained further, but not joined with a fresh adapter
_NOT_JOINABLE = {"use_dora", "modules_to_save", "trainable_token_indices"}
# Starts of LoRA that leave the base as it is. Others, such as PiSSA, change the base's weights whenever an adapter is
# created, and Stage B creates several on one base.
_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")


@dataclass(frozen=True)
class AdapterPair:
    """One base model with the adapters that make it the policy, and the adapters that make it the reference.

    `reference_names` is empty if the reference exists only as cached log-probabilities, and if it is the base itself.
    """

    model: PeftModel
    policy_names: tuple[str, ...]
    reference_names: tuple[str, ...]
    base_is_reference: bool = False

    @property
    def has_reference(self) -> bool:
        """Return whether the model can compute as the reference, whose tensors are then all frozen."""
        return bool(self.reference_names) or self.base_is_reference

    @contextmanager
    def as_reference(self) -> Iterator[None]:
        """Within the block the model is the frozen reference and computes no gradients."""
        assert self.has_reference, "the reference is cached; it has no adapter"
        try:
            if self.base_is_reference:
                with self.model.disable_adapter(), torch.no_grad():
                    yield
            else:
                activate(self.model, self.reference_names)
                with torch.no_grad():
                    yield
        finally:
            activate(self.model, self.policy_names)


def require_sft_adapter(folder: str | Path, remedy: str, fresh_rank: int | None) -> dict[str, Any]:
    """Return the configuration of the adapter that Stage B starts from; `fresh_rank` is `--lora_r`.

    Stage B takes LoRA adapters. Raises InputError for other kinds, naming every option of peft that it does not handle,
    and, as `require_adapter` does, if there is no adapter.
    """
    config = require_adapter(folder, remedy)
    kind, start = config.get("peft_type"), config.get("init_lora_weights")
    if kind != "LORA":
        raise InputError(f"{folder}: is an adapter of type {kind}, and Stage B trains LoRA adapters only")
    if start not in _STARTS:
        raise InputError(f"{folder}: init_lora_weights {start} changes the base; convert the adapter to LoRA with peft")
    defaults = LoraConfig().to_dict()
    # unset options are stored as null, false or empty, depending on peft's version
    used = {name for name, value in config.items() if (value or None) != (defaults.get(name) or None)} - _HANDLED
    if used - _NOT_JOINABLE:
        names = ", ".join(sorted(used - _NOT_JOINABLE))
        raise InputError(f"{folder}: the adapter uses {names}, which Stage B cannot train; use one without")
    if used and fresh_rank is not None:
        names = ", ".join(sorted(used))
        raise InputError(f"--lora_r: the SFT adapter uses {names}, which cannot be joined; leave --lora_r out")
    return config


def load_adapter_pair(base: PreTrainedModel, folder: str | Path, *, fresh_rank: int | None, live: bool) -> AdapterPair:
    """Put the Stage A adapter on its base as Stage B needs it; the policy starts equal to the reference.

    Without `fresh_rank`, the Stage A adapter itself is trained further, and `live` adds a frozen copy of it. With it, a
    fresh adapter of that rank is trained on top of the frozen Stage A adapter, which is then also the live reference.
    """
    if fresh_rank is None:
        model = attach_adapter(base, folder, POLICY, trainable=True)
        if live:
            attach_adapter(model, folder, REFERENCE, trainable=False)
        pair = AdapterPair(model, (POLICY,), (REFERENCE,) if live else ())
    else:
        model = attach_adapter(base, folder, REFERENCE, trainable=False)
        model.add_adapter(POLICY, _fresh_config(model.peft_config[REFERENCE], fresh_rank))
        pair = AdapterPair(model, (REFERENCE, POLICY), (REFERENCE,))
    turn_dropout_off(model)
    activate(model, pair.policy_names)
    train_in_float32(model)
    return pair


def add_policy(
    base: PreTrainedModel, rank: int, alpha: int, target_modules: Sequence[str], variant: LoraVariant = PLAIN
) -> AdapterPair:
    """Put a fresh adapter on a whole model, which is the reference.

    The adapter changes nothing until its first step, so the policy starts equal to the reference.
    """
    model = add_lora(base, rank, alpha, 0.0, target_modules, variant, adapter_name=POLICY)
    turn_dropout_off(model)
    return AdapterPair(model, (POLICY,), (), base_is_reference=True)


def _fresh_config(sft: LoraConfig, rank: int) -> LoraConfig:
    """Return the configuration of a fresh adapter on the same modules and layers as the Stage A adapter."""
    return replace(
        sft,
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        use_rslora=False,
        rank_pattern={},
        alpha_pattern={},
        init_lora_weights=True,
        inference_mode=False,
    )


def activate(model: PeftModel, names: Sequence[str], trained: str = POLICY) -> None:
    """Activate adapters. Only the tensors of `trained` ever take a gradient, whatever peft sets."""
    model.base_model.set_adapter(list(names))
    for name, parameter in model.named_parameters():
        # a linear layer's tensor is `lora_A.policy.weight`, an embedding's `lora_embedding_A.policy`
        parameter.requires_grad_(trained in name.split("."))


def joined_adapter(
    model: PeftModel, frozen: str = REFERENCE, trained: str = POLICY
) -> tuple[dict[str, torch.Tensor], LoraConfig]:
    """Return one adapter equal to a frozen one (of Stage A) plus a trained one: (tensors, configuration).

    B1 A1 s1 + B2 A2 s2 = [B1, B2] [s1 A1; s2 A2]: the ranks add up, the scalings s1 and s2 are folded into A, and the
    scaling of the joined adapter is 1. `model` is left as it was, ready to be trained further.
    """
    tuner: LoraModel = model.base_model
    active = model.active_adapters
    try:
        with _new_adapters_in_float32(tuner):
            tuner.add_weighted_adapter([frozen, trained], [1.0, 1.0], JOINED, combination_type="cat")
        tensors = adapter_tensors(model, JOINED)
        # peft copies the options of the Stage A adapter: its rsLoRA would scale by alpha / sqrt(r), which is not 1. Two
        # equal expressions in `target_modules` become one with each alternative twice.
        config = replace(
            copy.deepcopy(model.peft_config[JOINED]),
            use_rslora=False,
            lora_dropout=0.0,
            target_modules=model.peft_config[frozen].target_modules,
        )
    finally:
        if JOINED in model.peft_config:
            model.delete_adapter(JOINED)
        activate(model, active, trained)  # adding an adapter may have frozen the policy, depending on peft's version
    return tensors, config


@contextmanager
def _new_adapters_in_float32(tuner: LoraModel) -> Iterator[None]:
    """Within the block new adapters have float32 weights, like trained ones.

    `add_weighted_adapter` creates its result in the dtype of the base, so half precision would round it.
    """
    inject = tuner.inject_adapter

    def inject_in_float32(model: torch.nn.Module, adapter_name: str) -> None:
        inject(model, adapter_name)
        cast_adapter_dtype(model, adapter_name)

    tuner.inject_adapter = inject_in_float32
    try:
        yield
    finally:
        del tuner.inject_adapter


def save_policy(
    pair: AdapterPair, folder: Path, *, tokenizer: PreTrainedTokenizerBase, prompt_format: str, base_model: str
) -> None:
    """Save the policy as one adapter on the original base; `base_model` is a hub id or an absolute path."""
    if len(pair.policy_names) > 1:
        tensors, config = joined_adapter(pair.model, pair.policy_names[0])
        write_adapter(folder, tensors, config, tokenizer, prompt_format, base_model)
    else:
        save_adapter(pair.model, folder, tokenizer, prompt_format, adapter_name=POLICY, base_model=base_model)
