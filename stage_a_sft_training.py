"""Stage A: LoRA supervised fine-tuning on factual (note, summary) pairs.

In:  a causal language model, and Phase 1 CSVs; rows labelled factual or factual_with_evidence are trained on.
Out: `--output_dir` with `final_model/` (the adapter), `checkpoint_epoch_N/`, `training_stats.json`, `metrics.jsonl`
     and `training_curves.png`.

    python stage_a_sft_training.py                       # the demo's tiny model and data, on any CPU
    python stage_a_sft_training.py --model_name mistralai/Mistral-7B-v0.3 --use_4bit --gradient_checkpointing \\
        --batch_size 2 --gradient_accumulation_steps 4   # a 7B model on a 12 GB GPU

The loss is the cross-entropy of the summary's tokens, the end of sequence among them, and of nothing else; it is
averaged over the tokens of a whole optimiser step, so accumulation changes memory and not the gradient. LoRA: Hu et
al. 2021, arXiv:2106.09685.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from language_model.adapters import add_lora, enable_gradient_checkpointing, save_adapter
from language_model.loading import load_base_model, load_tokenizer
from language_model.model_files import DEMO_BASE, absolute_model_name
from language_model.placement import add_model_arguments, choose_placement
from language_model.prompt_format import load_prompt_format
from script_io.errors import ArgumentParser, run_script
from training.batch_plan import BatchPlan, row_tokens_on
from training.checkpoints import resume_from
from training.loop import (
    after_step,
    backward,
    clip_gradients,
    finish,
    make_accelerator,
    make_optimizer,
    row_of_step,
    warn_if_same_file,
)
from training.metrics_log import log_step
from training.run import TrainingRun
from training.run_folder import look_into_run_folder, start_run_folder
from training.settings import add_training_arguments, check_training_arguments, set_learning_rate
from training.watching import NonFiniteGuard, StepTimer, StopRequest, check_gradients, stop_on_signals

if TYPE_CHECKING:
    import torch

    from sft_dataset import SFTDataset


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("Data")
    folder = "phase1_data/sft"
    data.add_argument("--train_data_path", default=f"{folder}/train_set_processed.csv", help="CSV (%(default)s)")
    data.add_argument("--val_data_path", default=f"{folder}/validation_set_processed.csv", help="CSV (%(default)s)")
    model = parser.add_argument_group("Model")
    model.add_argument("--model_name", default=str(DEMO_BASE), help="folder or hub id (default: the demo's tiny base)")
    lora = parser.add_argument_group("LoRA")
    lora.add_argument("--lora_r", type=int, default=16, help="rank (default: %(default)s)")
    lora.add_argument("--lora_alpha", type=int, default=32, help="scale is alpha / r (default: %(default)s)")
    lora.add_argument("--lora_dropout", type=float, default=0.05, help="on the adapter's input (default: %(default)s)")
    lora.add_argument(
        "--lora_target_modules", nargs="+", default=["q_proj", "v_proj"], help="layers to adapt (q_proj v_proj)"
    )
    add_training_arguments(
        parser, output_dir="./models/sft_specialist", learning_rate=2e-4, batch_size=8, batch_unit="examples"
    )
    add_model_arguments(parser)
    return parser.parse_args(argv)


def prepare(args: argparse.Namespace) -> tuple[TrainingRun, SFTDataset, SFTDataset]:
    """Loads the data and the model, opens the run's folder, and restores the last checkpoint where asked to."""
    import torch

    from scoring.completion_scorer import CompletionScorer
    from sft_dataset import SFTDataset
    from training.memory_estimate import Adapters, fit_memory

    checkpoint = look_into_run_folder(args)
    placement = choose_placement(args, args.model_name)
    accelerator = make_accelerator(args, placement)
    tokenizer = load_tokenizer(args.model_name, args.trust_remote_code)
    prompt_format = load_prompt_format(args.model_name, tokenizer, args.prompt_format)
    options: dict[str, Any] = {"max_length": args.max_length, "prompt_format": prompt_format, "overflow": args.overflow}
    train, val = (SFTDataset(path, tokenizer, **options) for path in (args.train_data_path, args.val_data_path))
    warn_if_same_file(args.train_data_path, args.val_data_path)

    adapters = Adapters(args.lora_r, tuple(args.lora_target_modules))
    samples = [train.sample(index) for index in range(len(train))]
    fit_memory(args, args.model_name, placement, adapters, samples, row_tokens_on(placement.device))
    base = load_base_model(args.model_name, placement, tokenizer)
    torch.manual_seed(args.seed)  # of the adapter's start
    policy = add_lora(base, args.lora_r, args.lora_alpha, args.lora_dropout, args.lora_target_modules)
    if args.gradient_checkpointing:
        enable_gradient_checkpointing(policy)
    if not checkpoint:
        start_run_folder(args, accelerator)
    run = TrainingRun(
        args,
        Path(args.output_dir),
        accelerator,
        *make_optimizer(CompletionScorer(policy, train.pad_id), args, accelerator),
        BatchPlan.from_arguments(args, len(train), accelerator),
        partial(
            save_adapter,
            policy,
            tokenizer=tokenizer,
            prompt_format=prompt_format,
            base_model=absolute_model_name(args.model_name),
        ),
    )
    print(f"Batches: {run.plan.describe('examples')}")
    print(f"Train batches: {run.plan.batches_per_epoch}")
    print(f"Val batches: {-(-len(val) // run.eval_batch_size)}")
    run.scorer.choose([train.sample(index) for index in run.plan.step_indices(0)])
    if checkpoint:
        resume_from(run, checkpoint)
    return run, train, val


