"""The naive training loop that benchmarks/compare_trl.py measures, and the plain computation that it checks against.

naive: Stage B loads a second whole model as the reference and runs one forward pass per answer and model, four in all.
       Rows are padded to the maximum length, and logits are computed at every position. Dropout is on in Stage A, and
       off in Stage B.
plain: the same in float32, one row at a time and without padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from benchmarks.trl_job import BETA, LEARNING_RATE, Clock, Example, Job, Probe, load_policy, steps_of, token_ids
from training.dropouts import turn_dropout_off

if TYPE_CHECKING:
    from peft import PeftModel


def run_naive(job: Job, clock: Clock, probe: Probe) -> list[list[Example]]:
    """Train as `naive` or `plain` and return the examples of every step."""
    steps = steps_of(job, token_ids(job))
    policy = _load(job)
    reference = _load(job).requires_grad_(False) if job.stage == "dpo" else None
    parameters = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE)
    probe.watch(policy)
    rows = 1 if job.variant == "plain" else job.batch_size
    with clock.measure("training"):
        for step in steps:
            total = 0.0
            for start in range(0, len(step), rows):
                loss = _loss(job, policy, reference, step[start : start + rows], step)
                loss.backward()
                total += loss.item()
            torch.nn.utils.clip_grad_norm_(parameters, job.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            probe.losses.append(total)
    return steps


def _load(job: Job) -> PeftModel:
    """Return the policy in training mode. Policy and reference of Stage B have no dropout, as in the other variants."""
    model = load_policy(job, job.dtype).train()
    if job.stage == "dpo":
        turn_dropout_off(model)
    return model


def _loss(
    job: Job, policy: PeftModel, reference: PeftModel | None, part: Sequence[Example], step: Sequence[Example]
) -> torch.Tensor:
    """Return the contribution of `part` to the mean loss of its step, a scalar."""
    length = None if job.variant == "plain" else job.max_length
    if reference is None:
        supervised = sum(len(completion) for _, completion in step)
        return -_logps(policy, part, length).sum() / supervised
    ratios = []
    for answer in (1, 2):
        pairs = [(example[0], example[answer]) for example in part]
        with torch.no_grad():
            reference_logps = _logps(reference, pairs, length)
        ratios.append(_logps(policy, pairs, length) - reference_logps)
    return -torch.nn.functional.logsigmoid(BETA * (ratios[0] - ratios[1])).sum() / len(step)


def _logps(model: PeftModel, pairs: Sequence[Example], length: int | None) -> torch.Tensor:
    """Return the summed log-probability of each completion, (B,) in nats.

    Rows are padded to `length`, or to the longest row if it is None.
    """
    length = length or max(len(prompt) + len(completion) for prompt, completion in pairs)
    ids = torch.zeros(len(pairs), length, dtype=torch.long, device=model.device)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, (prompt, completion) in enumerate(pairs):
        end = len(prompt) + len(completion)
        ids[row, :end] = torch.tensor(prompt + completion)
        labels[row, len(prompt) : end] = torch.tensor(completion)
        mask[row, :end] = 1
    logps = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float().log_softmax(dim=-1)
    targets = labels[:, 1:]
    token_logps = logps.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return (token_logps * (targets != -100)).double().sum(dim=-1)
