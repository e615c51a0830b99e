"""What a run of either stage leaves on disk and how it can be taken up again; the loops stay in the scripts.

A run folder holds `run_config.json` (settings, versions, commit), `metrics.jsonl` (one line a step or evaluation),
`checkpoint_*/` (adapter, optimiser, position), `training_curves.png` and `final_model/`. The order of the examples and
the dropout of each step follow from the seed and the step's number alone, so a resumed run is the uninterrupted one.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from script_io import EXIT_INTERRUPTED, EXIT_TERMINATED, InputError, RunError, read_json, write_json

# On a CPU oneDNN keeps what it compiled for the last 1,024 shapes of bfloat16 products, which with rows of all lengths
# is hundreds of MB; 64 are more than one row needs. It reads this at its first product.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from peft import PeftModel

    from completion_scorer import CompletionScorer
    from model_loading import Placement
    from training_plan import BatchPlan

STATE_FILE, TRAINABLE_FILE, OPTIMIZER_FILE = "training_state.json", "trainable.safetensors", "optimizer.safetensors"
METRICS_FILE = "metrics.jsonl"
CONFIG_FILE = "run_config.json"
MAX_NON_FINITE_STEPS = 3


# ------------------------------------------------------------------------------------- the run folder


@dataclass
class TrainingState:
    """Where a run stands. `epoch_sums` are weighted sums of the epoch's metrics so far, `epoch_weight` their weight."""

    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    best_val_loss: float | None = None
    evaluations_without_improvement: int = 0
    best_checkpoint: str | None = None
    epoch_sums: dict[str, float] = field(default_factory=dict)
    epoch_weight: float = 0.0
    epochs: list[dict[str, float]] = field(default_factory=list)

    def add(self, sums: Mapping[str, float], weight: float) -> None:
        for name, value in sums.items():
            self.epoch_sums[name] = self.epoch_sums.get(name, 0.0) + value
        self.epoch_weight += weight

    def close_epoch(self) -> dict[str, float]:
        """The epoch's weighted means; the sums start anew."""
        means = {name: value / self.epoch_weight for name, value in self.epoch_sums.items()}
        self.epoch_sums, self.epoch_weight = {}, 0.0
        return means


def look_into_run_folder(args: argparse.Namespace) -> Path | None:
    """The checkpoint to resume from, or None for a fresh run; writes nothing, so that it can be done before all else.

    Raises InputError where an earlier run is in the way, or where one is to be resumed under other settings.
    """
    folder = Path(args.output_dir)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; name a folder with --output_dir")
    used = folder.exists() and any(folder.iterdir())
    if args.resume:
        checkpoint = latest_checkpoint(folder)
        if checkpoint is None:
            raise InputError(f"{folder}: no checkpoint to resume from; leave --resume out to start anew")
        stored = read_json(folder / CONFIG_FILE, "start anew with --overwrite_output_dir")["arguments"]
        if args.dtype == "auto":
            args.dtype = stored["dtype"]  # measured anew it might come out otherwise
        _check_same_settings(folder / CONFIG_FILE, stored, args)
        return checkpoint
    if used and not args.overwrite_output_dir:
        raise InputError(
            f"{folder}: holds an earlier run; pass --resume to go on, --overwrite_output_dir to delete it, or another "
            "--output_dir"
        )
    return None


def start_run_folder(args: argparse.Namespace, accelerator: Accelerator) -> None:
    """Deletes an earlier run and writes the settings of the new one, once data and model have turned out good."""
    folder = Path(args.output_dir)
    if accelerator.is_main_process:
        if folder.exists():
            _delete_earlier_run(folder)
        write_json(folder / CONFIG_FILE, {"arguments": vars(args), **provenance()})
    accelerator.wait_for_everyone()


# What may differ between a run and its resumption.
_FREE_TO_CHANGE = {
    "resume", "overwrite_output_dir", "logging_steps", "save_steps", "report_to", "device", "eval_batch_size",
    "output_dir", "gradient_checkpointing",
}  # fmt: skip


