"""Split the frozen base model over the processes, for a base that is larger than one GPU (`--shard_base`, FSDP2).

Zhao et al. 2023, PyTorch FSDP, arXiv:2304.11277, in the form of torch's `fully_shard`. Every process holds a share of
each frozen matrix, and the processes gather a layer when they compute it. What is trained is small: every process holds
all of it, with the optimiser, and `average_gradients` makes the steps equal. So checkpoints, clipping and the loss are
as in an unsplit run.

Gathering is a joint act of all processes. They must therefore make the same number of forward passes, and `TrainingRun`
adds the missing ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from script_io.errors import InputError
from training.activation_memory import decoder_layers

if TYPE_CHECKING:
    from accelerate import Accelerator

    from language_model.placement import Placement
    from scoring.completion_scorer import CompletionScorer


_NOT_SPLIT = "is not split; leave --shard_base out (with accelerate launch: take configs/accelerate/many_gpus.yaml)"


def check_sharding(args: argparse.Namespace, placement: Placement) -> None:
    """Raise InputError if the run cannot split its base."""
    if placement.quantisation != "none":
        raise InputError(f"--shard_base and --use_{placement.quantisation}: a quantised base {_NOT_SPLIT}")
    if getattr(args, "reference", "cached") == "live":
        raise InputError("--shard_base: a live reference is not scored on a split base; use --reference cached")


def loading_placement(args: argparse.Namespace, placement: Placement) -> Placement:
    """Return where to load the base: a base to be split goes to the host's memory first."""
    return replace(placement, device=torch.device("cpu")) if args.shard_base else placement


def shard_base(scorer: CompletionScorer, accelerator: Accelerator) -> None:
    """Split the frozen parameters of the policy over all processes, layer by layer, in place.

    Tensors of adapters stay whole on every process.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if not all(p.is_floating_point() for p in scorer.parameters()):
        raise InputError(f"--shard_base: the base is stored quantised, and such a base {_NOT_SPLIT}")
    whole = {p for name, p in scorer.named_parameters() if p.requires_grad or "lora_" in name}
    options: dict[str, Any] = {
        "mesh": init_device_mesh(accelerator.device.type, (accelerator.num_processes,)),
        "ignored_params": whole,
        # Also for the embeddings and the head: only the main process saves, which gathers nothing but would leave its
        # parameters in another state than theirs on the other processes
        "reshard_after_forward": True,
    }
    for layer in decoder_layers(scorer.policy):
        fully_shard(layer, **options)
    fully_shard(scorer, **options)
    for parameter in whole:
        parameter.data = parameter.data.to(accelerator.device)
    scorer.pads_rows = accelerator.device.type == "cuda"
    print(f"Base: split over {accelerator.num_processes} processes; the adapter and its optimiser are on each")


def average_gradients(parameters: Sequence[torch.nn.Parameter], accelerator: Accelerator) -> None:
    """Replace each gradient by its mean over the processes."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    mean = accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
    for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
