"""Stage B: direct preference optimisation (DPO) of a model against a frozen copy of itself.

In:  the Stage A adapter, a LoRA adapter of another maker or a whole model, and DPO JSONL files of (prompt, chosen,
     rejected) triplets, one or several per split.
Out: `--output_dir` with `final_model/` (one adapter on the original base), `checkpoint_epoch_N/`,
     `dpo_training_stats.json`, `metrics.jsonl`, `training_curves.png` and `reference_logps/`.

    python stage_b_dpo_training.py                       # after Stage A and generate_phase2_data.py, on any CPU
    python stage_b_dpo_training.py --use_4bit --gradient_checkpointing --batch_size 1 \\
        --gradient_accumulation_steps 8 --nll_weight 1   # a 7B model on a 12 GB GPU

The loss is equation 7 of Rafailov et al. 2023 (arXiv:2305.18290), on log-probabilities summed over completion tokens;
docs/losses.md describes the others of `--loss_type`. It differs from the paper in four ways: only LoRA adapters are
trained, a negative log-likelihood (NLL) term on the chosen completion can be added (`--nll_weight`), tokens that both
completions share can be left out (`--loss_on`), and one base in memory serves policy and reference.
"""

from __future__ import annotations

import argparse
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpo_dataset import DPODataset, one_or_several
from judging.pair_makers import DPO_CONFIG, judges_behind
from language_model.adapters import count_parameters, enable_gradient_checkpointing
from language_model.loading import load_base_model, load_tokenizer_of
from language_model.lora_settings import add_variant_arguments, check_start
from language_model.placement import add_base_model_argument, add_model_arguments, choose_placement
from language_model.prompt_flags import prompt_settings
from language_model.prompt_format import load_prompt_format
from script_io.columns_flag import PREFERENCE_ROLES, column_names
from script_io.errors import ArgumentParser, at_least, run_script
from script_io.folder_lock import lock_folder
from training import checkpoints, data_mix, failures, loop, run_folder
from training.advice import print_advice
from training.batch_plan import BatchPlan
from training.disk_space import check_disk_space
from training.input_identity import identities_of_inputs
from training.loss_settings import add_loss_arguments, check_loss_arguments, reference_kind
from training.metrics_log import first_validation, log_metrics, log_step
from training.processes import end_process, make_accelerator
from training.run import TrainingRun
from training.settings import add_training_arguments, check_training_arguments, set_learning_rate
from training.watching import (
    NonFiniteGuard,
    StepTimer,
    StopRequest,
    check_gradients,
    stop_on_signals,
    warn_of_displacement,
    warn_of_endings,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from training.pair_scores import PairData, PairScores
    from training.policy_adapters import AdapterPair

SFT_REMEDY = "run python stage_a_sft_training.py, or name its final_model with --sft_model_path"
METRICS = (
    "loss", "chosen_preference", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies",
    "logps/chosen", "logps/rejected",
)  # fmt: skip
PANELS = {
    "Loss": [("train", "loss"), ("val", "loss")],
    "Chosen preference": [("train", "chosen_preference"), ("val", "chosen_preference")],
    "Reward margin (β × nats)": [("train", "rewards/margins"), ("val", "rewards/margins")],
    "Reward accuracy": [("train", "rewards/accuracies"), ("val", "rewards/accuracies")],
    "Log-probability (nats)": [("val", "logps/chosen"), ("val", "logps/rejected")],
}
CHOSEN_END = "logps/chosen_end"  # of the end of the sequence after chosen; in evaluations


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    data_mix.add_data_arguments(parser)
    model = parser.add_argument_group("Model")
    model.add_argument(
        "--sft_model_path",
        default="./models/sft_specialist/final_model",
        metavar="MODEL",
        help="what to train: the Stage A adapter, a LoRA adapter of another maker, or a whole model such as an "
        "instruct model, a folder or a hub id (default: %(default)s)",
    )
    add_base_model_argument(model)
    model.add_argument(
        "--reference",
        choices=("cached", "live"),
        default="cached",
        help="cached: score the reference once before training; live: keep a frozen copy of the adapter in memory "
        "(default: cached)",
    )
    lora = parser.add_argument_group("LoRA")
    lora.add_argument(
        "--lora_r",
        type=at_least(1),
        metavar="N",
        help="train a fresh adapter of rank N on top of the frozen SFT adapter (default: continue to train the SFT "
        "adapter; 16 on a whole model)",
    )
    lora.add_argument(
        "--lora_alpha",
        type=at_least(1),
        metavar="ALPHA",
        help="the adapter's output is scaled by alpha / rank; this flag and those below are for a whole model, since "
        "an SFT adapter brings its own settings (default: twice the rank)",
    )
    lora.add_argument(
        "--lora_target_modules",
        nargs="+",
        metavar="NAME",
        help="layers to adapt in a whole model, as in Stage A (default: q_proj v_proj)",
    )
    add_variant_arguments(lora)
    add_loss_arguments(parser)
    add_training_arguments(
        parser,
        output_dir="./models/dpo_hallucination_resistant",
        learning_rate=5e-6,
        batch_size=4,
        batch_unit="triplets",
    )
    add_model_arguments(parser)
    return parser.parse_args(argv)


def check_arguments(args: argparse.Namespace) -> None:
    check_training_arguments(args)
    check_loss_arguments(args)
    check_start(args)
    data_mix.check_data_files(args)


def prepare(args: argparse.Namespace) -> tuple[TrainingRun, AdapterPair, PairData, PairData]:
    """Load adapter, base and data, open the run folder, score the reference, and restore a checkpoint if resumed."""
    import torch

    from scoring.completion_scorer import CompletionScorer
    from training import memory_estimate, policy_adapters, preflight
    from training.reference_cache import with_reference
    from training.sharding import loading_placement
    from training.start_model import find_start_model

    # Data
    start = find_start_model(args, SFT_REMEDY)
    data = {name: one_or_several(getattr(args, name)) for name in ("train_data_path", "val_data_path")}
    data["prompt_template"] = [args.prompt_template] if args.prompt_template else []
    models = {"sft_model_path": start.path, "base_model": start.base_name}
    inputs = identities_of_inputs(data, models, args.trust_remote_code)
    checkpoint = run_folder.checkpoint_to_resume(args, inputs)
    placement = choose_placement(args, start.base_name)
    start.check_reference(args, placement)
    accelerator = make_accelerator(args, placement)
    tokenizer = load_tokenizer_of(start.path, start.base_name, args.trust_remote_code)
    prompt_format = load_prompt_format(start.path, tokenizer, prompt_settings(args))
    train, val = load_pairs(args, tokenizer, prompt_format)
    plan = BatchPlan.from_arguments(args, len(train), accelerator, data_mix.data_sources(args, train))

    # Model: one base with the adapters of policy and reference
    examples = [train.encoded(index) for index in range(len(train))]
    preflight.check_context(args, start.base_name, examples)
    needed = memory_estimate.fit_memory(
        args, start.base_name, placement, start.adapters(args, placement), examples, plan
    )
    failures.ESTIMATE.set(needed)
    base = load_base_model(start.base_name, loading_placement(args, placement), tokenizer)
    torch.manual_seed(args.seed)  # the random start of a fresh adapter
    pair = start.add_policy(base, args)
    if args.gradient_checkpointing:
        enable_gradient_checkpointing(pair.model)
    print_sizes(pair, reference_kind(args))

    # Run
    check_disk_space(args, pair.model, tokenizer, plan, checkpoint)
    saved = {"tokenizer": tokenizer, "prompt_format": prompt_format, "base_model": start.base_name}
    run = TrainingRun(
        args=args,
        folder=Path(args.output_dir),
        accelerator=accelerator,
        **loop.optimizer_parts(CompletionScorer(pair.model, train.pad_id), args, accelerator),
        plan=plan,
        save_model=partial(policy_adapters.save_policy, pair, **saved),
    )
    loop.describe_batches(run, "triplets", len(val))
    run.scorer.choose([examples[index] for index in plan.step_indices(0)])
    if not checkpoint:
        preflight.run_preflight(run, examples, compares_reference=True)
        run_folder.start_run_folder(args, accelerator, inputs)

    # Reference: the untrained policy, scored before a checkpoint is loaded
    train_pairs = with_reference(run, train, "train", start.base_name, placement)
    val_pairs = with_reference(run, val, "val", start.base_name, placement)
    if checkpoint:
        run_folder.lengthen_run(args, accelerator)
        checkpoints.resume_from(run, checkpoint)
    return run, pair, train_pairs, val_pairs


def load_pairs(
    args: argparse.Namespace, tokenizer: PreTrainedTokenizerBase, prompt_format: str
) -> tuple[DPODataset, DPODataset]:
    """Return the training and the validation triplets."""
    options: dict[str, Any] = {
        "max_length": args.max_length,
        "prompt_format": prompt_format,
        "overflow": args.overflow,
        "loss_on": args.loss_on,
        "columns": column_names(args.columns, PREFERENCE_ROLES),
    }
    train, val = (DPODataset(path, tokenizer, **options) for path in (args.train_data_path, args.val_data_path))
    for train_path, val_path in product(train.paths, val.paths):
        loop.warn_if_same_file(train_path, val_path)
    return train, val


def print_sizes(pair: AdapterPair, reference: str) -> None:
    trainable = count_parameters(pair.model, trainable=True)
    frozen = count_parameters(pair.model) - trainable * pair.has_reference
    print("Reference model: none" if reference == "none" else f"Reference model: {frozen:,} params (frozen)")
    print(f"Active model: {trainable:,} params with LoRA (trainable)")


def losses(args: argparse.Namespace, scores: PairScores) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the preference term (0 if its weight is 0) and the whole loss of each pair, both (B,)."""
    import torch

    from dpo_loss import nll_losses, preference_losses

    nll = nll_losses(scores.whole_chosen, scores.whole_chosen_tokens)
    if not args.preference_weight:
        return torch.zeros_like(nll), args.nll_weight * nll
    preference = preference_losses(
        *scores[:4],
        beta=args.beta,
        loss_type=args.loss_type,
        label_smoothing=args.label_smoothing,
        factuality_margin=args.factuality_margin,
        dpop_penalty=args.dpop_penalty,
        chosen_tokens=scores.chosen_tokens,
        rejected_tokens=scores.rejected_tokens,
    )
    return preference, args.preference_weight * preference + args.nll_weight * nll


def metric_names(args: argparse.Namespace) -> list[str]:
    """Return METRICS; without a preference term there are no rewards."""
    return [name for name in METRICS if args.preference_weight or not name.startswith("rewards/")]


def pair_metrics(args: argparse.Namespace, scores: PairScores, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return METRICS of B pairs, each (B,)."""
    from dpo_loss import completion_metrics
    from training.pair_scores import rewards

    return rewards(args, scores) | completion_metrics(scores.whole_chosen, scores.whole_rejected) | {"loss": loss}


def evaluate(run: TrainingRun, pair: AdapterPair, data: PairData) -> dict[str, float]:
    """Return the means of METRICS and CHOSEN_END over all validation pairs; warn if they show damage.

    With several files, `chosen_preference/1` is the chosen preference of the first file, and so on.
    """
    from training.metric_totals import MetricTotals
    from training.pair_scores import score_pairs

    totals = MetricTotals(run, [*metric_names(run.args), CHOSEN_END])
    preferred = [0.0] * len(data.dataset.sizes)  # pairs per file
    with run.evaluating():
        for row in run.evaluation_rows(data.dataset):
            scores = score_pairs(run, pair, data, row, with_end=True)
            assert scores.chosen_end is not None
            metrics = pair_metrics(run.args, scores, losses(run.args, scores)[1])
            totals.add(metrics | {CHOSEN_END: scores.chosen_end})
            for index, prefers in zip(row, (scores.whole_chosen > scores.whole_rejected).tolist(), strict=True):
                preferred[data.dataset.file_of(index)] += prefers
    preferred = run.sum_over_processes(preferred)
    means, sizes = totals.means(), data.dataset.sizes
    first = first_validation(run)
    warn_of_displacement(first.get("logps/chosen"), means["logps/chosen"])
    warn_of_endings(first.get(CHOSEN_END), means[CHOSEN_END])
    by_file = {f"chosen_preference/{n}": preferred[n - 1] / sizes[n - 1] for n in range(1, len(sizes) + 1)}
    return means | (by_file if len(by_file) > 1 else {})


def train_loop(run: TrainingRun, pair: AdapterPair, train: PairData, val: PairData, stop: StopRequest) -> None:
    """Train until the last step, until early stopping, or until a signal asks to stop."""
    from training.metric_totals import MetricTotals
    from training.pair_scores import check_zero_margin, score_pairs

    args, plan, state = run.args, run.plan, run.state
    guard, timer, checked_epoch = NonFiniteGuard(), StepTimer(run, "Stage B"), -1
    while state.step < plan.total_steps and not stop and not loop.stops_early(run):
        timer.start_step()
        learning_rate = set_learning_rate(run.optimizer, args, state.step, plan.total_steps)
        indices = plan.step_indices(state.step)  # the pairs of the step, on all processes
        ids = [train.dataset.triplets[index].id for index in indices]

        # Forward and backward
        totals, is_first_row = MetricTotals(run, metric_names(args)), state.step == 0
        for row, gradient_exchange in run.rows(train.dataset):
            with gradient_exchange:
                scores = score_pairs(run, pair, train, row)
                preference, loss = losses(args, scores)
                if is_first_row:
                    check_zero_margin(args, scores, preference, pair.model.dtype)
                    is_first_row = False
                run.backward(loss.sum() / len(indices))
            totals.add(pair_metrics(args, scores, loss))
        values = totals.means()

        # Clip and step
        grad_norm = run.clip_gradients()
        if guard.is_finite(values["loss"], grad_norm, ids, run.grad_scaler.get_scale()):
            if checked_epoch != state.step // plan.steps_per_epoch:  # once per epoch
                # a loss may have no gradient once every margin is met, as the hinge loss does
                check_gradients(run.policy, may_be_zero=state.step > 0 and not args.nll_weight)
                checked_epoch = state.step // plan.steps_per_epoch
            run.grad_scaler.step(run.optimizer)
            state.add(values, len(indices))
        run.grad_scaler.update()
        run.optimizer.zero_grad()
        state.step += 1

        # Log, evaluate, save
        speed = timer.end_step(sum(map(train.dataset.tokens, indices)))
        log_step(run, {**values, "grad_norm": grad_norm, "learning_rate": learning_rate, **speed})
        stop.settle(run)
        if loop.evaluation_is_due(run):
            loop.record_validation(run, evaluate(run, pair, val))
        if loop.checkpoint_is_due(run, stop):
            checkpoints.save_checkpoint(run)
    timer.close()


def main(args: argparse.Namespace) -> int:
    check_arguments(args)
    with lock_folder(args.output_dir), failures.explained_failures(args):
        return train_in_folder(args)


def train_in_folder(args: argparse.Namespace) -> int:
    """Train, and write the final model and the statistics; return the exit code."""
    run, pair, train, val = prepare(args)
    if run.state.step == 0:
        first = evaluate(run, pair, val)
        log_metrics(run, "val", first)
        print(
            f"Before training: Val Loss: {first['loss']:.4f}, Chosen Preference: {first['chosen_preference']:.0%}, "
            f"End of Chosen: {first[CHOSEN_END]:.2f} nats"
        )
    with stop_on_signals() as stop:
        train_loop(run, pair, train, val, stop)
    if stop:
        print(f"Stopped at step {run.state.step}; continue with the same command and --resume")
        return stop.exit_code
    checkpoints.restore_best(run)
    judges = judges_behind(train.dataset.paths, args.sft_model_path)
    files = data_mix.training_files(args, train.dataset, run.plan.sources)
    lengths = {"train": train.dataset.report.as_dict(), "validation": val.dataset.report.as_dict()}
    settings = loop.save_final_model(run, DPO_CONFIG, lengths, pair_judges=judges, training_files=files)
    loop.save_statistics(run, "dpo_training_stats.json", settings, lengths, PANELS)
    print("DPO Training completed!")
    print_advice(run)
    print(f"Next: python evaluation/evaluate_model.py --model_path {run.final_model}")
    return 0


if __name__ == "__main__":
    raise SystemExit(end_process(run_script(main, parse_args())))