def _check_same_settings(path: Path, stored: Mapping[str, Any], args: argparse.Namespace) -> None:
    for name, value in vars(args).items():
        if name not in _FREE_TO_CHANGE and stored.get(name) != value:
            raise InputError(
                f"{path}: the run was started with --{name} {stored.get(name)}, asked for is {value}; use the same, "
                "or --overwrite_output_dir"
            )


def _delete_earlier_run(folder: Path) -> None:
    """Deletes what a run leaves behind and nothing else, since the folder may be the user's own."""
    import shutil

    for path in folder.iterdir():
        if path.is_dir() and (path.name.startswith("checkpoint_") or path.name == "final_model"):
            shutil.rmtree(path)
        elif path.name in (METRICS_FILE, CONFIG_FILE, "training_curves.png") or path.name.endswith("_stats.json"):
            path.unlink()


def provenance() -> dict[str, Any]:
    """Versions of what the numbers depend on, and the commit of this suite where git knows it."""
    packages = ("torch", "transformers", "peft", "accelerate", "bitsandbytes")
    return {"versions": package_versions(packages), "commit": commit()}


def package_versions(packages: Sequence[str]) -> dict[str, str]:
    """The version of Python and of those of the packages that are installed."""
    versions = {"python": sys.version.split()[0]}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def commit() -> str | None:
    """The suite's git commit, with `-dirty` where files differ from it; None outside a checkout."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude", "*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()


def log_metrics(folder: Path, kind: str, step: int, epoch: float, values: Mapping[str, float]) -> None:
    """Appends one line to `metrics.jsonl`. Numbers that are not finite become null, since JSON has none."""
    finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
    with (folder / METRICS_FILE).open("a", encoding="utf-8") as handle:
        handle.write(json.dumps({"kind": kind, "step": step, "epoch": round(epoch, 4), **finite}) + "\n")


def truncate_metrics(folder: Path, step: int) -> None:
    """Drops the lines after `step`, which a resumed run writes again."""
    path = folder / METRICS_FILE
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        path.write_text("".join(kept), encoding="utf-8")


# ---------------------------------------------------------------------------------------- checkpoints


@dataclass
class TrainingRun:
    """What a stage's loop works on. `save_model(folder)` writes the model as people load it."""

    args: argparse.Namespace
    folder: Path
    accelerator: Accelerator
    model: torch.nn.Module  # the scorer as accelerate prepared it: called for every forward pass
    scorer: CompletionScorer  # the same without accelerate's wrapper
    optimizer: torch.optim.Optimizer
    plan: BatchPlan
    save_model: Callable[[Path], None]
    state: TrainingState = field(default_factory=TrainingState)

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    @property
    def policy(self) -> PeftModel:
        return self.scorer.policy

    @property
    def final_model(self) -> Path:
        return self.folder / "final_model"

    def seed_dropout(self) -> None:
        """Ties the step's dropout to the seed and the step, so that resuming changes nothing."""
        import torch

        torch.manual_seed((self.args.seed * 1_000_003 + self.state.step) * self.plan.world + self.plan.rank)

    def sum_over_processes(self, value: float) -> float:
        import torch

        total: float = self.accelerator.reduce(torch.tensor(value, device=self.device), "sum").item()
        return total

    @property
    def eval_batch_size(self) -> int:
        size: int = self.args.eval_batch_size or self.args.batch_size
        return size


def save_checkpoint(run: TrainingRun, name: str) -> None:
    """Writes `checkpoint_*`: the model as people load it, and what a resumed run needs; the position comes last."""
    from safetensors.torch import save_file

    folder = run.folder / name
    if run.accelerator.is_main_process:
        run.save_model(folder)
        save_file(_trainable_tensors(run.policy), folder / TRAINABLE_FILE)
        save_file(_optimizer_tensors(run.optimizer), folder / OPTIMIZER_FILE)
        write_json(folder / STATE_FILE, asdict(run.state))
        print(f"Saved checkpoint to {folder}")
    run.accelerator.wait_for_everyone()


