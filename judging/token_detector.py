"""A causal language model with LoRA and one linear head that gives each token the probability of being unsupported.

The lower layers stay frozen and have no adapter. In training their output is computed once per row and kept
(`FrozenInput`), so that an epoch costs only the upper layers, forward and backward.

Shapes: T tokens of a packed row, N tokens that the judge reads (packed_summaries.py), C hidden size.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from judging.detector_settings import SETTINGS_FILE, TRAIN_COMMAND
from judging.packed_summaries import PackedSummaries
from language_model.adapters import attach_adapter, save_adapter
from language_model.loading import load_base_model, load_tokenizer
from language_model.model_files import absolute_model_name, base_of_adapter, first_line, require_adapter
from language_model.placement import Placement
from scoring.packed_attention import PACKED, register
from script_io.errors import InputError
from script_io.files import read_json_object, write_json

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HEAD_FILE = "detector_head.safetensors"
TOKEN, SUMMARY = 0, 1  # the outputs of the head: is this token unsupported, does this summary have an error


@dataclass(frozen=True, eq=False)
class FrozenInput:
    """What the first adapted layer receives for a row, and the other arguments of each layer from there on."""

    hidden: torch.Tensor  # (1, T, C)
    arguments: tuple[Mapping[str, Any], ...]


class TokenDetector(torch.nn.Module):
    """The adapted model and its head. `first_layer` is the lowest layer with an adapter."""

    def __init__(self, policy: PeftModel, head: torch.nn.Linear, first_layer: int) -> None:
        super().__init__()
        self.policy, self.head, self.first_layer = policy, head, first_layer

    @property
    def device(self) -> torch.device:
        """Return the device of the head's weights."""
        return self.head.weight.device

    @property
    def decoder(self) -> Any:
        """Return the model without its output head."""
        return decoder_of(self.policy.get_base_model())

    def trained_parameters(self) -> list[torch.nn.Parameter]:
        """Return the parameters of the adapter and of the head."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    @torch.no_grad()
    def frozen_input(self, packed: PackedSummaries) -> FrozenInput:
        """Run the frozen layers on a row and return the input of the adapted ones."""
        row = packed.row
        calls: list[tuple[torch.Tensor, dict[str, Any]]] = []

        def record(_: torch.nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, Any]) -> None:
            calls.append((args[0] if args else kwargs["hidden_states"], kwargs))

        upper = self.decoder.layers[self.first_layer :]
        hooks = [layer.register_forward_pre_hook(record, with_kwargs=True) for layer in upper]
        try:
            with self._autocast(), _skipped(upper):
                self.decoder(input_ids=row.input_ids, position_ids=row.position_ids, use_cache=False, row=row)
        finally:
            for hook in hooks:
                hook.remove()
        arguments = tuple(
            {name: each for name, each in kwargs.items() if name != "hidden_states"} for _, kwargs in calls
        )
        return FrozenInput(calls[0][0], arguments)

    def forward(self, packed: PackedSummaries, frozen: FrozenInput | None = None) -> torch.Tensor:
        """Return the logits of the head, (N, 2) float32, with the lower layers' output from `frozen` if given."""
        row = packed.row
        with self._autocast():
            if frozen is None:
                ids, positions = row.input_ids, row.position_ids
                hidden = self.decoder(input_ids=ids, position_ids=positions, use_cache=False, row=row)[0]
            else:
                hidden = frozen.hidden
                for layer, arguments in zip(self.decoder.layers[self.first_layer :], frozen.arguments, strict=True):
                    output = layer(hidden, **arguments)
                    hidden = output[0] if isinstance(output, tuple) else output
                hidden = self.decoder.norm(hidden)
        # the position before a token knows how likely the token was, the token's own knows which one it is
        pairs = torch.cat([hidden[0, packed.previous], hidden[0, packed.positions]], dim=-1)
        return torch.nn.functional.linear(pairs.float(), self.head.weight, self.head.bias)

    def _autocast(self) -> torch.autocast:
        """With half-precision weights, also compute the products of the float32 adapter in half precision."""
        dtype = self.policy.dtype
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype.itemsize == 2)


