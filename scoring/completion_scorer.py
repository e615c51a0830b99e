"""Summed log-probabilities of completions under a policy: the one forward pass that both stages train with.

`CompletionScorer` takes examples (packed_rows.py) and scores them in one of two ways:

packed  one row without padding, each prompt once; most of the last layer (last_layer.py) and the output head
        (head_logps.py) only where completion tokens are predicted
padded  a padded batch through the unchanged model (padded_logps.py)

Packed rows need an attention and a head that this module knows. `choose` compares both ways on the first examples of a
run. If they differ by more than the rounding of the dtype, it prints why and keeps the padded batch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import torch

from scoring.fused_check import fuse
from scoring.head_logps import token_logps
from scoring.last_layer import LastLayer
from scoring.packed_attention import PACKED, UnsupportedAttention, register
from scoring.packed_rows import PromptCompletions, lay_out, padded_size
from scoring.padded_logps import batch_logps, completion_sums, pad_examples

if TYPE_CHECKING:
    from peft import PeftModel

    from scoring.fused_lora import FusedLoRA

Scores = tuple[torch.Tensor, torch.Tensor]
# Largest difference between packed and padded, in nats per completion token. Rounding explains a tenth of it; a wrong
# mask or wrong positions change the log-probabilities of a trained model by more.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}
SHORT_TOKENS = 32  # of the prompt and of each completion where LoRA is checked
CHECKED_EXAMPLES = 2  # with one, examples of a row that see each other would go unnoticed
# Settings that change the logits after the matrix product of the head, and the value that leaves them unchanged
_HEAD_SETTINGS = {"final_logit_softcapping": None, "logit_scale": 1, "logits_scaling": 1, "lm_head_multiplier": 1}
_ATTENTION_LAYERS = frozenset({"full_attention", "sliding_attention"})


class CompletionScorer(torch.nn.Module):
    """Scores completions under the peft model `policy`; accelerate wraps it if there are several processes."""

    def __init__(self, policy: PeftModel, pad_id: int) -> None:
        super().__init__()
        self.policy = policy
        self.pad_id = pad_id
        self.is_packed = False
        self.pads_rows = policy.device.type == "cuda"  # a compiled program and the allocator meet few sizes
        self._last_layer: LastLayer | None = None
        self._lora: FusedLoRA | None = None

    @property
    def is_fused(self) -> bool:
        """Return whether LoRA is computed by scoring/fused_lora.py."""
        return self._lora is not None

    def forward(self, examples: Sequence[PromptCompletions], parts: torch.Tensor | None = None) -> Scores:
        """Return the summed log-probability (nats, float64) and token count of each completion, both (K,).

        With `parts`, (P, N) bool over the N tokens of all completions in order, the sums are (1 + P, K): over all
        tokens first, then over the tokens of each part.
        """
        # with half-precision weights, autocast also computes the products of the float32 adapters in half precision
        dtype = self.policy.dtype
        with torch.autocast(self.policy.device.type, dtype=dtype, enabled=dtype.itemsize == 2):
            logps, tokens = self._packed(examples) if self.is_packed else self._padded(examples)
        if parts is not None:
            whole = torch.ones_like(parts[:1])
            logps = logps * torch.cat([whole, parts]).to(logps)
        return completion_sums(logps, tokens), tokens

    def _packed(self, examples: Sequence[PromptCompletions]) -> Scores:
        """Return the log-probability of each completion token, (N,), and the tokens of each completion, (K,)."""
        model = self._causal_model()
        row = lay_out(examples)
        if self.pads_rows:
            row = row.padded(padded_size(row.input_ids.shape[1]), self.pad_id)
        row = row.to(self.policy.device)
        self._draw_dropout(row.input_ids.numel())
        decoder, head = getattr(model, model.base_model_prefix), model.get_output_embeddings()
        hidden = decoder(input_ids=row.input_ids, position_ids=row.position_ids, use_cache=False, row=row)[0][0]
        predicting = hidden if self._last_layer else hidden[row.predicting]
        return token_logps(predicting, head.weight, head.bias, row.targets), row.completion_tokens

    def _padded(self, examples: Sequence[PromptCompletions]) -> Scores:
        """See `_packed`."""
        batch = {name: tensor.to(self.policy.device) for name, tensor in pad_examples(examples, self.pad_id).items()}
        self._draw_dropout(batch["input_ids"].numel())
        return batch_logps(self.policy, batch)

    def _draw_dropout(self, tokens: int) -> None:
        if self._lora and self.training:
            self._lora.masks.draw(tokens)

    def _causal_model(self) -> Any:
        return self.policy.get_base_model()

    # -------------------------------------------------------------------------------- packed or padded

    def choose(self, examples: Sequence[PromptCompletions]) -> None:
        """Use packed rows and fused LoRA if they equal the plain ways on the first of `examples`; print the choice."""
        model = self._causal_model()
        stock = model.config._attn_implementation
        reason = self._obstacle() or self._obstacle_on(examples[:CHECKED_EXAMPLES])
        self.is_packed = reason is None
        if reason is None:
            print("Rows: packed without padding, prompts shared (checked against the padded batch)")
        else:
            model.set_attn_implementation(stock)
            print(f"warning: rows are padded, which is slower: {reason}", file=sys.stderr)
        short = shortened(examples[0])
        tokens = sum(len(short.prompt) + len(completion) for completion in short.completions)
        self._lora = fuse(self.policy, lambda: self([short]), padded_size(tokens) if self.pads_rows else tokens)

    def _obstacle(self) -> str | None:
        """Return why the configuration of this model rules packed rows out, or None."""
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

    def _obstacle_on(self, examples: Sequence[PromptCompletions]) -> str | None:
        """Return why packed and padded differ here, or None; compute the last layer whole if that helps."""
        model = self._causal_model()
        stock = model.config._attn_implementation
        self._restore_last_layer()
        with suppress(AttributeError):
            self._last_layer = LastLayer(getattr(model, model.base_model_prefix))
        reason = self._difference(examples)
        if reason and self._last_layer:
            self._restore_last_layer()
            model.set_attn_implementation(stock)
            trimmed, reason = reason, self._difference(examples)
            if reason is None:
                print(f"warning: the last layer is computed at every position: {trimmed}", file=sys.stderr)
        return reason

    def _restore_last_layer(self) -> None:
        if self._last_layer:
            self._last_layer.restore()
        self._last_layer = None

    def _difference(self, examples: Sequence[PromptCompletions]) -> str | None:
        """Return why the packed and padded results differ, or None. Packed attention stays installed."""
        register()
        with evaluating(self.policy), torch.no_grad():
            self.is_packed = False
            padded, tokens = zip(*(self([example]) for example in examples), strict=True)
            try:
                self._causal_model().set_attn_implementation(PACKED)
                self.is_packed = True
                packed, _ = self(examples)
                if self.policy.device.type == "cuda":  # the backward pass has its own kernel, which may not compile
                    with torch.enable_grad():
                        self(examples)[0].sum().backward()
                    self.policy.zero_grad()
            except torch.OutOfMemoryError:
                raise
            except (UnsupportedAttention, TypeError, AttributeError, ValueError, RuntimeError) as error:
                self.policy.zero_grad()
                return f"the model does not take packed rows ({str(error).splitlines()[0]})"
        difference = ((packed - torch.cat(padded)).abs() / torch.cat(tokens)).max().item()
        is_same = difference <= TOLERANCE[self.policy.dtype]
        return None if is_same else f"packed and padded differ by {difference:.1e} nats per token"


def shortened(example: PromptCompletions) -> PromptCompletions:
    """Return the end of the prompt and the starts of the completions, so that peft's layers fit into memory as well."""
    short = SHORT_TOKENS
    return PromptCompletions(example.prompt[-short:], tuple(part[:short] for part in example.completions))


def _attention_dropout(module: torch.nn.Module) -> float:
    """Return the dropout of an attention layer in training; 0 for any other module."""
    own = getattr(module, "dropout", 0.0) if type(module).__name__.endswith("Attention") else 0.0  # BioGPT, OPT
    share = getattr(module, "attention_dropout", own)
    drop = getattr(module, "attn_dropout", None)  # GPT-2 and similar models
    return drop.p if isinstance(drop, torch.nn.Dropout) else share if isinstance(share, float) else 0.0


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Within the block the model is in evaluation mode, without dropout."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
