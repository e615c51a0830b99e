"""Several processes: accelerate's configurations, what is refused of them, and a base split over two processes."""

import json
import os
import shutil
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace

import pytest
import torch
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.state import AcceleratorState
from accelerate.utils.launch import prepare_multi_gpu_env
from training_helpers import CPU, ROOT, metrics, tiny_base_and_adapter, write_triplets

import stage_b_dpo_training as stage_b
from dpo_dataset import DPODataset
from language_model.loading import load_tokenizer
from script_io.errors import InputError
from training.batch_plan import CPU_ROW_TOKENS, BatchPlan
from training.processes import end_with_traceback, make_accelerator, read_launch_settings
from training.sharding import check_sharding, loading_placement

CONFIGS = ROOT / "configs" / "accelerate"


@pytest.fixture
def environment(monkeypatch):
    """Return a function that sets variables until the test ends, also the ones that the code removes."""

    def set_variables(variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_variables


def run_arguments(tmp_path, **changes):
    settings = {"report_to": "none", "output_dir": str(tmp_path), "shard_base": False, "gradient_checkpointing": False}
    return Namespace(**settings | changes)


@pytest.mark.parametrize(("name", "is_split"), [("one_gpu", False), ("many_gpus", False), ("fsdp2", True)])
def test_the_configurations_are_read_by_accelerate_and_taken_by_the_loop(tmp_path, environment, name, is_split):
    command = ["--config_file", str(CONFIGS / f"{name}.yaml"), "stage_b_dpo_training.py"]
    launch, _, _ = _validate_launch_command(launch_command_parser().parse_args(command))
    assert (launch.num_processes > 1) == (name != "one_gpu")
    environment({name: str(value) for name, value in prepare_multi_gpu_env(launch).items()})
    environment({"WORLD_SIZE": str(launch.num_processes)})  # as the launcher sets it in each process
    args = run_arguments(tmp_path)
    read_launch_settings(args)
    assert args.shard_base == is_split
    assert not [name for name in os.environ if name.startswith("FSDP_") or name == "ACCELERATE_USE_FSDP"]


def test_there_is_no_configuration_without_a_test():
    assert {path.stem for path in CONFIGS.iterdir()} == {"one_gpu", "many_gpus", "fsdp2"}


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, r"DeepSpeed is not supported.*many_gpus\.yaml.*fsdp2\.yaml"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, r"Megatron-LM is not supported; use configs/accelerate/fsdp2\.yaml"),
        ({"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, "tensor, context and sequence parallelism"),
        ({"ACCELERATE_USE_FSDP": "true"}, "FSDP1 is not supported; set fsdp_version: 2"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_OFFLOAD_PARAMS": "true"}, "--use_4bit"),
    ],
)
def test_what_the_loop_does_not_do_is_refused_with_what_to_use(tmp_path, environment, variables, message):
    environment(variables)
    with pytest.raises(InputError, match=message) as error:
        make_accelerator(run_arguments(tmp_path), CPU)
    assert "\n" not in str(error.value)


def test_fsdps_activation_checkpointing_is_the_loops_own(tmp_path, environment):
    environment({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_ACTIVATION_CHECKPOINTING": "true"})
    environment({"WORLD_SIZE": "2"})
    args = run_arguments(tmp_path)
    read_launch_settings(args)
    assert (args.shard_base, args.gradient_checkpointing) == (True, True)


def test_accelerates_accumulation_does_not_divide_the_loss(tmp_path, environment, monkeypatch):
    environment({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4", "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"})
    monkeypatch.setattr(AcceleratorState, "_shared_state", {})
    accelerator = make_accelerator(run_arguments(tmp_path), CPU)
    weight = torch.ones(1, requires_grad=True)
    accelerator.backward(2 * weight.sum())
    assert weight.grad.item() == 2
    assert accelerator.state.dynamo_plugin.backend.value == "NO"


def test_one_process_does_not_split_its_base(tmp_path, capsys):
    args = run_arguments(tmp_path, shard_base=True)
    read_launch_settings(args)
    assert not args.shard_base
    assert "--shard_base has no effect with one process" in capsys.readouterr().out


def test_a_base_that_cannot_be_split_is_refused(tmp_path, environment):
    environment({"WORLD_SIZE": "2"})
    with pytest.raises(InputError, match="--shard_base and --use_4bit: a quantised base is not split"):
        make_accelerator(run_arguments(tmp_path, shard_base=True), replace(CPU, quantisation="4bit"))
    with pytest.raises(InputError, match="use --reference cached"):
        check_sharding(run_arguments(tmp_path, reference="live"), CPU)


def test_an_unexpected_error_ends_a_process_at_once(monkeypatch, capsys):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    try:
        raise ValueError("of one process")
    except ValueError as error:
        end_with_traceback(type(error), error, error.__traceback__)
    assert codes == [1]
    assert "ValueError: of one process" in capsys.readouterr().err


def test_a_base_to_be_split_is_loaded_into_the_hosts_memory(tmp_path):
    on_gpu = replace(CPU, device=torch.device("cuda"))
    assert loading_placement(run_arguments(tmp_path), on_gpu) == on_gpu
    assert loading_placement(run_arguments(tmp_path, shard_base=True), on_gpu) == CPU


# 15 s. Proves that a base split over two processes trains as a whole one, and that one process can go on from there.
def test_two_processes_with_a_split_base_train_as_one_and_one_resumes(tmp_path):
    base, sft = tiny_base_and_adapter(tmp_path)
    train = write_triplets(tmp_path / "train.jsonl", 7, seed=2, most_denials=50)
    val = write_triplets(tmp_path / "val.jsonl", 5, seed=1)
    dataset = DPODataset(train, load_tokenizer(base))
    plans = [BatchPlan(7, 2, 1, 2, 42, rank, num_processes=2, row_tokens=CPU_ROW_TOKENS) for rank in range(2)]
    numbers = [[len(plan.rows(step, dataset.tokens)) for step in range(plan.total_steps)] for plan in plans]
    assert numbers[0] != numbers[1]  # so a process must wait for the other one's rows

    def flags(output, batch_size):
        paths = ["--sft_model_path", sft, "--train_data_path", train, "--val_data_path", val, "--output_dir", output]
        return [*map(str, paths), "--device", "cpu", "--learning_rate", "1e-3", "--batch_size", str(batch_size)]

    one, two, resumed = (tmp_path / name for name in ("one", "two", "resumed"))
    assert stage_b.main(stage_b.parse_args(flags(one, 4))) == 0
    launched = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"),
            *(str(ROOT / "stage_b_dpo_training.py"), *flags(two, 2)),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"},
        timeout=300,
        check=False,
    )
    assert launched.returncode == 0, launched.stderr[-2000:]
    assert launched.stdout.count("Base: split over 2 processes") == 1
    assert launched.stdout.count("Preflight: context, forward, backward, save, load, merge (") == 1
    assert launched.stdout.count("DPO Training completed!") == 1

    shutil.copytree(two, resumed)
    for name in ("final_model", "checkpoint_epoch_2"):
        shutil.rmtree(resumed / name)
    assert stage_b.main(stage_b.parse_args([*flags(resumed, 4), "--resume"])) == 0
    for run in (two, resumed):
        assert_equal_runs(one, run)


def assert_equal_runs(first, second):
    from safetensors.torch import load_file

    weights = [load_file(run / "final_model" / "adapter_model.safetensors") for run in (first, second)]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], atol=1e-4, rtol=0, msg=name)
    for kind in ("train", "val"):
        rows = [metrics(run, kind) for run in (first, second)]
        assert [row["step"] for row in rows[0]] == [row["step"] for row in rows[1]]
        assert [row["loss"] for row in rows[0]] == pytest.approx([row["loss"] for row in rows[1]], abs=1e-5)
    stats = [json.loads((run / "dpo_training_stats.json").read_text()) for run in (first, second)]
    assert stats[0]["tokens"] == stats[1]["tokens"]