@contextmanager
def _skipped(layers: Sequence[torch.nn.Module]) -> Iterator[None]:
    """Within the block the layers return their input, so that only their arguments are computed."""
    forwards = [layer.forward for layer in layers]

    def unchanged(hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return hidden_states

    try:
        for layer in layers:
            layer.forward = unchanged
        yield
    finally:
        for layer, forward in zip(layers, forwards, strict=True):
            layer.forward = forward


def decoder_of(model: PreTrainedModel) -> Any:
    """Return the decoder of a causal language model, with `layers` and `norm`. Raises InputError without them."""
    decoder = getattr(model, model.base_model_prefix)
    if not all(hasattr(decoder, name) for name in ("layers", "norm")):
        raise InputError(
            f"{type(model).__name__}: its layers are not known here; use a model like Llama, Qwen or Gemma"
        )
    return decoder


def new_detector(model: PreTrainedModel, layers: int, rank: int, alpha: int, dropout: float = 0.0) -> TokenDetector:
    """Return a detector with fresh LoRA on all linear layers of the top `layers` layers (0: of all layers)."""
    from peft import LoraConfig, get_peft_model

    decoder = decoder_of(model)
    depth = len(decoder.layers)
    first = max(depth - layers, 0) if layers else 0
    linear = {
        name.rsplit(".", 1)[-1]
        for name, module in decoder.layers.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=sorted(linear),
        layers_to_transform=list(range(first, depth)),
        layers_pattern="layers",
        task_type="CAUSAL_LM",
    )
    _install_packed_attention(model)
    policy = get_peft_model(model, config)
    _keep_half_precision(policy)
    head = _new_head(model)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    return TokenDetector(policy, head, first)


def _new_head(model: PreTrainedModel) -> torch.nn.Linear:
    """Return the head over the hidden states of two neighbouring positions, in float32."""
    return torch.nn.Linear(2 * model.config.get_text_config().hidden_size, 2, device=model.device, dtype=torch.float32)


def _keep_half_precision(policy: PeftModel) -> None:
    """Keep peft from converting each input of an adapter to float32, which autocast would convert back."""
    for module in policy.modules():
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = False


def _install_packed_attention(model: PreTrainedModel) -> None:
    register()
    model.set_attn_implementation(PACKED)


def save_detector(
    detector: TokenDetector, folder: Path, tokenizer: PreTrainedTokenizerBase, settings: Mapping[str, Any], base: str
) -> None:
    """Save adapter, tokenizer, head and `detector.json` into `folder`."""
    from safetensors.torch import save_file

    save_adapter(detector.policy, folder, tokenizer, "plain", base_model=absolute_model_name(base))
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in detector.head.state_dict().items()}
    save_file(tensors, folder / HEAD_FILE)
    write_json(folder / SETTINGS_FILE, settings)


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the content of a detector's `detector.json`. Raises InputError if the folder holds no detector."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; train a detector with: {TRAIN_COMMAND}")
    for name in (SETTINGS_FILE, HEAD_FILE):
        if not (folder / name).is_file():
            raise InputError(f"{folder}: holds no detector ({name} is missing); train one with: {TRAIN_COMMAND}")
    return read_json_object(folder / SETTINGS_FILE, f"train the detector again with: {TRAIN_COMMAND}")


def load_detector(folder: Path, placement: Placement) -> tuple[TokenDetector, PreTrainedTokenizerBase]:
    """Load the detector that `save_detector` wrote, for inference."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    read_settings(folder)
    config = require_adapter(folder, f"train the detector again with: {TRAIN_COMMAND}")
    tokenizer = load_tokenizer(folder, placement.trust_remote_code)
    model = load_base_model(base_of_adapter(folder, config), placement, tokenizer)
    _install_packed_attention(model)
    policy = attach_adapter(model, folder, "default", trainable=False)
    _keep_half_precision(policy)
    head = _new_head(model)
    try:
        head.load_state_dict(load_file(folder / HEAD_FILE))
    except (SafetensorError, RuntimeError, OSError, json.JSONDecodeError) as error:
        raise InputError(f"{folder / HEAD_FILE}: cannot be read ({first_line(error)}); {TRAIN_COMMAND}") from error
    first = min(config.get("layers_to_transform") or [0])
    return TokenDetector(policy, head, first).eval(), tokenizer
