"""What the loops of both stages share: the optimiser, when to evaluate and save, and the end of a run."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpo_dataset import one_or_several
from publishing.model_card import file_hashes, write_adapter_card
from script_io.files import write_json
from script_io.provenance import provenance
from training.checkpoints import checkpoint_name
from training.curves import plot_curves
from training.metrics_log import finite_or_none, log_metrics
from training.processes import finish_trackers
from training.run import TrainingRun, stored_arguments
from training.watching import StopRequest, peak_memory_bytes

if TYPE_CHECKING:
    from accelerate import Accelerator

    from scoring.completion_scorer import CompletionScorer


def optimizer_parts(scorer: CompletionScorer, args: argparse.Namespace, accelerator: Accelerator) -> dict[str, Any]:
    """Return the model as accelerate prepared it, AdamW over its trainable tensors, and the scaler of the loss.

    Gradients of float16 products underflow to 0 unless the loss is scaled up (Micikevicius et al. 2018,
    arXiv:1710.03740); the other dtypes have the range of float32, so their scaler does nothing.
    """
    import torch

    from training.sharding import shard_base

    model: torch.nn.Module = scorer
    if args.shard_base:
        shard_base(scorer, accelerator)
    elif accelerator.num_processes > 1:
        model = accelerator.prepare(scorer)
    trainable = [p for p in scorer.parameters() if p.requires_grad]
    model.train()
    is_half = scorer.policy.dtype == torch.float16
    return {
        "model": model,
        "scorer": scorer,
        "optimizer": torch.optim.AdamW(trainable, lr=args.learning_rate, weight_decay=args.weight_decay),
        "grad_scaler": torch.amp.GradScaler(accelerator.device.type, enabled=is_half),
    }


def describe_batches(run: TrainingRun, unit: str, val_examples: int) -> None:
    """Print the batch arithmetic of the run; `unit` is what a batch counts."""
    print(f"Batches: {run.plan.describe(unit)}")
    print(f"Train batches: {run.plan.batches_per_epoch}")
    print(f"Val batches: {math.ceil(val_examples / run.eval_batch_size)}")


def warn_if_same_file(train_path: str | Path, val_path: str | Path) -> None:
    """Warn if the validation file equals the training file."""
    if Path(train_path).read_bytes() == Path(val_path).read_bytes():
        print("warning: the validation file equals the training file; its figures say nothing new", file=sys.stderr)


# --------------------------------------------------------------------------------- when a step is done


def ends_epoch(run: TrainingRun) -> bool:
    return run.state.step % run.plan.steps_per_epoch == 0


def evaluation_is_due(run: TrainingRun) -> bool:
    """True at the end of each epoch and every `--eval_steps` steps."""
    return ends_epoch(run) or (run.args.eval_steps > 0 and run.state.step % run.args.eval_steps == 0)


def checkpoint_is_due(run: TrainingRun, stop: StopRequest) -> bool:
    """True at the end of each epoch, every `--save_steps` steps, after a signal, and for the best model so far."""
    every = run.args.save_steps
    is_best = run.state.best_checkpoint == checkpoint_name(run)
    return ends_epoch(run) or bool(stop) or is_best or (every > 0 and run.state.step % every == 0)


def stops_early(run: TrainingRun) -> bool:
    """True after `--early_stopping_patience` evaluations without a better validation loss."""
    return 0 < run.args.early_stopping_patience <= run.state.evaluations_without_improvement


def record_validation(run: TrainingRun, values: Mapping[str, float]) -> None:
    """Log validation metrics, note whether they are the best so far, and at the end of an epoch print its block."""
    log_metrics(run, "val", values)
    if not math.isfinite(values["loss"]):
        print(
            f"warning: the validation loss is {values['loss']} after step {run.state.step}: the policy has diverged; "
            "lower --learning_rate and start again, or continue from an earlier checkpoint",
            file=sys.stderr,
        )
    if run.state.record_val_loss(values["loss"]) and run.args.early_stopping_patience:
        run.state.best_checkpoint = checkpoint_name(run)
    if ends_epoch(run):
        _close_epoch(run, values)


def _close_epoch(run: TrainingRun, val: Mapping[str, float]) -> None:
    """Print the epoch's block and store its means."""
    train = run.state.close_epoch()
    epoch = run.state.step // run.plan.steps_per_epoch
    learning_rate = run.optimizer.param_groups[0]["lr"]
    print(f"Epoch {epoch}/{run.plan.num_epochs} done")
    print(f"  Train Loss: {train['loss']:.4f}")
    print(f"  Val Loss: {val['loss']:.4f}")
    if "chosen_preference" in val:
        print(f"  Chosen Preference: {val['chosen_preference']:.0%}")
    if "logps/chosen_end" in val:
        print(f"  End of Chosen: {val['logps/chosen_end']:.2f} nats")
    print(f"  Learning Rate: {learning_rate:.2e}")
    by_split = {f"{split}_{name}": x for split, row in (("train", train), ("val", val)) for name, x in row.items()}
    row = {"epoch": epoch, "step": run.state.step, "learning_rate": learning_rate}
    run.state.epochs.append(row | finite_or_none(by_split))


# ------------------------------------------------------------------------------------------- the end


def save_final_model(
    run: TrainingRun, config_name: str, lengths: Mapping[str, Mapping[str, Any]], **facts: Any
) -> dict[str, Any]:
    """Write the final model with its settings and model card, on the main process; return the settings.

    `lengths` are the length reports of the splits; `facts` are kept with the settings.
    """
    finish_trackers(run.accelerator)
    examples = {split: report["total"] - len(report["dropped_ids"]) for split, report in lengths.items()}
    files = [*one_or_several(run.args.train_data_path), *one_or_several(run.args.val_data_path)]
    data = {"examples": examples, "data_sha256": file_hashes(files)}
    settings = {"arguments": stored_arguments(run.args), **provenance(), **data, **facts}
    if run.accelerator.is_main_process:
        run.save_model(run.final_model)
        run.policy.get_base_model().generation_config.to_json_file(run.final_model / "generation_config.json")
        write_json(run.final_model / config_name, settings)
        write_adapter_card(run.final_model)
        print(f"Saved final model to {run.final_model}")
    return settings


def save_statistics(
    run: TrainingRun,
    name: str,
    settings: Mapping[str, Any],
    data: Mapping[str, Any],
    panels: Mapping[str, Sequence[tuple[str, str]]],
) -> None:
    """Write the statistics of the run to the file `name` and plot the curves in `panels`, on the main process."""
    if not run.accelerator.is_main_process:
        return
    state = run.state
    content = {
        "steps": state.step,
        "seconds": round(state.seconds, 3),
        "tokens": state.tokens,
        "tokens_per_second": round(state.tokens / state.seconds, 1) if state.seconds else None,
        "peak_memory_bytes": peak_memory_bytes(run.device),
        "best_val_loss": state.best_val_loss,
        "epochs": state.epochs,
        "data": data,
        **settings,
    }
    write_json(run.folder / name, content)
    plot_curves(run.folder, panels)
    print(f"Statistics: {run.folder / name}; curves: {run.folder / 'training_curves.png'}")