def summed_loss(run: TrainingRun, dataset: SFTDataset, indices: list[int]) -> torch.Tensor:
    """Negative log-likelihood of the supervised tokens of some examples, summed, in nats (a scalar)."""
    logps: torch.Tensor = run.model([dataset.sample(index) for index in indices])[0]
    return -logps.sum()


def evaluate(run: TrainingRun, dataset: SFTDataset) -> dict[str, float]:
    """Mean loss a supervised token over the whole dataset, in nats."""
    import torch

    run.model.eval()
    totals = torch.zeros(2, device=run.device)
    with torch.no_grad():
        for indices in run.plan.evaluation_rows(len(dataset), run.eval_batch_size, dataset.tokens):
            totals[0] += summed_loss(run, dataset, indices)
            totals[1] += sum(map(dataset.supervised_tokens, indices))
    run.model.train()
    loss, tokens = run.accelerator.reduce(totals, "sum").tolist()
    return {"loss": loss / tokens}


def train_loop(run: TrainingRun, train: SFTDataset, val: SFTDataset, stop: StopRequest) -> None:
    """Optimises until the plan is done, early stopping says so, or a signal asks to stop."""
    args, plan, state = run.args, run.plan, run.state
    guard, timer = NonFiniteGuard(), StepTimer(run, "Stage A")
    while state.step < plan.total_steps and not stop:
        learning_rate = set_learning_rate(run.optimizer, args, state.step, plan.total_steps)
        indices, rows = plan.step_indices(state.step), plan.rows(state.step, train.tokens)
        supervised = sum(map(train.supervised_tokens, indices))  # of the whole step, on all processes
        run.seed_dropout()
        loss = 0.0
        for number, row in enumerate(rows, start=1):
            with row_of_step(run, is_last=number == len(rows)):
                row_loss = summed_loss(run, train, row) / supervised
                backward(run, row_loss)
            loss += row_loss.item()
        loss = run.sum_over_processes(loss)
        grad_norm = clip_gradients(run)
        if guard.is_finite(loss, grad_norm, [train.ids[index] for index in indices]):
            if timer.is_first_of_epoch(state.step):
                check_gradients(run.policy)
            run.optimizer.step()
            state.add({"loss": loss * supervised}, supervised)
        run.optimizer.zero_grad()
        state.step += 1
        speed = timer.after_step(sum(map(train.tokens, indices)))
        log_step(run, {"loss": loss, "grad_norm": grad_norm, "learning_rate": learning_rate, **speed})
        if after_step(run, lambda: evaluate(run, val), stop):
            break
    timer.close()


def main(args: argparse.Namespace) -> int:
    check_training_arguments(args)
    run, train, val = prepare(args)
    with stop_on_signals() as stop:
        train_loop(run, train, val, stop)
    if stop:
        print(f"Stopped at step {run.state.step}; go on with the same command and --resume")
        return stop.exit_code
    data = {"train": train.report.as_dict(), "validation": val.report.as_dict()}
    panels = {"Loss a summary token (nats)": [("train", "loss"), ("val", "loss")]}
    finish(run, data, "training_stats.json", "sft_config.json", panels)
    print("Training completed!")
    print(
        f"Next: python generate_phase2_data.py, or look at it: python sft_inference.py --model_path {run.final_model}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
