"""Stage B's adapters: policy and reference as LoRA adapters on one base, and their union as one saved adapter.

The reference is the Stage A model, never the base: with an adapter being trained, "adapter disabled" is the base. So
the reference is either the log-probabilities of the untrained policy, cached, or a frozen adapter of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from language_model.adapters import attach_adapter, save_adapter, write_adapter
from script_io.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

POLICY, REFERENCE = "policy", "reference"


@dataclass(frozen=True)
class AdapterPair:
    """One base with the adapters that make it the policy, and those that make it the reference.

    `reference_names` is empty where the reference is cached only.
    """

    model: PeftModel
    policy_names: tuple[str, ...]
    reference_names: tuple[str, ...]

    @contextmanager
    def as_reference(self) -> Iterator[None]:
        """Within the block the model is the frozen reference, without gradients."""
        assert self.reference_names, "the reference is cached; there is no adapter of it"
        _activate(self.model, self.reference_names)
        try:
            with torch.no_grad():
                yield
        finally:
            _activate(self.model, self.policy_names)


def load_adapter_pair(base: PreTrainedModel, folder: str | Path, *, fresh_rank: int | None, live: bool) -> AdapterPair:
    """Puts the Stage A adapter on its base as Stage B needs it; the policy starts equal to the reference.

    Without `fresh_rank` the Stage A adapter itself goes on training, and `live` adds a frozen copy of it. With it, a
    new adapter of that rank is trained on top of the frozen one, which is then the live reference at no cost.
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
    _activate(model, pair.policy_names)
    return pair


def _activate(model: PeftModel, names: Sequence[str]) -> None:
    """Activates adapters; only the policy's tensors ever take a gradient, whatever peft sets."""
    model.base_model.set_adapter(list(names))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(f".{POLICY}." in name)


def turn_dropout_off(model: torch.nn.Module) -> None:
    """Policy and reference must see the same network, and the loss compares them to a thousandth of a nat."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            setattr(module, "attention_dropout", 0.0)  # noqa: B010 - a plain number, which nn.Module's types do not know


def _fresh_config(sft: LoraConfig, rank: int) -> LoraConfig:
    from peft import LoraConfig

    if rank < 1:
        raise InputError(f"--lora_r {rank}: must be at least 1")
    unusual = [name for name in ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save") if getattr(sft, name)]
    if unusual:
        raise InputError(f"--lora_r: the SFT adapter uses {', '.join(unusual)}, which cannot be joined; leave it out")
    return LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=sft.target_modules, task_type="CAUSAL_LM"
    )


def joined_adapter(model: PeftModel) -> tuple[dict[str, torch.Tensor], Any]:
    """One adapter equal to the frozen Stage A adapter plus the fresh one: (tensors, configuration).

    B1 A1 s1 + B2 A2 s2 = [s1 B1, s2 B2] [A1; A2]: the ranks add up, the scalings s are folded into B, and the joined
    scaling is 1.
    """
    import copy

    from peft.utils import get_peft_model_state_dict

    scaling = _scalings(model)
    states = {name: get_peft_model_state_dict(model, adapter_name=name) for name in (REFERENCE, POLICY)}
    joined = {}
    for key in states[REFERENCE]:
        parts = [states[name][key].float() for name in (REFERENCE, POLICY)]
        if ".lora_A." in key:
            joined[key] = torch.cat(parts, dim=0)  # (r, in)
        else:
            scaled = [part * scaling[name] for part, name in zip(parts, (REFERENCE, POLICY), strict=True)]
            joined[key] = torch.cat(scaled, dim=1)  # (out, r)
    config = copy.deepcopy(model.peft_config[REFERENCE])
    config.r = model.peft_config[REFERENCE].r + model.peft_config[POLICY].r
    config.lora_alpha, config.use_rslora, config.lora_dropout = config.r, False, 0.0
    return joined, config


def _scalings(model: PeftModel) -> dict[str, float]:
    """The scaling of each adapter, as its layers apply it."""
    layer = next(module for module in model.modules() if hasattr(module, "scaling") and hasattr(module, "lora_A"))
    return {name: float(layer.scaling[name]) for name in (REFERENCE, POLICY)}


def save_policy(
    pair: AdapterPair, folder: Path, *, tokenizer: PreTrainedTokenizerBase, prompt_format: str, base_model: str
) -> None:
    """Save the policy as one adapter on the original base."""
    if len(pair.policy_names) > 1:
        state, config = joined_adapter(pair.model)
        write_adapter(folder, state, config, tokenizer, prompt_format, base_model)
    else:
        save_adapter(pair.model, folder, tokenizer, prompt_format, adapter_name=POLICY, base_model=base_model)
