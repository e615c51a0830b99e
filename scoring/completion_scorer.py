"""Summed log-probabilities of completions under a policy: the one forward pass that both stages train with.

`CompletionScorer` takes samples (packed_rows.py) and computes them in one of two ways:

fast    one row without padding, each prompt once; most of the last layer (last_layer.py) and the output head
        (head_logps.py) only where completion tokens are predicted
plain   a padded batch through the model as it is (padded_logps.py)

Fast is for models whose attention and head it knows. `choose` tries it on the first samples of a run, holds it against
plain, and gives it up with one line where the two differ by more than the dtype explains.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import torch

from scoring.head_logps import token_logps
from scoring.last_layer import LastLayer
from scoring.packed_attention import PACKED, UnsupportedAttention, register
from scoring.packed_rows import Sample, lay_out
from scoring.padded_logps import batch_logps, pad_samples, sum_dtype

if TYPE_CHECKING:
    from peft import PeftModel

Scores = tuple[torch.Tensor, torch.Tensor]
# Nats a completion token that fast and plain may differ by. Rounding explains a tenth of it; a wrong mask or wrong
# positions move a trained model by more.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}
CHECKED_SAMPLES = 2  # one would not show whether samples in one row see each other
# What a head may do to its logits beyond the matrix product, and the value that means that it does not
_HEAD_SETTINGS = {"final_logit_softcapping": None, "logit_scale": 1, "logits_scaling": 1, "lm_head_multiplier": 1}
_ATTENTION_LAYERS = frozenset({"full_attention", "sliding_attention"})


class CompletionScorer(torch.nn.Module):
    """The peft model `policy` as a scorer of completions; accelerate wraps this where there are several processes."""

    def __init__(self, policy: PeftModel, pad_id: int) -> None:
        super().__init__()
        self.policy = policy
        self.pad_id = pad_id
        self.is_fast = False
        self._last_layer: LastLayer | None = None

    def forward(self, samples: Sequence[Sample]) -> Scores:
        """Summed log-probability (nats, float64) and tokens of every completion of every sample, both (K,)."""
        # with half-precision weights the products of the adapters, which stay float32, are computed in half too
        dtype = self.policy.dtype
        with torch.autocast(self.policy.device.type, dtype=dtype, enabled=dtype.itemsize == 2):
            return self._fast(samples) if self.is_fast else self._plain(samples)

    def _fast(self, samples: Sequence[Sample]) -> Scores:
        model = self._causal_model()
        row = lay_out(samples).to(self.policy.device)
        decoder, head = getattr(model, model.base_model_prefix), model.get_output_embeddings()
        hidden = decoder(input_ids=row.input_ids, position_ids=row.position_ids, use_cache=False, row=row)[0][0]
        predicting = hidden if self._last_layer else hidden[row.predicting]
        logps = token_logps(predicting, head.weight, head.bias, row.targets)
        sums = torch.zeros(len(row.completion_tokens), dtype=sum_dtype(logps.device), device=logps.device)
        return sums.index_add(0, row.completion, logps.to(sums.dtype)), row.completion_tokens

    def _plain(self, samples: Sequence[Sample]) -> Scores:
        batch = {name: tensor.to(self.policy.device) for name, tensor in pad_samples(samples, self.pad_id).items()}
        return batch_logps(self.policy, batch)

    def _causal_model(self) -> Any:
        return self.policy.get_base_model()

    # -------------------------------------------------------------------------------------- the choice

    def choose(self, samples: Sequence[Sample]) -> None:
        """Takes the fast way where it is the same as the plain one on the first of `samples`; says what it took."""
        model = self._causal_model()
        stock = model.config._attn_implementation
        reason = self._obstacle() or self._obstacle_on(samples[:CHECKED_SAMPLES])
        self.is_fast = reason is None
        if reason is None:
            print("Rows: packed without padding, prompts shared (checked against the padded batch)")
        else:
            model.set_attn_implementation(stock)
            print(f"warning: rows are padded, which is slower: {reason}", file=sys.stderr)

    def _obstacle(self) -> str | None:
        """What the fast way could not compute rightly in this model, as far as its configuration says."""
        model = self._causal_model()
        head, config = model.get_output_embeddings(), model.config
        if type(head) is not torch.nn.Linear or head.weight.requires_grad:
            return "the output head is not a frozen linear layer"
        changed = [name for name, neutral in _HEAD_SETTINGS.items() if getattr(config, name, neutral) != neutral]
        if changed:
            return f"the model sets {', '.join(changed)}"
        if any(map(_attention_dropout, model.modules())):
            return "its attention has dropout"
        other = set(getattr(config, "layer_types", None) or ()) - _ATTENTION_LAYERS
        return f"the model has layers of type {', '.join(sorted(other))}" if other else None

    def _obstacle_on(self, samples: Sequence[Sample]) -> str | None:
        """Why fast is not plain on these samples, or None; leaves the last layer whole where that is what it takes."""
        model = self._causal_model()
        stock = model.config._attn_implementation
        self._restore_last_layer()
        with suppress(AttributeError):
            self._last_layer = LastLayer(getattr(model, model.base_model_prefix))
        reason = self._difference(samples)
        if reason and self._last_layer:
            self._restore_last_layer()
            model.set_attn_implementation(stock)
            trimmed, reason = reason, self._difference(samples)
            if reason is None:
                print(f"warning: the last layer is computed at every position: {trimmed}", file=sys.stderr)
        return reason

    def _restore_last_layer(self) -> None:
        if self._last_layer:
            self._last_layer.restore()
        self._last_layer = None

    def _difference(self, samples: Sequence[Sample]) -> str | None:
        """Why fast is not plain on these samples, or None; leaves the model's attention that of the fast way."""
        register()
        with _evaluating(self.policy), torch.no_grad():
            self.is_fast = False
            plain, tokens = zip(*(self([sample]) for sample in samples), strict=True)
            try:
                self._causal_model().set_attn_implementation(PACKED)
                self.is_fast = True
                fast, _ = self(samples)
                if self.policy.device.type == "cuda":  # a kernel of its own, that may not compile either
                    with torch.enable_grad():
                        self(samples)[0].sum().backward()
                    self.policy.zero_grad()
            except torch.OutOfMemoryError:
                raise
            except (UnsupportedAttention, TypeError, AttributeError, ValueError, RuntimeError) as error:
                self.policy.zero_grad()
                return f"the model does not take packed rows ({str(error).splitlines()[0]})"
        difference = ((fast - torch.cat(plain)).abs() / torch.cat(tokens)).max().item()
        is_same = difference <= TOLERANCE[self.policy.dtype]
        return None if is_same else f"packed and padded differ by {difference:.1e} nats a token"


def _attention_dropout(module: torch.nn.Module) -> float:
    """The share of attention probabilities that an attention layer drops in training; 0 for any other module."""
    share = getattr(module, "attention_dropout", 0.0)
    drop = getattr(module, "attn_dropout", None)  # GPT-2 and its like
    return drop.p if isinstance(drop, torch.nn.Dropout) else share if isinstance(share, float) else 0.0


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Within the block there is no dropout."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
