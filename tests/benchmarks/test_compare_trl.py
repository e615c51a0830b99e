"""The comparison with TRL: its inputs, its arithmetic, and whole runs with a tiny model."""

import json
import math
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import compare_trl, trl_bench, trl_worker
from benchmarks.compare_trl import differences
from benchmarks.trl_bench import ROOT, Bench
from benchmarks.trl_inputs import LENGTH_STEP, LINEAR_LAYERS, SHAPES, Model, write_data
from benchmarks.trl_report import Setup, flops_per_token, ratio_lines, ratios, tokens_per_second
from dpo_dataset import DPODataset
from language_model.loading import load_tokenizer
from language_model.model_files import DEMO_BASE
from script_io.errors import RunError
from script_io.files import read_json, write_json
from training import reference_cache
from training.batch_plan import BatchPlan

CASE_KEYS = [
    "stage", "shape", "variant", "dtype", "lora_target_modules", "lora_dropout", "model_parameters",
    "tokens_per_cpu_second", "wall_tokens_per_second", "peak_bytes", "max_loss_difference", "max_gradient_difference",
]  # fmt: skip
TINY = ["--parameters", "tiny", "--shapes", "short", "--batches", "2", "--repeats", "1", "--batch_size", "2"]
TINY += ["--device", "cpu"]
ALL_LINEAR = ["--lora_target_modules", *LINEAR_LAYERS, "--lora_dropout", "0.5"]
CUT = 2 * LENGTH_STEP  # tokens; less than one step leaves every text whole


@pytest.fixture
def workers_in_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run workers in this process, so TRL is imported only once. The environment that they would get is ignored."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(reference_cache, "read_or_score", reference_cache.read_or_score)  # restored after the test

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        trl_worker.main(trl_worker.parse_args(command[2:]))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(trl_bench, "subprocess", SimpleNamespace(run=run))
    yield
    torch.set_num_threads(threads)


