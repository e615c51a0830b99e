"""Stage B: direct preference optimisation of the Stage A adapter against itself, frozen.

In:  the Stage A adapter, and DPO JSONL files of (prompt, chosen, rejected) triplets, one or several a split.
Out: `--output_dir` with `final_model/` (one adapter on the original base), `checkpoint_epoch_N/`,
     `dpo_training_stats.json`, `metrics.jsonl`, `training_curves.png` and `reference_logps/`.

    python stage_b_dpo_training.py                       # after Stage A and generate_phase2_data.py, on any CPU
    python stage_b_dpo_training.py --use_4bit --gradient_checkpointing --batch_size 1 \\
        --gradient_accumulation_steps 8 --nll_weight 1   # a 7B model on a 12 GB GPU

The loss is equation 7 of Rafailov et al. 2023 (arXiv:2305.18290) on log-probabilities summed over completion tokens.
It differs from the paper in this: only LoRA adapters are trained, an NLL term on the chosen completion can be added
(`--nll_weight`), and one base in memory serves policy and reference.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dpo_dataset import DPODataset, one_or_several
from judging.pair_makers import DPO_CONFIG, judges_behind
from language_model.adapters import count_parameters, enable_gradient_checkpointing, save_adapter, write_adapter
from language_model.loading import load_base_model, load_tokenizer
from language_model.model_files import absolute_model_name, require_adapter
from language_model.placement import add_model_arguments, choose_placement
from language_model.prompt_format import load_prompt_format
from script_io.errors import ArgumentParser, InputError, RunError, run_script
from training.batch_plan import BatchPlan, Source, row_tokens_on, weighted_sources
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
from training.metrics_log import log_metrics, log_step
from training.run import TrainingRun
from training.run_folder import look_into_run_folder, start_run_folder
from training.settings import add_training_arguments, check_training_arguments, set_learning_rate
from training.watching import NonFiniteGuard, StepTimer, StopRequest, check_gradients, stop_on_signals

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from training.memory_estimate import Adapters
    from training.policy_adapters import AdapterPair
    from training.reference_cache import Logps

SFT_REMEDY = "run python stage_a_sft_training.py, or name its final_model with --sft_model_path"
LOSS_TYPES = ("sigmoid", "ipo", "hinge", "robust")
METRICS = (
    "loss", "chosen_preference", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies",
    "logps/chosen", "logps/rejected",
)  # fmt: skip
PANELS = {
    "Loss": [("train", "loss"), ("val", "loss")],
    "Chosen preference": [("train", "chosen_preference"), ("val", "chosen_preference")],
    "Log-probability (nats)": [("val", "logps/chosen"), ("val", "logps/rejected")],
}
# Of the rewards and the loss at step 0: in half precision two batch shapes differ by tenths of a nat in a summed
# log-probability, which beta makes hundredths of a reward.
ZERO_TOLERANCE = {"float32": 1e-5, "bfloat16": 0.1, "float16": 0.02}
DISPLACEMENT_LIMIT = 5.0  # nats that the mean chosen log-probability may fall before a warning


class OneOrSeveral(argparse.Action):
    """Keeps a single path as text, which is how a run's settings have it, and several as a list."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        setattr(namespace, self.dest, values[0] if len(values) == 1 else values)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("Data")
    for flag, default in (("train", "phase2_data/dpo/train_dpo.jsonl"), ("val", "phase2_data/dpo/val_dpo.jsonl")):
        data.add_argument(
            f"--{flag}_data_path",
            nargs="+",
            metavar="FILE",
            default=default,
            action=OneOrSeveral,
            help="JSONL; several are joined (%(default)s)",
        )
    data.add_argument(
        "--data_weights",
        nargs="+",
        type=float,
        metavar="W",
        help="of each training file in an epoch, which has as many triplets as all files together: of one with more "
        "than its share it takes others each time, one with fewer it repeats (default: every triplet once)",
    )
    model = parser.add_argument_group("Model")
    model.add_argument(
        "--sft_model_path", default="./models/sft_specialist/final_model", help="Stage A adapter (default: %(default)s)"
    )
    model.add_argument(
        "--reference",
        choices=("cached", "live"),
        default="cached",
        help="cached: scored once before training, no memory; live: a frozen copy of the adapter (default: cached)",
    )
    lora = parser.add_argument_group("LoRA")
    lora.add_argument("--lora_r", type=int, help="rank of a fresh adapter; unset: the SFT adapter goes on training")
    loss = parser.add_argument_group("Loss")
    loss.add_argument("--beta", type=float, default=0.1, help="tie to the reference (default: %(default)s)")
    loss.add_argument("--loss_type", choices=LOSS_TYPES, default="sigmoid", help="preference term (default: sigmoid)")
    loss.add_argument("--label_smoothing", type=float, default=0.0, help="assumed share of flipped pairs (default: 0)")
    loss.add_argument("--nll_weight", type=float, default=0.0, help="of the chosen text's NLL a token (default: 0)")
    loss.add_argument(
        "--preference_weight", type=float, default=1.0, help="of the preference term; 0: the control (default: 1)"
    )
    add_training_arguments(
        parser,
        output_dir="./models/dpo_hallucination_resistant",
        learning_rate=5e-6,
        batch_size=4,
        batch_unit="triplets",
    )
    add_model_arguments(parser)
    return parser.parse_args(argv)


