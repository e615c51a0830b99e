"""How much the note raises the probability of each token of a summary, under a causal language model.

    evidence(token) = log p(token | note, text so far) - log p(token | no note, text so far)     in nats

A word that the note supports becomes likelier when the model reads the note; an invented word does not. The method
needs two forward passes, no labels, and no particular language. Without the note, the prompt is the same with an empty
note.

Source: pointwise mutual information as a measure of faithfulness, as in van der Poel et al. 2022 (arXiv:2210.13210).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from judging.packed_summaries import EncodedSummary, encode_summary
from language_model.prompt_format import build_prompt, completion_opening, encode_prompt
from scoring.head_logps import token_logps
from scoring.packed_attention import PACKED, UnsupportedAttention, register
from scoring.packed_rows import PromptCompletions, lay_out

if TYPE_CHECKING:
    from language_model.loading import LoadedModel

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.5, torch.float16: 0.1}  # nats of one token, packed against plain
_PROBE = ("A 54-year-old woman with chest pain for 3 weeks. Denies fever.", ("Chest pain.", "No fever for 3 weeks."))


@dataclass(frozen=True)
class SummaryEvidence:
    """The evidence of each token of a summary, and the characters of the summary that the token covers."""

    summary: EncodedSummary
    evidence: tuple[float, ...]  # nats


class EvidenceScorer:
    """Computes evidence with a loaded model; the summaries of a note share its prompt where the model allows that."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.tokenizer, self.prompt_format, self.device = loaded.tokenizer, loaded.prompt_format, loaded.device
        self.opening = completion_opening(loaded.tokenizer, loaded.prompt_format)
        model: Any = loaded.model
        self.model = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.is_packed = self._takes_packed_rows()

    def too_long(self, note: str, summary: str) -> int | None:
        """Return the number of tokens of note and summary if the model cannot read as many, or None."""
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        tokens = len(self._prompt(note)) + len(self._encode(summary).ids)
        return tokens if limit and tokens > limit else None

    @torch.no_grad()
    def evidence(self, note: str, summaries: Sequence[str]) -> list[SummaryEvidence]:
        """Return the evidence of each summary of one note."""
        encoded = [self._encode(summary) for summary in summaries]
        spoken = [each for each in encoded if each.ids]
        with_note, without = (self._logps(self._prompt(text), spoken) for text in (note, ""))
        found = iter([(a - b).tolist() for a, b in zip(with_note, without, strict=True)])
        return [SummaryEvidence(each, tuple(next(found)) if each.ids else ()) for each in encoded]

    def _prompt(self, note: str) -> list[int]:
        return encode_prompt(self.tokenizer, build_prompt(note), self.prompt_format)

    def _encode(self, summary: str) -> EncodedSummary:
        return encode_summary(self.tokenizer, summary, opening=self.opening)

    def _logps(self, prompt: list[int], summaries: Sequence[EncodedSummary]) -> list[torch.Tensor]:
        """Return the log-probabilities of the tokens of each summary after the prompt, one (tokens,) each."""
        if not summaries:
            return []
        if not self.is_packed:
            return [self._plain_logps(prompt, summary.ids) for summary in summaries]
        return self._packed_logps(prompt, summaries)

    def _packed_logps(self, prompt: list[int], summaries: Sequence[EncodedSummary]) -> list[torch.Tensor]:
        row = lay_out([PromptCompletions(prompt, tuple(summary.ids for summary in summaries))]).to(self.device)
        decoder, head = getattr(self.model, self.model.base_model_prefix), self.model.get_output_embeddings()
        hidden = decoder(input_ids=row.input_ids, position_ids=row.position_ids, use_cache=False, row=row)[0][0]
        logps = token_logps(hidden[row.predicting], head.weight, getattr(head, "bias", None), row.targets)
        return list(logps.cpu().split([len(summary.ids) for summary in summaries]))

    def _plain_logps(self, prompt: list[int], ids: list[int]) -> torch.Tensor:
        inputs = torch.tensor([[*prompt, *ids]], device=self.device)
        logits = self.model(input_ids=inputs, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
        return logits.log_softmax(dim=-1).gather(1, inputs[0, len(prompt) :, None])[:, 0].cpu()

    @torch.no_grad()
    def _takes_packed_rows(self) -> bool:
        """Install packed attention if the model gives the same log-probabilities with it as without it."""
        note, summaries = _PROBE
        prompt, encoded = self._prompt(note), [self._encode(summary) for summary in summaries]
        plain = [self._plain_logps(prompt, summary.ids) for summary in encoded]
        stock = self.model.config._attn_implementation
        register()
        try:
            self.model.set_attn_implementation(PACKED)
            packed = self._packed_logps(prompt, encoded)
            largest = max(float((a - b).abs().max()) for a, b in zip(plain, packed, strict=True))
        except torch.OutOfMemoryError:
            raise
        except (UnsupportedAttention, TypeError, AttributeError, ValueError, RuntimeError):
            largest = float("inf")
        if largest > TOLERANCE[self.model.dtype]:
            self.model.set_attn_implementation(stock)
            return False
        return True
