"""Stage A: LoRA supervised fine-tuning on factual (note, summary) pairs.

In:  a causal language model, and Phase 1 CSVs; rows labelled factual or factual_with_evidence are trained on. JSONL
     files of conversations (`messages`) are taken as well.
Out: `--output_dir` with `final_model/` (the adapter), `checkpoint_epoch_N/`, `training_stats.json`, `metrics.jsonl`
     and `training_curves.png`.

    python stage_a_sft_training.py                       # the demo's tiny model and data, on any CPU
    python stage_a_sft_training.py --model_name mistralai/Mistral-7B-v0.3 --use_4bit --gradient_checkpointing \\
        --batch_size 2 --gradient_accumulation_steps 4   # a 7B model on a 12 GB GPU

The loss is the cross-entropy of the summary's tokens, including the end of sequence and no others. It is averaged over
the tokens of a whole optimiser step, so gradient accumulation changes the memory and not the gradient. LoRA: Hu et al.
2021, arXiv:2106.09685.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from language_model.adapters import add_lora, enable_gradient_checkpointing, save_adapter
from language_model.loading import load_base_model, load_tokenizer
from language_model.lora_settings import LoraVariant, add_lora_arguments, check_lora_arguments
from language_model.model_files import DEMO_BASE, absolute_model_name
from language_model.placement import add_model_arguments, choose_placement
from language_model.prompt_flags import prompt_settings
from language_model.prompt_format import load_prompt_format
from script_io.columns_flag import PHASE1_ROLES, add_columns_argument, column_names
from script_io.errors import ArgumentParser, run_script
from script_io.folder_lock import lock_folder
from sft_dataset import SFTDataset
from training import checkpoints, failures, loop, run_folder
from training.advice import print_advice
from training.batch_plan import BatchPlan
from training.disk_space import check_disk_space
from training.input_identity import identities_of_inputs
from training.metrics_log import log_step
from training.processes import end_process, make_accelerator
from training.run import TrainingRun
from training.settings import add_training_arguments, check_training_arguments, set_learning_rate
from training.watching import NonFiniteGuard, StepTimer, StopRequest, check_gradients, stop_on_signals

if TYPE_CHECKING:
    import torch

PANELS = {"Loss per summary token (nats)": [("train", "loss"), ("val", "loss")]}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    data = parser.add_argument_group("Data")
    for split, name in (("train", "train"), ("val", "validation")):
        data.add_argument(
            f"--{split}_data_path",
            default=f"phase1_data/sft/{name}_set_processed.csv",
            metavar="FILE",
            help=f"{name} split: Phase 1 CSV, TSV, JSONL, JSON array or Parquet, or conversations (messages)",
        )
    add_columns_argument(data, PHASE1_ROLES)
    model = parser.add_argument_group("Model")
    model.add_argument(
        "--model_name",
        default=str(DEMO_BASE),
        metavar="MODEL",
        help="folder or hub id of the causal language model (default: the demo's tiny base)",
    )
    add_lora_arguments(parser)
    add_training_arguments(
        parser, output_dir="./models/sft_specialist", learning_rate=2e-4, batch_size=8, batch_unit="examples"
    )
    add_model_arguments(parser)
    return parser.parse_args(argv)


def check_arguments(args: argparse.Namespace) -> None:
    check_training_arguments(args)
    check_lora_arguments(args)


def prepare(args: argparse.Namespace) -> tuple[TrainingRun, SFTDataset, SFTDataset]:
    """Load data and model, open the run folder, and restore the newest checkpoint if the run is resumed."""
    import torch

    from scoring.completion_scorer import CompletionScorer
    from training import memory_estimate, pissa, planned_adapters, preflight
    from training.embedding_noise import add_embedding_noise
    from training.sharding import loading_placement

    # Data
    inputs = identities_of_inputs(
        {
            "train_data_path": [args.train_data_path],
            "val_data_path": [args.val_data_path],
            "prompt_template": [args.prompt_template] if args.prompt_template else [],
        },
        {"model_name": args.model_name},
        args.trust_remote_code,
    )
    checkpoint = run_folder.checkpoint_to_resume(args, inputs)
    placement = choose_placement(args, args.model_name)
    accelerator = make_accelerator(args, placement)
    tokenizer = load_tokenizer(args.model_name, args.trust_remote_code)
    prompt_format = load_prompt_format(args.model_name, tokenizer, prompt_settings(args))
    options: dict[str, Any] = {"max_length": args.max_length, "prompt_format": prompt_format, "overflow": args.overflow}
    options["columns"] = column_names(args.columns, PHASE1_ROLES)
    train, val = (SFTDataset(path, tokenizer, **options) for path in (args.train_data_path, args.val_data_path))
    loop.warn_if_same_file(args.train_data_path, args.val_data_path)

    # Model
    variant = LoraVariant.from_arguments(args)
    adapters = planned_adapters.fresh_adapter(
        *(args.model_name, placement, args.lora_r, args.lora_dropout, args.lora_target_modules, variant),
        frozen_rank=args.lora_r if args.lora_init == "pissa" else 0,
    )
    plan = BatchPlan.from_arguments(args, len(train), accelerator)
    examples = [train.encoded(index) for index in range(len(train))]
    preflight.check_context(args, args.model_name, examples)
    needed = memory_estimate.fit_memory(args, args.model_name, placement, adapters, examples, plan)
    failures.ESTIMATE.set(needed)
    base = load_base_model(args.model_name, loading_placement(args, placement), tokenizer)
    torch.manual_seed(args.seed)  # the adapter's random start
    lora = (args.lora_r, args.lora_alpha, args.lora_dropout, args.lora_target_modules)
    policy = add_lora(base, *lora, variant)
    save: Callable[..., None] = save_adapter
    if args.lora_init == "pissa":
        pissa.start_from_singular_values(policy)
        save = pissa.save_as_plain_adapter
    if args.gradient_checkpointing:
        enable_gradient_checkpointing(policy)

    # Run
    check_disk_space(args, policy, tokenizer, plan, checkpoint)
    model_name = absolute_model_name(args.model_name)
    run = TrainingRun(
        args=args,
        folder=Path(args.output_dir),
        accelerator=accelerator,
        **loop.optimizer_parts(CompletionScorer(policy, train.pad_id), args, accelerator),
        plan=plan,
        save_model=partial(save, policy, tokenizer=tokenizer, prompt_format=prompt_format, base_model=model_name),
    )
    loop.describe_batches(run, "examples", len(val))
    run.scorer.choose([examples[index] for index in plan.step_indices(0)])
    if checkpoint:
        run_folder.lengthen_run(args, accelerator)
        checkpoints.resume_from(run, checkpoint)
    else:
        preflight.run_preflight(run, examples, compares_reference=False)
    add_embedding_noise(policy, args.neftune_noise_alpha, examples)
    if not checkpoint:  # the earlier run is deleted last, once nothing can refuse the new one
        run_folder.start_run_folder(args, accelerator, inputs)
    return run, train, val


def summed_loss(run: TrainingRun, dataset: SFTDataset, indices: list[int]) -> torch.Tensor:
    """Return the negative log-likelihood of the summaries of some examples, summed over tokens, in nats (a scalar)."""
    logps: torch.Tensor = run.model([dataset.encoded(index) for index in indices])[0]
    return -logps.sum()


def evaluate(run: TrainingRun, dataset: SFTDataset) -> dict[str, float]:
    """Return the mean loss per summary token over the whole dataset, in nats."""
    loss, tokens = 0.0, 0
    with run.evaluating():
        for row in run.evaluation_rows(dataset):
            loss += summed_loss(run, dataset, row).item()
            tokens += sum(map(dataset.supervised_tokens, row))
    total_loss, total_tokens = run.sum_over_processes([loss, tokens])
    return {"loss": total_loss / total_tokens}


def train_loop(run: TrainingRun, train: SFTDataset, val: SFTDataset, stop: StopRequest) -> None:
    """Train until the last step, until early stopping, or until a signal asks to stop."""
    args, plan, state = run.args, run.plan, run.state
    guard, timer, checked_epoch = NonFiniteGuard(), StepTimer(run, "Stage A"), -1
    while state.step < plan.total_steps and not stop and not loop.stops_early(run):
        timer.start_step()
        learning_rate = set_learning_rate(run.optimizer, args, state.step, plan.total_steps)
        indices = plan.step_indices(state.step)  # the examples of the step, on all processes
        supervised = sum(map(train.supervised_tokens, indices))
        run.seed_dropout()

        # Forward and backward
        loss = 0.0
        for row, gradient_exchange in run.rows(train):
            with gradient_exchange:
                row_loss = summed_loss(run, train, row) / supervised
                run.backward(row_loss)
            loss += row_loss.item()
        (loss,) = run.sum_over_processes([loss])

        # Clip and step
        grad_norm = run.clip_gradients()
        if guard.is_finite(loss, grad_norm, [train.ids[index] for index in indices], run.grad_scaler.get_scale()):
            if checked_epoch != state.step // plan.steps_per_epoch:  # once per epoch
                check_gradients(run.policy)
                checked_epoch = state.step // plan.steps_per_epoch
            run.grad_scaler.step(run.optimizer)
            state.add({"loss": loss}, supervised)
        run.grad_scaler.update()
        run.optimizer.zero_grad()
        state.step += 1

        # Log, evaluate, save
        speed = timer.end_step(sum(map(train.tokens, indices)))
        log_step(run, {"loss": loss, "grad_norm": grad_norm, "learning_rate": learning_rate, **speed})
        stop.settle(run)
        if loop.evaluation_is_due(run):
            loop.record_validation(run, evaluate(run, val))
        if loop.checkpoint_is_due(run, stop):
            checkpoints.save_checkpoint(run)
    timer.close()


def main(args: argparse.Namespace) -> int:
    check_arguments(args)
    with lock_folder(args.output_dir), failures.explained_failures(args):
        return train_in_folder(args)


def train_in_folder(args: argparse.Namespace) -> int:
    """Train, and write the final model and the statistics; return the exit code."""
    run, train, val = prepare(args)
    with stop_on_signals() as stop:
        train_loop(run, train, val, stop)
    if stop:
        print(f"Stopped at step {run.state.step}; continue with the same command and --resume")
        return stop.exit_code
    checkpoints.restore_best(run)
    lengths = {"train": train.report.as_dict(), "validation": val.report.as_dict()}
    settings = loop.save_final_model(run, "sft_config.json", lengths)
    loop.save_statistics(run, "training_stats.json", settings, lengths, PANELS)
    print("Training completed!")
    print_advice(run)
    print(f"Next: python generate_phase2_data.py, or try it: python sft_inference.py --model_path {run.final_model}")
    return 0


if __name__ == "__main__":
    raise SystemExit(end_process(run_script(main, parse_args())))