def latest_checkpoint(folder: Path) -> Path | None:
    """The whole checkpoint with the highest step."""
    found = [path.parent for path in folder.glob(f"checkpoint_*/{STATE_FILE}")]
    return max(found, key=lambda path: read_json(path / STATE_FILE)["step"], default=None)


def resume_from(run: TrainingRun, checkpoint: Path) -> None:
    """Restores weights, optimiser and position, and drops the logged steps that will be run again."""
    from safetensors.torch import load_file

    load_trainable(run.policy, checkpoint)
    entries: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in load_file(checkpoint / OPTIMIZER_FILE).items():
        index, name = key.split(".", 1)
        entries.setdefault(int(index), {})[name] = tensor
    groups = run.optimizer.state_dict()["param_groups"]
    run.optimizer.load_state_dict({"state": entries, "param_groups": groups})
    run.state = TrainingState(**read_json(checkpoint / STATE_FILE))
    if run.accelerator.is_main_process:
        truncate_metrics(run.folder, run.state.step)
    print(f"Resumed from {checkpoint} at step {run.state.step}")


def load_trainable(policy: torch.nn.Module, checkpoint: Path) -> None:
    """Puts a checkpoint's trained tensors back into the model that they came from."""
    from safetensors.torch import load_file

    missing = policy.load_state_dict(load_file(checkpoint / TRAINABLE_FILE), strict=False).unexpected_keys
    assert not missing, missing


def _trainable_tensors(policy: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().cpu().contiguous() for name, p in policy.named_parameters() if p.requires_grad}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        f"{index}.{name}": value.detach().cpu().contiguous()
        for index, entries in optimizer.state_dict()["state"].items()
        for name, value in entries.items()
    }


def after_step(run: TrainingRun, evaluate: Callable[[], dict[str, float]], stop: StopRequest) -> bool:
    """Evaluates and saves where the settings ask for it; True where the run shall end early.

    `evaluate` returns the validation metrics, `loss` among them.
    """
    args, state, plan = run.args, run.state, run.plan
    stop.settle(run)
    epoch_ends = state.step % plan.steps_per_epoch == 0
    stopping = False
    checkpoint = (
        f"checkpoint_epoch_{state.step // plan.steps_per_epoch}" if epoch_ends else f"checkpoint_step_{state.step}"
    )
    save_due = epoch_ends or bool(stop) or (args.save_steps > 0 and state.step % args.save_steps == 0)
    if epoch_ends or (args.eval_steps > 0 and state.step % args.eval_steps == 0):
        values = evaluate()
        better = is_better(state, values["loss"])
        if better and args.early_stopping_patience:
            state.best_checkpoint, save_due = checkpoint, True
        stopping = 0 < args.early_stopping_patience <= state.evaluations_without_improvement
        if run.accelerator.is_main_process:
            log_metrics(run.folder, "val", state.step, state.step / plan.steps_per_epoch, values)
        if epoch_ends:
            _close_epoch(run, values)
    if save_due:
        save_checkpoint(run, checkpoint)
    return stopping


def _close_epoch(run: TrainingRun, val: Mapping[str, float]) -> None:
    """Prints the epoch's block and notes its means."""
    state = run.state
    train = state.close_epoch()
    epoch = state.step // run.plan.steps_per_epoch
    learning_rate = run.optimizer.param_groups[0]["lr"]
    print(f"Epoch {epoch}/{run.plan.num_epochs} done")
    print(f"  Train Loss: {train['loss']:.4f}")
    print(f"  Val Loss: {val['loss']:.4f}")
    if "chosen_preference" in val:
        print(f"  Chosen Preference: {val['chosen_preference']:.0%}")
    print(f"  Learning Rate: {learning_rate:.2e}")
    prefixed = {
        f"{split}_{name}": value for split, row in (("train", train), ("val", val)) for name, value in row.items()
    }
    state.epochs.append({"epoch": epoch, "step": state.step, "learning_rate": learning_rate, **prefixed})


