"""Attention of a decoding loop over shared prompts, as an attention function for unchanged transformers models.

`PrefillPass` computes whole prompts, packed into one row without padding, and stores their keys and values.
`DecodePass` computes one new token of each completion. Its attention has two parts, which are joined by the logarithms
of their sums of exponentials, as in Juravsky et al. 2024 (Hydragen, arXiv:2402.05099):

prompt  the queries of all completions of a prompt in one product with the prompt's keys
own     the queries of each completion with its own keys

Shapes: T tokens of the pass, H key heads, G query heads per key head, D head size, B rows (completions), P prompts,
W places for rows per prompt, S keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import torch

from language_model.shared_prompt_cache import SharedPromptCache

SHARED_PROMPTS = "shared_prompts"  # the name under which transformers knows the function
# Up to this number of tokens, two products in half precision take two thirds of the time of PyTorch's kernel on a CPU
SHORT_HALF_PROMPT = 512
_KNOWN_ARGUMENTS = frozenset({"position_ids", "use_cache", "is_causal", "cache_position"})


class UnsupportedAttention(Exception):
    """The layer needs attention that the decoding loop does not support."""


@dataclass(frozen=True)
class LayerCall:
    """The arguments of one layer's attention: query (T, HG, D), key and value (T, H, D), after rotary embedding."""

    layer: int
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    scale: float
    window: int | None
    softcap: float | None


class AttentionPass(Protocol):
    """One forward pass over tokens without a batch dimension."""

    def attend(self, call: LayerCall) -> torch.Tensor:
        """Store keys and values, and return the attention of all tokens, (T, HG, D)."""
        ...


def register() -> None:
    """Register the function with transformers, for `set_attn_implementation(SHARED_PROMPTS)`."""
    from transformers import AttentionInterface

    AttentionInterface.register(SHARED_PROMPTS, shared_prompt_attention)


