"""Exactness checks of benchmarks/gpu_check.py: packed rows against the padded batch, and step 0 of Stage B."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.gpu_models import random_weights, release_memory
from benchmarks.gpu_training import Case, Place, make_job, stage_script
from benchmarks.trl_inputs import LINEAR_LAYERS, Lora, Shape, lora_parameters, set_lora_values
from benchmarks.trl_job import BETA, token_ids
from benchmarks.trl_variants import our_command_line
from language_model.adapters import add_lora, enable_gradient_checkpointing
from language_model.loading import load_base_model, load_tokenizer
from language_model.placement import Placement
from scoring.completion_scorer import CompletionScorer
from scoring.packed_rows import PromptCompletions

if TYPE_CHECKING:
    from benchmarks.trl_inputs import Model
    from training.pair_scores import PairScores
    from training.run import TrainingRun

ALL_LINEAR = Lora(LINEAR_LAYERS, 0.0)
SHAPE = Shape(150, 60)
PAIRS = 4
# Half precision may round packed rows otherwise than a padded batch, but no further from the exact values
ALLOWED_ROUNDING = 3.0
FLOAT32_TOLERANCE = 1e-3  # largest difference of a gradient, as a share of the largest gradient
Result = tuple[torch.Tensor, dict[str, torch.Tensor]]  # log-probability per token of each completion, LoRA gradients


def check_packed(
    model_name: str, place: Place, dtypes: Sequence[torch.dtype] = (torch.float32, torch.bfloat16)
) -> dict[str, Any]:
    """Compare packed rows and the padded batch with the padded batch in float32: log-probabilities and gradients.

    Each dtype is checked with and without gradient checkpointing. `equal` says whether packed rows were used and are
    as exact as the padded batch.
    """
    job, model = make_job(Case("dpo", model_name, SHAPE, PAIRS, ALL_LINEAR, steps=1), place)
    examples = [PromptCompletions(prompt, tuple(rest)) for prompt, *rest in token_ids(job)]
    expected = _padded(_scorer(model, place, torch.float32, False), examples)
    found: dict[str, Any] = {}
    for dtype in dtypes:
        for checkpointing in (False, True):
            scorer = _scorer(model, place, dtype, checkpointing)
            padded = _differences(_padded(scorer, examples), expected)
            scorer.choose(examples)
            packed = _differences(_scores(scorer, examples), expected)
            case = {"packed": scorer.is_packed, "packed_differences": packed, "padded_differences": padded}
            limits = [max(ALLOWED_ROUNDING * each, FLOAT32_TOLERANCE) for each in padded.values()]
            case["equal"] = scorer.is_packed and all(
                each <= limit for each, limit in zip(packed.values(), limits, strict=True)
            )
            name = str(dtype).removeprefix("torch.") + (", checkpointing" if checkpointing else "")
            found[name] = case
            del scorer
            release_memory(place.device)
    return {"equal": all(case["equal"] for case in found.values()), "cases": found}


def _scorer(model: Model, place: Place, dtype: torch.dtype, checkpointing: bool) -> CompletionScorer:
    """Return a scorer of padded rows, in training mode, with the same weights for each call."""
    tokenizer = load_tokenizer(model.base)
    with random_weights(place.seed):
        # drawn in float32 and then rounded: random numbers of another dtype are other numbers
        base = load_base_model(model.base, Placement(place.device, torch.float32, "none"), tokenizer)
    for parameter in base.parameters():  # not the buffers: the frequencies of the positions stay in float32
        parameter.data = parameter.data.to(dtype)
    policy = add_lora(base, 16, 32, 0.0, ALL_LINEAR.target_modules)
    set_lora_values(lora_parameters(policy), place.seed)
    if checkpointing:
        enable_gradient_checkpointing(policy)
    return CompletionScorer(policy, tokenizer.pad_token_id or 0).train()


def _padded(scorer: CompletionScorer, examples: Sequence[PromptCompletions]) -> Result:
    assert not scorer.is_packed
    return _scores(scorer, examples)


def _scores(scorer: CompletionScorer, examples: Sequence[PromptCompletions]) -> Result:
    """Return the scores, and the gradients of a DPO loss with a likelihood term, which uses every completion."""
    scorer.zero_grad()
    logps, tokens = scorer(examples)
    chosen, rejected = logps.view(-1, 2).unbind(1)
    loss = -torch.nn.functional.logsigmoid(BETA * (chosen - rejected)).mean() - (logps / tokens).mean()
    loss.backward()
    gradients = {
        name: parameter.grad.float().cpu()
        for name, parameter in lora_parameters(scorer.policy).items()
        if parameter.grad is not None
    }
    scorer.zero_grad()
    return (logps / tokens).detach().cpu(), gradients


def _differences(own: Result, expected: Result) -> dict[str, float]:
    """Return the largest difference of a log-probability, in nats per token, and of a gradient, relative."""
    if own[1].keys() != expected[1].keys():
        return {"logps": float("inf"), "gradients": float("inf")}
    largest = max(gradient.abs().max().item() for gradient in expected[1].values())
    apart = max((own[1][name] - gradient).abs().max().item() for name, gradient in expected[1].items())
    return {"logps": (own[0] - expected[0]).abs().max().item(), "gradients": apart / largest}


def check_step_0(model_name: str, place: Place) -> dict[str, Any]:
    """Run Stage B's preparation in float32 and bfloat16, and compare policy and reference in the first epoch's rows.

    The loss is the loss of the first step, and must be ln 2. The largest reward is the largest of all rows.
    """
    from training.pair_scores import score_pairs

    script = stage_script("dpo")
    found: dict[str, Any] = {}
    for dtype in ("float32", "bfloat16"):
        case = Case("dpo", model_name, SHAPE, PAIRS, ALL_LINEAR, dtype=dtype, steps=4)
        folder = Place(place.device, place.folder / dtype, place.seed)
        job, _ = make_job(case, folder)
        with random_weights(place.seed):
            run, pair, data, _ = script.prepare(script.parse_args(our_command_line(job)))
        rows = [row for step in range(run.plan.total_steps) for row in run.plan.rows(step, data.dataset.tokens)]
        scores = [_zero_margin(script, run, score_pairs(run, pair, data, row)) for row in rows]
        found[dtype] = {
            "loss": scores[0][0],
            "largest_reward": max(reward for _, reward in scores),
            "packed": run.scorer.is_packed,
        }
        del run, pair, data
        release_memory(place.device)
    return found


def _zero_margin(script: Any, run: TrainingRun, scores: PairScores) -> tuple[float, float]:
    """Return the mean preference loss of a row, and the largest reward in absolute value."""
    assert scores.reference_chosen is not None
    assert scores.reference_rejected is not None
    apart = torch.stack(
        [scores.policy_chosen - scores.reference_chosen, scores.policy_rejected - scores.reference_rejected]
    )
    return script.losses(run.args, scores)[0].mean().item(), run.args.beta * apart.abs().max().item()
