"""The comparison with TRL: its inputs, its arithmetic, and whole runs with a tiny model."""

import json
import math
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import compare_trl, trl_worker
from benchmarks.compare_trl import Bench, differences
from benchmarks.trl_inputs import LENGTH_STEP, SHAPES, Model, write_data
from benchmarks.trl_report import Setup, flops_per_token, tokens_per_second
from dpo_dataset import DPODataset
from language_model.loading import load_tokenizer
from language_model.model_files import DEMO_BASE
from script_io.errors import RunError
from script_io.files import read_json, write_json
from training import reference_cache
from training.batch_plan import BatchPlan

CASE_KEYS = [
    "stage", "shape", "variant", "dtype", "model_parameters", "tokens_per_cpu_second", "wall_tokens_per_second",
    "peak_bytes", "max_loss_difference", "max_gradient_difference",
]  # fmt: skip
TINY = ["--parameters", "tiny", "--shapes", "short", "--batches", "2", "--repeats", "1", "--batch_size", "2"]
TINY += ["--device", "cpu"]
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

    monkeypatch.setattr(compare_trl, "subprocess", SimpleNamespace(run=run))
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


# 10 s. Proves that our loss and gradients equal TRL's and the naive loop's.
@pytest.mark.parametrize("stage", ["dpo", "sft"])
@pytest.mark.usefixtures("workers_in_process")
def test_all_variants_compute_the_same(stage: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    args = compare_trl.parse_args(["--stage", stage, *TINY, "--output_file", str(file)])
    assert compare_trl.main(args) == 0
    document = printed_document(capsys)
    assert list(document) == ["hardware", "versions", "cases"]
    assert document["versions"]["trl"]
    assert len(document["cases"]) == 6
    for case in document["cases"]:
        assert list(case) == CASE_KEYS
        assert case["tokens_per_cpu_second"] > 0
        assert case["peak_bytes"] > 10**8
        exact = case["dtype"] == "float32"
        assert case["max_loss_difference"] < (1e-5 if exact else 0.05)
        # bfloat16 has 8 bits; a difference as small as float32's would mean that nothing was compared
        assert (0 if exact else 1e-3) < case["max_gradient_difference"] < (1e-4 if exact else 0.2)
    stored = read_json(file)
    assert {key: stored[key] for key in document} == document
    assert len(stored["repeats"]) == 6


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
    monkeypatch.setattr(compare_trl, "subprocess", SimpleNamespace(run=lambda *_, **__: killed))
    assert compare_trl.main(compare_trl.parse_args(["--stage", "sft", "--dtypes", "float32", *TINY])) == 0
    cases = printed_document(capsys)["cases"]
    assert [case["variant"] for case in cases] == ["ours", "trl_fp32", "naive"]
    assert all(case[key] is None for case in cases for key in CASE_KEYS[5:])


# 6 s. Proves that each measurement has its own process, with its own memory and threads.
def test_a_worker_is_a_new_process(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--stage", "sft", "--variants", "naive", "--dtypes", "float32", "--skip_differences", *TINY]
    assert compare_trl.main(compare_trl.parse_args(arguments)) == 0
    (case,) = printed_document(capsys)["cases"]
    assert case["tokens_per_cpu_second"] > 0
    assert case["max_loss_difference"] is None