def shared_prompt_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    attention_pass: AttentionPass,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Compute the attention of one layer, with the signature of a transformers attention function.

    Args:
        query: (1, HG, T, D); key and value: (1, H, T, D).
        attention_pass: what the tokens are; the model's forward passes it through.

    Returns:
        (1, T, HG, D), and None for the probabilities.

    Raises:
        UnsupportedAttention: for unknown arguments such as sinks.
    """
    unknown = [name for name, argument in others.items() if argument is not None and name not in _KNOWN_ARGUMENTS]
    if unknown or dropout:
        raise UnsupportedAttention(", ".join(unknown) or "attention dropout")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    query, key, value = (tensor[0].transpose(0, 1).to(value.dtype) for tensor in (query, key, value))
    layer: Any = module.layer_idx
    return attention_pass.attend(LayerCall(layer, query, key, value, scale, sliding_window, softcap))[None], None


# ---------------------------------------------------------------------------------------- prompts


@dataclass(frozen=True)
class PrefillPass:
    """Whole prompts, one after the other: the slot and the number of tokens of each."""

    cache: SharedPromptCache
    slots: Sequence[int]
    lengths: Sequence[int]

    def attend(self, call: LayerCall) -> torch.Tensor:
        """See AttentionPass. Each token sees its own prompt up to itself."""
        layer = self.cache.layer(call.layer, call.key, call.value)
        parts = []
        start = 0
        for slot, length in zip(self.slots, self.lengths, strict=True):
            tokens = slice(start, start + length)
            query, key, value = (each[tokens].transpose(0, 1) for each in (call.query, call.key, call.value))
            layer.prompt_keys[slot, :, :length] = key
            layer.prompt_values[slot, :, :length] = value
            parts.append(_causal(query, key, value, call).transpose(0, 1))
            start += length
        return torch.cat(parts)


def _causal(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: LayerCall) -> torch.Tensor:
    """Return the causal attention of one prompt, (HG, T, D)."""
    heads, length, size = query.shape
    is_limited = call.window is not None and call.window < length
    is_short_half = query.device.type == "cpu" and query.dtype.itemsize == 2 and length <= SHORT_HALF_PROMPT
    if call.softcap is None and not is_limited and not is_short_half:
        return torch.nn.functional.scaled_dot_product_attention(
            query[None], key[None], value[None], is_causal=True, scale=call.scale, enable_gqa=heads != len(key)
        )[0]
    distance = torch.arange(length, device=key.device)[:, None] - torch.arange(length, device=key.device)
    seen = (distance >= 0) & (distance < (call.window if call.window is not None else length))
    bias = _bias(seen, query.dtype).repeat(heads // len(key), 1)[None]
    grouped = query.reshape(len(key), -1, size)
    return _attend(grouped, key, value, bias, call)[0].reshape(heads, length, -1)


# ------------------------------------------------------------------------------------- new tokens


class DecodePass:
    """One new token of each row."""

    def __init__(
        self,
        cache: SharedPromptCache,
        slots: Sequence[int],
        prompt_tokens: Sequence[int],
        own_tokens: Sequence[int],
        device: torch.device,
    ) -> None:
        """Take the prompt slot of each row, the tokens of each prompt, and each row's tokens before this pass."""
        self.cache = cache
        self.slots = tuple(slots)
        self.prompt_tokens = torch.tensor(prompt_tokens, device=device)
        self.own_tokens = torch.tensor(own_tokens, device=device)
        self.positions = self.prompt_tokens[list(slots)] + self.own_tokens  # (B,)
        cache.fit_prompts(max(prompt_tokens))
        cache.fit_rows(max(own_tokens) + 1)
        self._biases: dict[tuple[int | None, int, int], tuple[torch.Tensor, torch.Tensor]] = {}

    def attend(self, call: LayerCall) -> torch.Tensor:
        """See AttentionPass. Each token sees its prompt, and its own row up to itself."""
        (rows, heads, size), key_heads = call.query.shape, call.key.shape[1]
        groups = heads // key_heads
        layer = self.cache.layer(call.layer, call.key, call.value)
        prompts = len(self.prompt_tokens)
        places = _places(self.slots, prompts, key_heads, call.query.device)
        prompt_bias, own_bias = self._bias_of(call, key_heads, places)

        self._append(layer.own_keys, call.key)
        self._append(layer.own_values, call.value)
        query = call.query.reshape(rows * key_heads, groups * size)
        own, own_sum = _attend(
            query.view(rows * key_heads, groups, size),
            layer.own_keys[:rows].flatten(0, 1),
            layer.own_values[:rows].flatten(0, 1),
            own_bias,
            call,
        )
        shared, shared_sum = _attend(
            query[places.row_of_place].view(prompts * key_heads, places.width * groups, size),
            layer.prompt_keys[:prompts].flatten(0, 1),
            layer.prompt_values[:prompts].flatten(0, 1),
            prompt_bias,
            call,
        )
        shared, shared_sum = (
            each.reshape(prompts * key_heads * places.width, -1)[places.place_of_row].view(rows * key_heads, groups, -1)
            for each in (shared, shared_sum)
        )
        share = torch.sigmoid(shared_sum - own_sum).to(own.dtype)  # of the prompt in the whole sum of exponentials
        return torch.lerp(own, shared, share).view(rows, heads, -1)

    def _append(self, buffer: torch.Tensor, new: torch.Tensor) -> None:
        """Write the (B, H, D) keys or values of this pass at the end of each row."""
        rows = torch.arange(len(new), device=new.device)
        buffer[rows, :, self.own_tokens] = new

    def _bias_of(self, call: LayerCall, key_heads: int, places: Places) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the additive masks of the prompt part, (PH, 1 or WG, S), and of the own part, (BH, 1, S)."""
        groups = call.query.shape[1] // key_heads
        name = (call.window, key_heads, groups)
        if name not in self._biases:
            self._biases[name] = self._make_bias(call, key_heads, groups, places)
        return self._biases[name]

    def _make_bias(
        self, call: LayerCall, key_heads: int, groups: int, places: Places
    ) -> tuple[torch.Tensor, torch.Tensor]:
        device = call.query.device
        prompt_key = torch.arange(self.cache.prompt_tokens, device=device)
        own_key = torch.arange(self.cache.own_tokens, device=device)
        in_prompt = (prompt_key < self.prompt_tokens[:, None])[:, None]  # (P, 1, S)
        in_row = own_key <= self.own_tokens[:, None]  # (B, S)
        if call.window is not None and call.window <= self.cache.prompt_tokens + self.cache.own_tokens:
            first_seen = self.positions - call.window + 1  # (B,)
            at_places = first_seen[places.row_of_prompt_place].view(len(self.prompt_tokens), -1, 1)  # (P, W, 1)
            in_prompt = (in_prompt & (prompt_key >= at_places)).repeat_interleave(groups, dim=1)
            prompt_of_row = self.prompt_tokens[list(self.slots)]
            in_row = in_row & (own_key + prompt_of_row[:, None] >= first_seen[:, None])
        prompt_bias, own_bias = _bias(in_prompt, call.query.dtype), _bias(in_row[:, None], call.query.dtype)
        return prompt_bias.repeat_interleave(key_heads, dim=0), own_bias.repeat_interleave(key_heads, dim=0)


@dataclass(frozen=True)
class Places:
    """Where the rows are when they are grouped by prompt, with `width` places per prompt, some of them unused.

    row_of_prompt_place (PW,): the row at each place, 0 at unused places
    row_of_place (PHW,): the same as indices into (BH, ...)
    place_of_row (BH,): indices into (PHW, ...)
    """

    width: int
    row_of_prompt_place: torch.Tensor
    row_of_place: torch.Tensor
    place_of_row: torch.Tensor


@lru_cache(maxsize=4)
def _places(slots: tuple[int, ...], prompts: int, key_heads: int, device: torch.device) -> Places:
    """Return the places of rows whose prompts are in these slots."""
    width = max(Counter(slots).values())
    used = [0] * prompts
    rows = torch.zeros(prompts, width, dtype=torch.long)
    places = torch.zeros(len(slots), dtype=torch.long)
    for row, slot in enumerate(slots):
        rows[slot, used[slot]] = row
        places[row] = used[slot]
        used[slot] += 1
    head = torch.arange(key_heads)
    row_of_place = rows[:, None] * key_heads + head[:, None]  # (P, H, W)
    place_of_row = (torch.tensor(slots)[:, None] * key_heads + head) * width + places[:, None]  # (B, H)
    return Places(width, *(each.flatten().to(device) for each in (rows, row_of_place, place_of_row)))


def _bias(seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return 0 for seen keys and a finite, very negative number for others: a row may see no key of its prompt."""
    unseen = torch.finfo(dtype).min / 2
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, unseen)


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor, call: LayerCall
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return softmax attention and the logarithm of its sum of exponentials.

    query (N, L, D), key and value (N, S, D), bias broadcast to (N, L, S) -> (N, L, D), and (N, L, 1) in float32.
    """
    if call.softcap is None:
        scores = torch.baddbmm(bias, query, key.transpose(1, 2), alpha=call.scale)
    else:
        products = torch.bmm(query, key.transpose(1, 2))
        scores = torch.tanh(products * (call.scale / call.softcap)) * call.softcap + bias
    probabilities = scores.softmax(dim=-1)
    # the largest probability is exp(largest score) / sum
    largest = probabilities.amax(dim=-1, keepdim=True).float()
    return torch.bmm(probabilities, value), scores.amax(dim=-1, keepdim=True).float() - largest.log()