def adapters_of(args: argparse.Namespace, sft: dict[str, Any]) -> Adapters:
    """The adapters that the run will hold in memory; `sft` is the configuration of the SFT adapter."""
    from training.memory_estimate import Adapters

    modules = sft.get("target_modules") or ()
    frozen = sft["r"] if args.lora_r or args.reference == "live" else 0
    return Adapters(args.lora_r or sft["r"], tuple(modules), frozen)


def check_arguments(args: argparse.Namespace) -> None:
    check_training_arguments(args)
    if not args.beta > 0:
        raise InputError(f"--beta {args.beta}: must be above 0")
    if not 0 <= args.label_smoothing < 0.5:
        raise InputError(f"--label_smoothing {args.label_smoothing}: must be at least 0 and below 0.5")
    if args.label_smoothing and args.loss_type not in ("sigmoid", "robust"):
        raise InputError(f"--label_smoothing has no meaning for --loss_type {args.loss_type}; leave it at 0")
    if args.preference_weight < 0 or args.nll_weight < 0 or args.preference_weight + args.nll_weight == 0:
        raise InputError("--preference_weight and --nll_weight must not be negative, nor both 0")
    for flag in ("train_data_path", "val_data_path"):
        paths = one_or_several(getattr(args, flag))
        places = [Path(path).resolve() for path in paths]
        if twice := [path for path, place in zip(paths, places, strict=True) if places.count(place) > 1]:
            raise InputError(f"--{flag} names {twice[0]} twice; name it once, --data_weights sets how often it is seen")
    if args.data_weights:
        weights, files = args.data_weights, len(one_or_several(args.train_data_path))
        given = " ".join(f"{weight:g}" for weight in weights)
        if len(weights) != files:
            raise InputError(f"--data_weights {given}: {len(weights)} for {files} training files; give one a file")
        if not all(0 < weight < math.inf for weight in weights):
            raise InputError(f"--data_weights {given}: must be numbers above 0; leave out a file that is not wanted")


def sources_of(args: argparse.Namespace, train: DPODataset) -> tuple[Source, ...]:
    """The share of each training file in an epoch, said aloud; none where every triplet is seen once."""
    if not args.data_weights or len(train.paths) == 1:
        return ()
    sources = weighted_sources(train.sizes, args.data_weights)
    for path, source, weight in zip(train.paths, sources, args.data_weights, strict=True):
        share = f"{source.drawn} of {len(train)} triplets an epoch"
        if not source.drawn:
            raise InputError(f"--data_weights {weight:g} of {path}: {share}; raise it or leave the file out")
        print(f"{path}: {share}, from {source.size} ({source.drawn / source.size:.2f} times each)")
    return sources


def training_files(args: argparse.Namespace, train: DPODataset, plan: BatchPlan) -> list[dict[str, Any]]:
    """What is recorded of each training file; the weights add up to 1."""
    weights = args.data_weights or train.sizes
    drawn = [source.drawn for source in plan.sources] or train.sizes
    return [
        {"path": path, "weight": weight / math.fsum(weights), "triplets": size, "triplets_an_epoch": count}
        for path, weight, size, count in zip(train.paths, weights, train.sizes, drawn, strict=True)
    ]