def printed_document(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return document


def test_texts_have_the_lengths_that_were_drawn(tmp_path: Path) -> None:
    data = write_data("dpo", SHAPES["clinical"], 5, 4, tmp_path, seed=1)
    tokenizer = load_tokenizer(DEMO_BASE)
    dataset = DPODataset(data.train, tokenizer, max_length=data.max_length)
    assert len(dataset) == 20
    for triplet in dataset.triplets:
        assert 175 <= len(triplet.prompt) <= 490
        assert 60 <= len(triplet.chosen) <= 168
        assert 60 <= len(triplet.rejected) <= 168
    assert len({len(triplet.prompt) for triplet in dataset.triplets}) > 10
    longest = max(len(each.prompt) + max(len(each.chosen), len(each.rejected)) for each in dataset.triplets)
    assert data.max_length == math.ceil(longest / LENGTH_STEP) * LENGTH_STEP
    first = BatchPlan(20, 4, accumulation=1, num_epochs=1, seed=1).step_indices(0)
    checked = DPODataset(data.check, tokenizer, max_length=data.max_length).triplets
    assert [triplet.id for triplet in checked] == [dataset.triplets[index].id for index in first]


def test_speed_counts_half_of_the_reference_pass() -> None:
    result = {"tokens": 100, "training_cpu": 8.0, "reference_cpu": 4.0, "training_wall": 20.0}
    assert tokens_per_second(result, "cpu") == 10.0
    assert tokens_per_second(result, "wall") == 5.0


def test_flops_of_a_token() -> None:
    """A third of the tokens are completion tokens, so a token meets 12 + 6/3 = 14 parameters, at 2 FLOP per pass."""
    model = Model("", "", parameters=99, layer_parameters=12, head_parameters=6)
    result = {"tokens": 9, "completion_tokens": 3}
    assert flops_per_token(model, "sft", result) == 2 * 2 * 14
    assert flops_per_token(model, "dpo", result) == 2.5 * 2 * 14


def test_differences_by_hand() -> None:
    plain = {"loss": 0.5, "gradients": {"a": torch.tensor([1.0, -4.0]), "b": torch.zeros(2)}, "tokens_sha256": "x"}
    own = {"loss": 0.25, "gradients": {"a": torch.tensor([1.0, -3.0]), "b": torch.zeros(2)}, "tokens_sha256": "x"}
    assert differences(own, plain) == (0.25, 0.25)
    with pytest.raises(RunError, match="different tokens"):
        differences(own | {"tokens_sha256": "y"}, plain)
    with pytest.raises(RunError, match="different LoRA tensors"):
        differences(own | {"gradients": {"a": torch.zeros(2)}}, plain)


def test_every_variant_has_its_dtypes() -> None:
    setups = compare_trl.setups_of(
        compare_trl.parse_args(["--stage", "dpo", "--shapes", "long", "--parameters", "58M"])
    )
    assert [(setup.variant, setup.dtype) for setup in setups] == [
        ("ours", "float32"), ("ours", "bfloat16"), ("trl_default", "bfloat16"), ("trl_best", "bfloat16"),
        ("trl_fp32", "float32"), ("naive", "float32"),
    ]  # fmt: skip


# 10 s. Proves that our loss and gradients equal TRL's and the naive loop's. In Stage B the adapter has a dropout, so
# equal losses also prove that every variant turns it off.
@pytest.mark.parametrize("stage", ["dpo", "sft"])
@pytest.mark.usefixtures("workers_in_process")
def test_all_variants_compute_the_same(stage: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    args = compare_trl.parse_args(["--stage", stage, *TINY, *ALL_LINEAR, "--output_file", str(file)])
    assert compare_trl.main(args) == 0
    document = printed_document(capsys)
    assert list(document) == ["hardware", "versions", "cases", "ratios"]
    assert document["versions"]["trl"]
    assert len(document["cases"]) == 6
    for case in document["cases"]:
        assert list(case) == CASE_KEYS
        assert (case["lora_target_modules"], case["lora_dropout"]) == (list(LINEAR_LAYERS), 0.5)
        assert case["tokens_per_cpu_second"] > 0
        assert case["peak_bytes"] > 10**8
        exact = case["dtype"] == "float32"
        assert case["max_loss_difference"] < (1e-5 if exact else 0.05)
        # bfloat16 has 8 bits; a difference as small as float32's would mean that nothing was compared
        assert (0 if exact else 1e-3) < case["max_gradient_difference"] < (1e-4 if exact else 0.2)
    stored = read_json(file)
    assert {key: stored[key] for key in document} == document
    assert len(stored["repeats"]) == 6
    others = [ratio["other_variant"] for ratio in document["ratios"]]
    assert others == ["trl_default", "trl_best", "trl_fp32", "naive"] * 2  # for ours in float32 and in bfloat16


def worker_result(bench: Bench, variant: str, folder: Path, **changes: Any) -> dict[str, Any]:
    """Return the result of the check of a variant, with changes to its job."""
    job = replace(bench.job(Setup("sft", "short", "tiny", variant, "float32"), str(folder), check=True), **changes)
    write_json(folder / "job.json", asdict(job))
    trl_worker.main(trl_worker.parse_args([str(folder / "job.json"), str(folder / "result.json")]))
    result: dict[str, Any] = read_json(folder / "result.json")
    return result


@pytest.mark.parametrize("variant", ["ours", "before", "trl_fp32", "naive"])
@pytest.mark.usefixtures("workers_in_process")
def test_dropout_reaches_every_variant_of_stage_a(variant: str, tmp_path: Path) -> None:
    bench = Bench(compare_trl.parse_args([*TINY, *ALL_LINEAR]), "cpu", tmp_path)
    folders = [tmp_path / name for name in ("checked", "dropped")]
    for folder in folders:
        folder.mkdir()
    checked = worker_result(bench, variant, folders[0])
    dropped = worker_result(bench, variant, folders[1], lora_dropout=0.5)
    assert abs(dropped["loss"] - checked["loss"]) > 1e-3


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)


# 6 s. Proves that `before` runs the code of the folder, and that these benchmarks know its adapter's settings.
def test_before_runs_the_code_of_the_folder(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")  # a repository around the folder has nothing to do with its code
    git(tmp_path, *("-c", "user.name=n", "-c", "user.email=n@n"), *("commit", "--allow-empty", "--message", "outer"))
    earlier, witness = tmp_path / "earlier", tmp_path / "witness"
    shutil.copytree(ROOT / "script_io", earlier / "script_io")  # git looks up the commit from this folder
    for entry in ROOT.iterdir():
        if entry.name not in ("script_io", "stage_a_sft_training.py") and not entry.name.startswith("."):
            (earlier / entry.name).symlink_to(entry)
    script = (ROOT / "stage_a_sft_training.py").read_text(encoding="utf-8")
    line = f"\nPath({str(witness)!r}).write_text(' '.join(sys.argv))\n"
    (earlier / "stage_a_sft_training.py").write_text(f"{script}\nimport sys{line}", encoding="utf-8")
    args = compare_trl.parse_args(["--stage", "sft", *TINY, *ALL_LINEAR, "--before", str(earlier)])
    compare_trl.check_arguments(args)
    place = tmp_path / "bench"
    place.mkdir()
    result = Bench(args, "cpu", place).run(Setup("sft", "short", "tiny", "before", "float32"), check=True)
    assert result["commit"] is None
    assert {name.split(".")[1] for name in result["gradients"]} == set(LINEAR_LAYERS)
    assert witness.read_text().split()[0] == str(place / "before" / "benchmarks" / "trl_worker.py")


def speeds(monkeypatch: pytest.MonkeyPatch, **cpu_seconds: float | None) -> None:
    """Let a variant's measurement take these CPU seconds, and fail for want of memory if they are None."""

    def measure(self: Bench, setup: Setup, *, check: bool) -> dict[str, Any]:
        seconds = cpu_seconds[setup.variant]
        return {"training_cpu": seconds, "tokens": 100, "variant": setup.variant} if seconds else {}

    monkeypatch.setattr(Bench, "_measure", measure)


@pytest.mark.parametrize(
    ("stage", "shape", "padded_seconds", "best_seconds", "expected"),
    [
        ("sft", "clinical", 4.0, 5.0, "trl_padded"),
        ("sft", "clinical", 5.0, 4.0, "trl_best"),
        ("sft", "clinical", None, 4.0, "trl_best"),
        ("sft", "clinical", 4.0, None, "trl_padded"),
        ("sft", "clinical", None, None, "trl_best"),
        ("sft", "long", 4.0, 5.0, "trl_best"),  # its rows are padded already
        ("dpo", "clinical", 4.0, 5.0, "trl_best"),
    ],
)
def test_trl_best_has_the_faster_rows(
    stage: str, shape: str, padded_seconds: float | None, best_seconds: float | None, expected: str,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    speeds(monkeypatch, trl_padded=padded_seconds, trl_best=best_seconds, naive=1.0)
    bench = Bench(compare_trl.parse_args(["--batches", "2"]), "cpu", tmp_path)
    ran = bench.run(Setup(stage, shape, "tiny", "trl_best", "bfloat16"), check=False)
    assert ran.get("variant", "trl_best") == expected
    assert bench.run(Setup(stage, shape, "tiny", "naive", "float32"), check=False)["variant"] == "naive"


def test_before_takes_turns_with_ours() -> None:
    flags = ["--stage", "sft", "--shapes", "long", "--parameters", "58M", "--variants", "ours", "--before", "earlier"]
    setups = compare_trl.setups_of(compare_trl.parse_args(flags))
    assert [(setup.variant, setup.dtype) for setup in setups] == [
        ("before", "float32"), ("before", "bfloat16"), ("ours", "float32"), ("ours", "bfloat16"),
    ]  # fmt: skip


def test_ratios_by_hand() -> None:
    task = {"stage": "sft", "shape": "long", "model_parameters": 58e6}
    figures = [
        ("before", "float32", 5.0, 400), ("before", "bfloat16", 10.0, 200), ("ours", "float32", 10.0, 300),
        ("ours", "bfloat16", 30.0, 100), ("trl_best", "bfloat16", 4.0, 500), ("naive", "float32", None, None),
    ]  # fmt: skip
    records = [
        task | {"variant": variant, "dtype": dtype, "tokens_per_cpu_second": speed, "peak_bytes": peak}
        for variant, dtype, speed, peak in figures
    ]
    found = ratios([*records, records[0] | {"shape": "short"}])
    assert [(each["dtype"], each["other_variant"], each["speed"], each["peak"]) for each in found] == [
        ("float32", "before", 2.0, 0.75), ("float32", "trl_best", 2.5, 0.6),
        ("bfloat16", "before", 3.0, 0.5), ("bfloat16", "trl_best", 7.5, 0.2),
    ]  # fmt: skip
    assert ratio_lines(found) == [
        "ours, sft long 58M float32: before 2.00x (peak 0.75), trl_best 2.50x (peak 0.60)",
        "ours, sft long 58M bfloat16: before 3.00x (peak 0.50), trl_best 7.50x (peak 0.20)",
    ]


@pytest.mark.usefixtures("workers_in_process")
def test_a_text_that_trl_cuts_is_noticed(tmp_path: Path) -> None:
    bench = Bench(compare_trl.parse_args(TINY), "cpu", tmp_path)
    hashes = {}
    for variant, cut in (("naive", 0), ("trl_fp32", 0), ("trl_fp32", CUT)):
        job = bench.job(Setup("dpo", "short", "tiny", variant, "float32"), str(tmp_path), check=False)
        write_json(tmp_path / "job.json", asdict(replace(job, max_length=job.max_length - cut)))
        trl_worker.main(trl_worker.parse_args([str(tmp_path / "job.json"), str(tmp_path / "result.json")]))
        hashes[variant, cut] = read_json(tmp_path / "result.json")["tokens_sha256"]
    assert hashes["naive", 0] == hashes["trl_fp32", 0] != hashes["trl_fp32", CUT]


def test_a_killed_worker_leaves_its_figures_empty(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = subprocess.CompletedProcess([], -9, "", "")
    monkeypatch.setattr(trl_bench, "subprocess", SimpleNamespace(run=lambda *_, **__: killed))
    assert compare_trl.main(compare_trl.parse_args(["--stage", "sft", "--dtypes", "float32", *TINY])) == 0
    cases = printed_document(capsys)["cases"]
    assert [case["variant"] for case in cases] == ["ours", "trl_fp32", "naive"]
    assert all(case[key] is None for case in cases for key in CASE_KEYS[7:])


# 6 s. Proves that each measurement has its own process, with its own memory and threads.
def test_a_worker_is_a_new_process(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--stage", "sft", "--variants", "naive", "--dtypes", "float32", "--skip_differences", *TINY]
    assert compare_trl.main(compare_trl.parse_args(arguments)) == 0
    (case,) = printed_document(capsys)["cases"]
    assert case["tokens_per_cpu_second"] > 0
    assert case["max_loss_difference"] is None
