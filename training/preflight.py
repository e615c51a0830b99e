"""Try on one short batch what a run will do, before its first step: a fault shows here and not after hours.

    context    no example is longer than the positions that the model knows
    forward    twice in training mode without dropout: the same log-probabilities
    backward   a finite gradient for every trainable tensor
    save       the policy as the run will save it, in a temporary folder (adapters are joined), loaded onto the base
    merge      each adapted layer merged by peft for one forward pass, so that no second model is in memory; a base in
               4 or 8 bits stays as it is, and gets the adapter as one matrix next to it

The adapters get noise for it, since a fresh adapter is zero and shows nothing. Afterwards the run is as it was, also on
a base in 4 or 8 bits, to the bit.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from language_model.adapters import attach_adapter
from language_model.merging import changed_share, tolerance_of
from language_model.model_files import context_tokens, load_config
from scoring.completion_scorer import CompletionScorer, evaluating, shortened
from scoring.fused_check import noisy_adapters
from scoring.packed_rows import PromptCompletions
from script_io.errors import InputError, RunError
from training.dropouts import without_dropout
from training.merge_trial import merge_obstacle, merged_layers
from training.run import TrainingRun
from training.watching import check_gradients

RELOADED = "reloaded"
EXAMPLES = 2
# Largest difference of the log-probabilities of two equal passes, in nats per token: the order of sums on a GPU
REPEAT_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-2}
# Share of the logits that the adapter changes when its merge is tried: a weak one would hide a fault in the rounding
EFFECT = 0.5


def check_context(args: argparse.Namespace, base_name: str, examples: Sequence[PromptCompletions]) -> None:
    """Raise InputError if an example is longer than the positions that the base model knows."""
    if args.skip_preflight:
        return
    context = context_tokens(load_config(base_name, args.trust_remote_code))
    lengths = [len(each.prompt) + max(map(len, each.completions)) for each in examples]
    longer = sum(length > context for length in lengths) if context else 0
    if longer:
        raise InputError(
            f"{base_name}: {longer} of {len(lengths)} examples are longer than the model's context of {context} tokens "
            f"(longest {max(lengths)}); pass --max_length {context}, with --overflow shorten_note to keep them"
        )


def run_preflight(run: TrainingRun, examples: Sequence[PromptCompletions], *, compares_reference: bool) -> None:
    """Check a fresh run on its shortest examples and print the seconds that it took.

    `compares_reference`: the loss compares two forward passes, so the run cannot do with a model that drops out by
    itself. Raises InputError or RunError naming what failed.
    """
    if run.args.skip_preflight:
        print("Preflight: skipped")
        return
    start = time.perf_counter()
    scorer, policy = run.scorer, run.policy
    batch = [shortened(each) for each in sorted(examples, key=lambda each: each.tokens)[:EXAMPLES]]
    devices = [policy.device] if policy.device.type == "cuda" else []
    with torch.random.fork_rng(devices), noisy_adapters(policy):
        _check_repeated(scorer, batch, must_agree=compares_reference)
        _check_backward(scorer, batch)
        expected = _logits(scorer, batch)
        with tempfile.TemporaryDirectory() as folder:
            run.save_model(Path(folder, "adapter"))
            with _reloaded(policy, Path(folder, "adapter")):
                _require_same(_logits(scorer, batch), expected, "saving and loading the adapter", policy.dtype)
                merges = merge_obstacle(policy)
                if merges is None:
                    expected = _strengthened_logits(scorer, batch)
                    with merged_layers(policy):
                        _require_same(_logits(scorer, batch), expected, "merging the adapter", policy.dtype)
    merge = "merge" if merges is None else f"(merge not checked: {merges})"
    print(f"Preflight: context, forward, backward, save, load, {merge} ({time.perf_counter() - start:.1f} s)")


def _check_repeated(scorer: CompletionScorer, batch: Sequence[PromptCompletions], *, must_agree: bool) -> None:
    """Compare two forward passes in training mode with every known dropout off."""
    with without_dropout(scorer.policy), torch.no_grad():
        first, second = (_per_token(scorer, batch) for _ in range(2))
    difference = (first - second).abs().max().item()
    if difference <= REPEAT_TOLERANCE[scorer.policy.dtype]:
        return
    problem = f"two forward passes in training mode differ by {difference:.1e} nats per token without dropout"
    if must_agree:
        raise InputError(f"{problem}: the model has noise of its own, and DPO compares passes; use another base model")
    print(f"warning: {problem}: the model has noise of its own, so Stage B will refuse it", file=sys.stderr)


def _check_backward(scorer: CompletionScorer, batch: Sequence[PromptCompletions]) -> None:
    policy = scorer.policy
    policy.zero_grad()
    (-scorer(batch)[0].mean()).backward()
    missing = [name for name, each in policy.named_parameters() if each.requires_grad and each.grad is None]
    try:
        if missing:
            raise InputError(
                f"no gradient reaches {len(missing)} trainable tensors, such as {missing[0]}: text does not pass that "
                f"layer; exclude it with --lora_exclude_modules {_part_to_exclude(policy, missing)}"
            )
        check_gradients(policy)
    finally:
        policy.zero_grad()


def _part_to_exclude(policy: PeftModel, missing: Sequence[str]) -> str:
    """Return the name of the largest part of the model that has tensors without gradient, and no others."""
    trained = [
        name.split(".") for name, each in policy.named_parameters() if each.requires_grad and each.grad is not None
    ]
    path = missing[0].split(".")
    for depth in range(1, len(path)):
        if not any(other[:depth] == path[:depth] for other in trained):
            return path[depth - 1]
    return path[-1]


def _per_token(scorer: CompletionScorer, batch: Sequence[PromptCompletions]) -> torch.Tensor:
    sums, tokens = scorer(batch)
    return sums / tokens


def _logits(scorer: CompletionScorer, batch: Sequence[PromptCompletions]) -> torch.Tensor:
    """Return the logits (T, V) of the scorer's forward pass, without dropout, as float32 on the CPU.

    The head is called inside the pass, where a split base is gathered.
    """
    model = scorer.policy.get_base_model()
    found: list[torch.Tensor] = []

    def keep(_: torch.nn.Module, __: Any, output: Any) -> None:
        logits = model.get_output_embeddings()(output[0])
        found.append(logits.flatten(end_dim=-2).float().cpu())

    hook = model.base_model.register_forward_hook(keep)
    try:
        with evaluating(scorer.policy), torch.no_grad():
            scorer(batch)
    finally:
        hook.remove()
    return found[0]


def _strengthened_logits(scorer: CompletionScorer, batch: Sequence[PromptCompletions]) -> torch.Tensor:
    """Scale the reloaded adapter until it changes the logits by about `EFFECT`, and return the logits (T, V)."""
    ups = [
        each for name, each in scorer.policy.named_parameters() if re.search(rf"lora_(embedding_)?B\.{RELOADED}", name)
    ]
    expected, kept = _logits(scorer, batch), [each.detach().clone() for each in ups]
    with torch.no_grad():
        for each in ups:
            each.zero_()
        effect = changed_share(expected, _logits(scorer, batch))
        for each, values in zip(ups, kept, strict=True):
            each.copy_(values * (EFFECT / effect if 0 < effect < EFFECT else 1))
    return _logits(scorer, batch)


def _require_same(found: torch.Tensor, expected: torch.Tensor, what: str, dtype: torch.dtype) -> None:
    share = changed_share(expected, found)
    if not share <= tolerance_of(dtype):
        raise RunError(f"{what} changed the logits by {share:.1%}; use plain LoRA flags")


@contextmanager
def _reloaded(policy: PeftModel, folder: Path) -> Iterator[None]:
    """Within the block, the adapter in `folder` replaces the active ones."""
    tuner: Any = policy.base_model
    active = list(policy.active_adapters)
    trainable = {name for name, each in policy.named_parameters() if each.requires_grad}
    try:
        attach_adapter(policy, folder, RELOADED, trainable=False)
        tuner.set_adapter([RELOADED])
        yield
    finally:
        tuner.set_adapter(active)
        if RELOADED in policy.peft_config:
            policy.delete_adapter(RELOADED)
        for name, each in policy.named_parameters():
            each.requires_grad_(name in trainable)