def prepare(args: argparse.Namespace) -> tuple[TrainingRun, AdapterPair, PairData, PairData]:
    """Loads adapter, base and data, scores the reference, opens the run's folder, restores where asked to."""
    import torch

    from scoring.completion_scorer import CompletionScorer
    from training.memory_estimate import fit_memory
    from training.policy_adapters import load_adapter_pair
    from training.reference_cache import cache_key

    sft_adapter = require_adapter(args.sft_model_path, SFT_REMEDY)
    base_name = sft_adapter["base_model_name_or_path"]
    checkpoint = look_into_run_folder(args)
    placement = choose_placement(args, base_name)
    accelerator = make_accelerator(args, placement)
    tokenizer = load_tokenizer(args.sft_model_path, args.trust_remote_code)
    prompt_format = load_prompt_format(args.sft_model_path, tokenizer, args.prompt_format)
    print(f"Prompt format: {prompt_format} (of the SFT adapter)")
    options: dict[str, Any] = {"max_length": args.max_length, "prompt_format": prompt_format, "overflow": args.overflow}
    train, val = (DPODataset(path, tokenizer, **options) for path in (args.train_data_path, args.val_data_path))
    for train_path, val_path in product(train.paths, val.paths):
        warn_if_same_file(train_path, val_path)
    sources = sources_of(args, train)

    row_tokens = row_tokens_on(placement.device)
    samples = [train.sample(index) for index in range(len(train))]
    fit_memory(args, base_name, placement, adapters_of(args, sft_adapter), samples, row_tokens)
    base = load_base_model(base_name, placement, tokenizer)
    torch.manual_seed(args.seed)  # of a fresh adapter's start
    pair = load_adapter_pair(base, args.sft_model_path, fresh_rank=args.lora_r, live=args.reference == "live")
    if not checkpoint:
        start_run_folder(args, accelerator)
    if args.gradient_checkpointing:
        enable_gradient_checkpointing(pair.model)
    trainable = count_parameters(pair.model, trainable=True)
    print(f"Reference model: {count_parameters(pair.model) - trainable * bool(pair.reference_names):,} params (frozen)")
    print(f"Active model: {trainable:,} params with LoRA (trainable)")
    run = TrainingRun(
        args,
        Path(args.output_dir),
        accelerator,
        *make_optimizer(CompletionScorer(pair.model, train.pad_id), args, accelerator),
        BatchPlan.from_arguments(args, len(train), accelerator, sources),
        partial(save_policy, pair, tokenizer, prompt_format, absolute_model_name(base_name)),
    )
    print(f"Batches: {run.plan.describe('triplets')}")
    print(f"Train batches: {run.plan.batches_per_epoch}")
    print(f"Val batches: {-(-len(val) // run.eval_batch_size)}")
    run.scorer.choose([train.sample(index) for index in run.plan.step_indices(0)])
    data = []
    for name, dataset in (("train", train), ("val", val)):
        reference = None
        if args.reference == "cached":
            packed = run.scorer.is_fast
            key = cache_key(dataset.triplets, args.sft_model_path, base_name, base, placement, packed=packed)
            reference = reference_logps(run, pair, dataset, name, key)
        data.append(PairData(dataset, reference))
    if checkpoint:
        resume_from(run, checkpoint)
    return run, pair, data[0], data[1]


@dataclass(frozen=True)
class PairData:
    """Triplets with the reference's log-probabilities; `reference` is None where it is scored live."""

    dataset: DPODataset
    reference: Logps | None


class Scores(NamedTuple):
    """Summed log-probabilities in nats and completion tokens of B pairs, every field (B,)."""

    policy_chosen: torch.Tensor
    policy_rejected: torch.Tensor
    reference_chosen: torch.Tensor
    reference_rejected: torch.Tensor
    chosen_tokens: torch.Tensor
    rejected_tokens: torch.Tensor


def reference_logps(run: TrainingRun, pair: AdapterPair, dataset: DPODataset, name: str, key: str) -> Logps:
    """Scores every pair under the untrained policy, which is the reference; read from the cache where it is there."""
    from training.reference_cache import read_or_score

    def score() -> Logps:
        import torch
        from tqdm import tqdm

        chosen = torch.zeros(len(dataset), dtype=torch.float64)
        rejected = torch.zeros(len(dataset), dtype=torch.float64)
        rows = run.plan.rows_of(range(len(dataset)), run.eval_batch_size, dataset.tokens)
        with torch.no_grad():
            for row in tqdm(rows, desc=f"Reference, {name}", unit="row", disable=None):
                logps, _ = pair_logps(run.scorer, dataset, row)
                chosen[row], rejected[row] = logps.cpu().double().T
        return chosen, rejected

    return read_or_score(run.folder / "reference_logps" / f"{name}-{key[:16]}.safetensors", key, len(dataset), score)