def keep_best(run: TrainingRun) -> None:
    """Under early stopping, puts the weights with the best validation loss back."""
    if run.args.early_stopping_patience and run.state.best_checkpoint:
        load_trainable(run.policy, run.folder / run.state.best_checkpoint)
        print(f"Best validation loss {run.state.best_val_loss:.4f}: weights of {run.state.best_checkpoint}")


# ------------------------------------------------------------------------------------------- watching


class StopRequest:
    """Made by Ctrl-C or SIGTERM; the loop finishes its step, saves a checkpoint and leaves with `exit_code`.

    It holds from the end of a step on, for all processes at once, whichever of them was asked.
    """

    def __init__(self) -> None:
        self.exit_code = 0
        self._asked = 0

    def __bool__(self) -> bool:
        return self.exit_code != 0

    def settle(self, run: TrainingRun) -> None:
        """At the end of a step: whether any process has been asked."""
        self.exit_code = self._asked
        if run.plan.world > 1:
            import torch

            codes = run.accelerator.gather(torch.tensor([self._asked], device=run.device))
            self.exit_code = int(codes.max())

    def _set(self, signal_number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt  # asked twice: leave at once
        self._asked = EXIT_INTERRUPTED if signal_number == signal.SIGINT else EXIT_TERMINATED
        print("\nStopping after this step; a checkpoint follows.", file=sys.stderr)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turns SIGINT and SIGTERM into a StopRequest while the block runs."""
    request = StopRequest()
    earlier = {number: signal.signal(number, request._set) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


class NonFiniteGuard:
    """Names the examples of a step whose loss or gradient is not finite; stops the run after three in a row."""

    def __init__(self) -> None:
        self.in_a_row = 0

    def is_finite(self, loss: float, grad_norm: float, ids: Sequence[str]) -> bool:
        if math.isfinite(loss) and math.isfinite(grad_norm):
            self.in_a_row = 0
            return True
        self.in_a_row += 1
        print(f"warning: loss {loss}, gradient norm {grad_norm}; step skipped, ids: {', '.join(ids)}", file=sys.stderr)
        if self.in_a_row >= MAX_NON_FINITE_STEPS:
            raise RunError(
                f"{MAX_NON_FINITE_STEPS} steps in a row had no finite loss or gradient; the last checkpoint is intact: "
                "lower --learning_rate, or check the examples named above"
            )
        return False


def check_gradients(model: torch.nn.Module) -> None:
    """After a backward pass: every trainable tensor has a finite gradient and some are non-zero, or RunError."""
    trainable = [(name, p.grad) for name, p in model.named_parameters() if p.requires_grad]
    missing = [name for name, gradient in trainable if gradient is None]
    if missing:
        raise RunError(f"no gradient reached {len(missing)} of {len(trainable)} trainable tensors, first {missing[0]}")
    wild = [name for name, gradient in trainable if gradient is not None and not gradient.isfinite().all()]
    if wild:
        raise RunError(f"the gradient is not finite in {len(wild)} trainable tensors, first {wild[0]}")
    if not any(gradient is not None and gradient.any() for _, gradient in trainable):
        raise RunError(f"every gradient is zero, from {trainable[0][0]} on; the frozen base passes none on")


def peak_memory_bytes(device: torch.device) -> int:
    """CUDA: the allocator's peak. Otherwise: the peak resident size of this process."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.exists():  # Linux; its ru_maxrss would be that of the process that started this one, if that was larger
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    import psutil

    return int(getattr(psutil.Process().memory_info(), "peak_wset"))  # noqa: B009 - Windows alone has it


def is_better(state: TrainingState, val_loss: float) -> bool:
    """Notes an evaluation in `state`; True where it is the best so far."""
    if state.best_val_loss is None or val_loss < state.best_val_loss:
        state.best_val_loss, state.evaluations_without_improvement = val_loss, 0
        return True
    state.evaluations_without_improvement += 1
    return False


def plot_curves(folder: Path, panels: Mapping[str, Sequence[tuple[str, str]]]) -> None:
    """Draws `training_curves.png` from `metrics.jsonl`: a panel for each title, of (kind, metric) lines."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = [json.loads(line) for line in (folder / METRICS_FILE).read_text(encoding="utf-8").splitlines()]
    figure, axes = pyplot.subplots(1, len(panels), figsize=(5 * len(panels), 3.6), squeeze=False)
    for axis, (title, curves) in zip(axes[0], panels.items(), strict=True):
        for kind, metric in curves:
            points = [
                (row["step"], row[metric]) for row in lines if row["kind"] == kind and row.get(metric) is not None
            ]
            marker = {"train": "", "val": "o"}[kind]
            if points:
                axis.plot(*zip(*points, strict=True), marker=marker, label=f"{kind} {metric}")
        axis.set(title=title, xlabel="optimiser step")
        axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    figure.tight_layout()
    temporary = folder / ".training_curves.png"
    figure.savefig(temporary, dpi=120, format="png")
    temporary.replace(folder / "training_curves.png")
    pyplot.close(figure)


class StepTimer:
    """The progress bar and the speed: tokens are those that the model reads, padding aside."""

    def __init__(self, run: TrainingRun, description: str) -> None:
        from tqdm import tqdm

        self.run = run
        hidden = True if not run.accelerator.is_main_process else None  # None: hidden where stderr is no terminal
        total = run.plan.total_steps
        self.bar = tqdm(total=total, initial=run.state.step, desc=description, unit="step", disable=hidden)
        self.first_step = run.state.step
        self.seconds_before, self.start = run.state.seconds, time.perf_counter()
        self.step_start = self.start

    def is_first_of_epoch(self, step: int) -> bool:
        """True at the first step of an epoch, and at the first after resuming."""
        return step % self.run.plan.steps_per_epoch == 0 or step == self.first_step

    def after_step(self, tokens: int) -> dict[str, float]:
        now = time.perf_counter()
        elapsed, self.step_start = now - self.step_start, now
        self.run.state.seconds = self.seconds_before + now - self.start
        self.run.state.tokens += tokens
        self.bar.update()
        return {"tokens_per_second": tokens / elapsed, "peak_memory_bytes": peak_memory_bytes(self.run.device)}

    def close(self) -> None:
        self.bar.close()


def log_step(run: TrainingRun, values: Mapping[str, float]) -> None:
    """One JSON line on disk every step, one aligned console line every `--logging_steps`."""
    if not run.accelerator.is_main_process:
        return
    step = run.state.step
    log_metrics(run.folder, "train", step, step / run.plan.steps_per_epoch, values)
    run.accelerator.log({f"train/{name}": value for name, value in values.items()}, step=step)
    if step % run.args.logging_steps == 0 or step == 1:
        from tqdm import tqdm

        tqdm.write(console_line(run, values))


def console_line(run: TrainingRun, values: Mapping[str, float]) -> str:
    """One aligned line a step: what a person watches."""
    plan, step = run.plan, run.state.step
    shown = {"loss": "loss {:.4f}", "rewards/margins": "margin {:+.4f}", "rewards/accuracies": "accuracy {:4.0%}"}
    shown |= {"grad_norm": "grad norm {:7.3f}", "learning_rate": "lr {:.2e}", "tokens_per_second": "{:>7,.0f} tokens/s"}
    parts = [text.format(values[name]) for name, text in shown.items() if name in values]
    return f"step {step:>{len(str(plan.total_steps))}}/{plan.total_steps}  " + "  ".join(parts)


# ------------------------------------------------------------------------------- setting up and finishing


def make_accelerator(args: argparse.Namespace, placement: Placement) -> Accelerator:
    """accelerate's view of the devices and processes; a launcher's processes are found by themselves."""
    from accelerate import Accelerator, DistributedDataParallelKwargs

    tracker = None if args.report_to == "none" else args.report_to
    if tracker and find_spec(tracker) is None:
        raise InputError(f"--report_to {tracker} needs a package that is not installed; run: pip install {tracker}")
    accelerator = Accelerator(
        cpu=placement.device.type == "cpu",
        log_with=tracker,
        project_dir=args.output_dir,
        # no buffer changes, and a forward pass must wait for nobody: the processes have rows in different numbers
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    if not accelerator.is_main_process:  # one process speaks for all; errors still come through
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    accelerator.wait_for_everyone()  # all have looked into the folder before one writes there
    if tracker:
        accelerator.init_trackers(Path(args.output_dir).name, config={k: str(v) for k, v in vars(args).items()})
    return accelerator


def make_optimizer(
    scorer: CompletionScorer, args: argparse.Namespace, accelerator: Accelerator
) -> tuple[torch.nn.Module, CompletionScorer, torch.optim.Optimizer]:
    """The scorer as accelerate prepared it, the scorer itself, and AdamW over its trainable tensors."""
    import torch

    trainable = [p for p in scorer.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=args.learning_rate, weight_decay=args.weight_decay)
    # One process has nothing to wrap, and the model is on its device already.
    model = accelerator.prepare(scorer) if accelerator.num_processes > 1 else scorer
    model.train()
    return model, scorer, optimizer


def row_of_step(run: TrainingRun, *, is_last: bool) -> AbstractContextManager[Any]:
    """For the forward and backward pass of one row: processes exchange their gradients with the last row alone.

    DistributedDataParallel settles in the forward pass whether the backward one will wait for the other processes, and
    they may have more rows or fewer.
    """
    return nullcontext() if is_last else run.accelerator.no_sync(run.model)


def backward(run: TrainingRun, loss: torch.Tensor) -> None:
    """Adds the gradient of this process's share of the step's loss."""
    # gradients are averaged over the processes, and the loss is already divided by what all of them see
    run.accelerator.backward(loss * run.plan.world)


def clip_gradients(run: TrainingRun) -> float:
    """Clips to `--max_grad_norm` and returns the norm before."""
    norm: float = run.accelerator.clip_grad_norm_(
        [p for p in run.policy.parameters() if p.requires_grad], run.args.max_grad_norm
    ).item()
    return norm


def warn_if_same_file(train_path: str, val_path: str) -> None:
    if Path(train_path).read_bytes() == Path(val_path).read_bytes():
        print("warning: the validation file equals the training file; its figures say nothing new", file=sys.stderr)


def finish(
    run: TrainingRun,
    data: Mapping[str, Any],
    stats_name: str,
    config_name: str,
    panels: Mapping[str, Sequence[tuple[str, str]]],
    **facts: Any,
) -> None:
    """Saves the final model with its settings, the statistics and the plot, and says where they are.

    `facts` are kept with the settings.
    """
    keep_best(run)
    run.accelerator.end_training()
    if not run.accelerator.is_main_process:
        return
    run.save_model(run.final_model)
    settings = {"arguments": vars(run.args), **provenance(), **facts}
    write_json(run.final_model / config_name, settings)
    print(f"Saved final model to {run.final_model}")
    state = run.state
    write_json(
        run.folder / stats_name,
        {
            "steps": state.step,
            "seconds": round(state.seconds, 3),
            "tokens": state.tokens,
            "tokens_per_second": round(state.tokens / state.seconds, 1) if state.seconds else None,
            "peak_memory_bytes": peak_memory_bytes(run.device),
            "best_val_loss": state.best_val_loss,
            "epochs": state.epochs,
            "data": data,
            **settings,
        },
    )
    plot_curves(run.folder, panels)
    print(f"Statistics: {run.folder / stats_name}; curves: {run.folder / 'training_curves.png'}")
