"""The check for GPUs: all its parts with tiny models on a CPU, its resumption, its arithmetic, and what is left out."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu_check, gpu_exactness, gpu_parts
from benchmarks.gpu_bounds import bound_line, hold_against
from benchmarks.gpu_models import random_model, random_weights, write_model
from benchmarks.gpu_training import WARM_UP, BudgetSpent, Place, StepTimes
from language_model.loading import load_base_model, load_tokenizer
from language_model.placement import Placement
from scoring.completion_scorer import CompletionScorer
from script_io.errors import InputError
from script_io.files import read_json

CPU = torch.device("cpu")
CASES = (("stage_a_135M", "dropout_0.05"), ("stage_a_135M", "dropout_0"), ("stage_b_135M", "q_v"))
SPEEDS = ("stage_b_7B", "stage_b_7B_trl", "stage_a_7B")


def check(file: Path, *flags: str) -> int:
    return gpu_check.main(gpu_check.parse_args(["--device", "cpu", "--tiny", "--output_file", str(file), *flags]))


def test_every_part_has_its_name() -> None:
    assert list(gpu_check.PART_NAMES) == list(gpu_parts.PARTS)


# 30 s. The parts of TRL's Stage A differ from its Stage B in their names only.
def test_all_parts_run_and_are_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    parts = [name for name in gpu_check.PART_NAMES if not name.startswith("stage_a_7B_trl")]
    assert check(file, "--parts", *parts) == 0
    document = read_json(file)
    found = document["parts"]
    assert [*found, *document["left_out"]] == [
        *(name for name in parts if name != "stage_b_7B_4bit"),
        "stage_b_7B_4bit",
    ]
    assert document["left_out"] == {"stage_b_7B_4bit": "needs CUDA"}
    assert "stage_b_7B_4bit: left out: needs CUDA" in capsys.readouterr().out
    assert found["first_step"]["seconds_from_process_start"] > found["first_step"]["seconds_in_script"] > 0
    assert found["packed"]["equal"]
    assert len(found["packed"]["cases"]) == 4
    for figures in (found["step_0"][dtype] for dtype in ("float32", "bfloat16")):
        assert figures["packed"]
        assert figures["loss"] == pytest.approx(math.log(2), abs=1e-7)
    assert found["stage_a_135M"]["dropout_0.05"]["lora_dropout"] == 0.05
    cases = [found[part][case] for part, case in CASES]
    for figures in (*cases, *(found[name] for name in SPEEDS)):
        assert figures["tokens_per_second"] > 0
        assert figures["steps"] == WARM_UP + 1
        assert figures["utilisation"] > 0
    assert found["sampling"]["new_tokens"] > 0
    assert found["float16"]["losses_are_finite"]
    assert found["float16"]["steps"] == WARM_UP + 1

    def refuse(*_: Any) -> dict[str, Any]:
        raise AssertionError("a part was run again")

    monkeypatch.setattr(gpu_check, "run_part", refuse)
    assert check(file, "--parts", *parts) == 0
    assert read_json(file)["parts"] == found


def test_a_part_that_failed_is_told_and_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "figures.json"
    stock = gpu_parts.PARTS["product"]

    def fail(context: gpu_parts.Context) -> dict[str, Any]:
        raise ValueError("no such\nkernel")

    monkeypatch.setitem(gpu_parts.PARTS, "product", gpu_parts.Part(fail))
    assert check(file, "--parts", "product") == 1
    assert read_json(file)["parts"]["product"]["error"] == "ValueError: no such kernel"
    monkeypatch.setitem(gpu_parts.PARTS, "product", stock)
    assert check(file, "--parts", "product") == 0
    assert read_json(file)["parts"]["product"]["flops"] > 0


def test_parts_without_time_are_left_to_the_next_run(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    args = gpu_check.parse_args(["--device", "cpu", "--tiny", "--output_file", str(file), "--parts", "product"])
    args.seconds = -1
    assert gpu_check.main(args) == 0
    assert read_json(file)["left_out"] == {"product": "no time left; the same command continues"}
    assert check(file, "--parts", "product") == 0
    assert list(read_json(file)["parts"]) == ["product"]
    assert read_json(file)["left_out"] == {}


def test_what_needs_cuda_or_a_package_is_left_out() -> None:
    large, four_bit = gpu_parts.PARTS["stage_b_7B"], gpu_parts.PARTS["stage_b_7B_4bit"]
    assert gpu_check.obstacle(large, "cpu", False) == "needs CUDA for a model of this size; --tiny uses a tiny one"
    assert gpu_check.obstacle(large, "cpu", True) is None
    assert gpu_check.obstacle(large, "cuda", False) is None
    assert gpu_check.obstacle(four_bit, "mps", True) == "needs CUDA"
    absent = gpu_parts.Part(gpu_parts.product, packages=("no_such_package",))
    assert gpu_check.obstacle(absent, "cuda", False) == "needs no_such_package, not installed"


def test_figures_of_another_setup_are_not_continued(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    check(file, "--parts", "product")
    with pytest.raises(InputError, match="has no figures of the same device"):
        check(file, "--parts", "product", "--seed", "7")


def test_speed_is_measured_after_the_warm_up() -> None:
    times = StepTimes(CPU, 100.0)
    times.ends = [5.0, 6.0, 8.0, 9.0, 12.0]
    # steps 4 and 5 took 4 seconds for 30 + 50 tokens; step 6 did not run
    assert times.tokens_per_second([1, 1, 1, 30, 50, 1000]) == 20.0


def test_steps_end_when_the_seconds_are_over_but_not_before_one_is_measured() -> None:
    times = StepTimes(CPU, 0.0)
    parameter = torch.nn.Parameter(torch.ones(1))
    parameter.grad = torch.ones(1)
    optimizer = torch.optim.SGD([parameter])
    taken = 0
    with times.recording():
        for _ in range(10):
            taken += 1
            optimizer.step()
    assert taken == len(times.ends) == WARM_UP + 1
    optimizer.step()  # outside the block nothing is recorded
    assert len(times.ends) == WARM_UP + 1
    with pytest.raises(BudgetSpent):
        times._end_step()


def test_rows_that_are_not_packed_do_not_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CompletionScorer, "choose", lambda self, examples: None)
    assert not gpu_exactness.check_packed("tiny", Place(CPU, tmp_path, 1), [torch.float32])["equal"]


def test_packed_gradients_that_differ_do_not_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = CompletionScorer._packed

    def scaled(self: CompletionScorer, examples: Any) -> Any:
        logps, tokens = packed(self, examples)
        return logps + 0.01 * (logps - logps.detach()), tokens  # the same values, and gradients 1% larger

    monkeypatch.setattr(CompletionScorer, "_packed", scaled)
    found = gpu_exactness.check_packed("tiny", Place(CPU, tmp_path, 1), [torch.float32])["cases"]["float32"]
    assert found["packed"]
    assert not found["equal"]
    assert found["packed_differences"]["gradients"] == pytest.approx(0.01, rel=0.1)


def test_models_get_their_weights_on_the_device(tmp_path: Path) -> None:
    model = write_model("tiny", tmp_path, 1)
    assert not list(Path(model.base).glob("*.safetensors"))
    placement = Placement(CPU, torch.bfloat16, "none")
    made: list[bool] = []
    with random_weights(3, lambda: made.append(True)):
        loaded = load_base_model(model.base, placement, load_tokenizer(model.base))
    assert made == [True]
    assert loaded.dtype == torch.bfloat16
    assert sum(parameter.numel() for parameter in loaded.parameters()) == model.parameters
    again = random_model(model.base, CPU, 3, dtype=torch.bfloat16)
    assert torch.equal(loaded.lm_head.weight, again.lm_head.weight)
    with pytest.raises(InputError, match="no model could be loaded"):  # outside the block, files are needed
        load_base_model(model.base, placement, load_tokenizer(model.base))


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is optional")
def test_quantised_weights_are_close_to_the_weights_that_they_replace(tmp_path: Path) -> None:
    model = write_model("tiny", tmp_path, 1)
    with random_weights(3):
        quantised, whole = (
            load_base_model(model.base, Placement(CPU, torch.bfloat16, kind), load_tokenizer(model.base))
            for kind in ("4bit", "none")
        )
    kinds = {
        name: type(module).__name__ for name, module in quantised.named_modules() if "Linear" in repr(type(module))
    }
    assert kinds.pop("lm_head") == "Linear"
    assert len(kinds) == 14
    assert set(kinds.values()) == {"Linear4bit"}
    from bitsandbytes.functional import dequantize_4bit

    for name in kinds:
        weight, exact = (each.get_submodule(name).weight for each in (quantised, whole))
        apart = dequantize_4bit(weight.data, weight.quant_state).float() - exact.float()
        assert apart.norm() < 0.4 * exact.float().norm(), name  # small matrices have few constants to quantise twice


def test_bounds_by_hand() -> None:
    found = {
        "first_step": {"seconds_from_process_start": 21.5},
        "packed": {"equal": True},
        "stage_b_7B": {"tokens_per_second": 3000.0, "utilisation": 0.42},
        "stage_b_7B_trl": {"tokens_per_second": 1000.0},
        "sampling": {"error": "OutOfMemoryError"},
    }
    records = hold_against(found)
    assert [record["holds"] for record in records] == [False, True, True, True]
    assert len(hold_against(found | {"stage_b_7B": {"tokens_per_second": 3000.0}})) == 3
    assert records[0] == {
        "bound": "seconds to the first step", "figure": 21.5, "lowest": None, "highest": 20, "holds": False
    }  # fmt: skip
    assert bound_line(records[-1]) == "holds: Stage B 7B, times TRL's speed 3 (at least 1.5)"