def pair_logps(
    scorer: torch.nn.Module, dataset: DPODataset, indices: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and token counts of B pairs computed at once, both (B, 2): chosen, rejected."""
    logps, tokens = scorer([dataset.sample(index) for index in indices])
    return logps.view(-1, 2), tokens.view(-1, 2)


def score_pairs(run: TrainingRun, pair: AdapterPair, data: PairData, indices: Sequence[int]) -> Scores:
    """Policy and reference on the same pairs; the live reference sees the very same row."""
    if data.reference is None:
        with pair.as_reference():
            reference = pair_logps(run.scorer, data.dataset, indices)[0].unbind(1)
    else:
        reference = tuple(logps[list(indices)] for logps in data.reference)
    logps, tokens = pair_logps(run.model, data.dataset, indices)
    on_device = (part.to(logps.device, logps.dtype) for part in reference)
    return Scores(*logps.unbind(1), *on_device, *tokens.unbind(1))


def losses(args: argparse.Namespace, scores: Scores) -> tuple[torch.Tensor, torch.Tensor]:
    """The preference term of each pair, and the whole loss of each pair, both (B,)."""
    from dpo_loss import nll_losses, preference_losses

    preference = preference_losses(
        *scores[:4],
        beta=args.beta,
        loss_type=args.loss_type,
        label_smoothing=args.label_smoothing,
        chosen_tokens=scores.chosen_tokens,
        rejected_tokens=scores.rejected_tokens,
    )
    nll = nll_losses(scores.policy_chosen, scores.chosen_tokens)
    return preference, args.preference_weight * preference + args.nll_weight * nll


def summed_metrics(args: argparse.Namespace, scores: Scores, loss: torch.Tensor) -> torch.Tensor:
    """Sums over the pairs of a batch, in the order of METRICS, then the number of pairs; detached."""
    import torch

    from dpo_loss import preference_metrics

    metrics = preference_metrics(*scores[:4], beta=args.beta) | {"loss": loss.detach()}
    return torch.stack([*(metrics[name].sum().float() for name in METRICS), torch.tensor(len(loss)).to(loss).float()])


def check_zero_margin(args: argparse.Namespace, scores: Scores, preference: torch.Tensor, dtype: torch.dtype) -> None:
    """On the first batch of a fresh run policy and reference agree: rewards 0, and the loss of a zero margin."""
    from dpo_loss import zero_margin_loss

    chosen = (scores.policy_chosen - scores.reference_chosen).abs().max().item()
    rejected = (scores.policy_rejected - scores.reference_rejected).abs().max().item()
    expected = zero_margin_loss(args.loss_type, args.beta, args.label_smoothing)
    tolerance = ZERO_TOLERANCE[str(dtype).removeprefix("torch.")] * max(1.0, expected)
    reward, loss = args.beta * max(chosen, rejected), preference.mean().item()
    print(f"Step 0: preference loss {loss:.6f} (zero margin {expected:.6f}), largest reward {reward:.1e}")
    if not (reward <= tolerance and abs(loss - expected) <= tolerance):
        raise RunError(
            f"policy and reference differ before training: reward {reward:.2e}, loss {loss:.6f} for {expected:.6f}, "
            f"tolerance {tolerance:.0e}; delete reference_logps in the run's folder, or use --reference live"
        )


def evaluate(run: TrainingRun, pair: AdapterPair, data: PairData) -> dict[str, float]:
    """Means over all validation pairs; warns where the chosen texts have become less likely (displacement).

    Of several files `chosen_preference/1` is that of the first alone, and so on.
    """
    import torch

    run.model.eval()
    totals = torch.zeros(len(METRICS) + 1, device=run.device)
    displacement = torch.zeros(1, device=run.device)
    preferred = torch.zeros(len(data.dataset.sizes), device=run.device)  # of each file
    with torch.no_grad():
        for indices in run.plan.evaluation_rows(len(data.dataset), run.eval_batch_size, data.dataset.tokens):
            scores = score_pairs(run, pair, data, indices)
            totals += summed_metrics(run.args, scores, losses(run.args, scores)[1])
            displacement += (scores.policy_chosen - scores.reference_chosen).sum()
            files = torch.tensor([data.dataset.file_of(index) for index in indices], device=run.device)
            preferred.index_add_(0, files, (scores.policy_chosen > scores.policy_rejected).float())
    run.model.train()
    *sums, pairs = run.accelerator.reduce(totals, "sum").tolist()
    shares = (run.accelerator.reduce(preferred, "sum").cpu() / torch.tensor(data.dataset.sizes)).tolist()
    fall = -run.sum_over_processes(displacement.item()) / pairs
    if fall > DISPLACEMENT_LIMIT:
        print(
            f"warning: likelihood displacement: chosen texts lost {fall:.1f} nats on average (limit "
            f"{DISPLACEMENT_LIMIT:g}); raise --nll_weight, or lower --learning_rate",
            file=sys.stderr,
        )
    means = {name: value / pairs for name, value in zip(METRICS, sums, strict=True)}
    by_file = {f"chosen_preference/{number}": share for number, share in enumerate(shares, start=1)}
    return means | (by_file if len(by_file) > 1 else {})


def save_policy(
    pair: AdapterPair,
    tokenizer: PreTrainedTokenizerBase,
    prompt_format: str,
    base_model: str,
    folder: Path,
) -> None:
    """Saves the policy as one adapter on the original base."""
    from training.policy_adapters import POLICY, joined_adapter

    if len(pair.policy_names) > 1:
        state, config = joined_adapter(pair.model)
        write_adapter(folder, state, config, tokenizer, prompt_format, base_model)
    else:
        save_adapter(pair.model, folder, tokenizer, prompt_format, adapter_name=POLICY, base_model=base_model)


def train_loop(run: TrainingRun, pair: AdapterPair, train: PairData, val: PairData, stop: StopRequest) -> None:
    """Optimises until the plan is done, early stopping says so, or a signal asks to stop."""
    import torch

    args, plan, state = run.args, run.plan, run.state
    guard, timer = NonFiniteGuard(), StepTimer(run, "Stage B")
    while state.step < plan.total_steps and not stop:
        learning_rate = set_learning_rate(run.optimizer, args, state.step, plan.total_steps)
        indices, rows = plan.step_indices(state.step), plan.rows(state.step, train.dataset.tokens)
        totals = torch.zeros(len(METRICS) + 1, device=run.device)
        for number, row in enumerate(rows, start=1):
            with row_of_step(run, is_last=number == len(rows)):
                scores = score_pairs(run, pair, train, row)
                preference, loss = losses(args, scores)
                if state.step == 0 and number == 1:
                    check_zero_margin(args, scores, preference, pair.model.dtype)
                backward(run, loss.sum() / len(indices))
            totals += summed_metrics(args, scores, loss)
        *sums, pairs = run.accelerator.reduce(totals, "sum").tolist()
        values = {name: value / pairs for name, value in zip(METRICS, sums, strict=True)}
        grad_norm = clip_gradients(run)
        if guard.is_finite(values["loss"], grad_norm, [train.dataset.triplets[index].id for index in indices]):
            if timer.is_first_of_epoch(state.step):
                check_gradients(run.policy)
            run.optimizer.step()
            state.add(dict(zip(METRICS, sums, strict=True)), pairs)
        run.optimizer.zero_grad()
        state.step += 1
        speed = timer.after_step(sum(map(train.dataset.tokens, indices)))
        log_step(run, {**values, "grad_norm": grad_norm, "learning_rate": learning_rate, **speed})
        if after_step(run, lambda: evaluate(run, pair, val), stop):
            break
    timer.close()


def main(args: argparse.Namespace) -> int:
    check_arguments(args)
    run, pair, train, val = prepare(args)
    if run.state.step == 0:
        first = evaluate(run, pair, val)
        if run.accelerator.is_main_process:
            log_metrics(run.folder, "val", 0, 0.0, first)
        print(f"Before training: Val Loss: {first['loss']:.4f}, Chosen Preference: {first['chosen_preference']:.0%}")
    with stop_on_signals() as stop:
        train_loop(run, pair, train, val, stop)
    if stop:
        print(f"Stopped at step {run.state.step}; go on with the same command and --resume")
        return stop.exit_code
    data = {"train": train.dataset.report.as_dict(), "validation": val.dataset.report.as_dict()}
    judges = judges_behind(train.dataset.paths, args.sft_model_path)
    files = training_files(run.args, train.dataset, run.plan)
    finish(run, data, "dpo_training_stats.json", DPO_CONFIG, PANELS, pair_judges=judges, training_files=files)
    print("DPO Training completed!")
    print(f"Next: python evaluation/evaluate_model.py --model_path {run.final_model}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
