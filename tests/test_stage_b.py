"""Stage B end to end on tiny models: its files, its numbers, its resumption."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file
from tiny_models import build_tiny_model
from training_helpers import ROOT, metrics, random_adapter, tiny_base_and_adapter, write_triplets

import stage_b_dpo_training as stage_b
from dpo_dataset import DPODataset
from language_model.loading import load_tokenizer
from script_io.errors import InputError, RunError
from training import memory_estimate
from training.batch_plan import CPU_ROW_TOKENS, BatchPlan, Source
from training.policy_adapters import AdapterPair


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stage_b")
    tiny_base_and_adapter(folder)
    write_triplets(folder / "train.jsonl", 10)
    write_triplets(folder / "val.jsonl", 5, seed=1)
    return folder


def arguments(inputs, output, *extra):
    return stage_b.parse_args(
        [
            *("--sft_model_path", str(inputs / "sft")),
            *("--train_data_path", str(inputs / "train.jsonl"), "--val_data_path", str(inputs / "val.jsonl")),
            *("--output_dir", str(output), "--device", "cpu", "--learning_rate", "1e-3", "--batch_size", "4"),
            *("--logging_steps", "1"),
            *extra,
        ]
    )


def train(inputs, output, *extra):
    assert stage_b.main(arguments(inputs, output, *extra)) == 0
    return output


def weights(output):
    return load_file(output / "final_model" / "adapter_model.safetensors")


def assert_same_weights(first, second, tolerance):
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], atol=tolerance, rtol=0, msg=name)


def test_a_run_leaves_what_the_contract_names(inputs, tmp_path, capsys):
    output = train(inputs, tmp_path / "run")
    printed = capsys.readouterr().out
    for line in (
        "Loaded 10 DPO triplets from",
        "Train batches: 3",
        "Val batches: 2",
        "Reference model: ",
        " params (frozen)",
        " params with LoRA (trainable)",
        "Epoch 1/2",
        "  Train Loss: ",
        "  Val Loss: ",
        "  Chosen Preference: ",
        "  Learning Rate: ",
        "Saved checkpoint to",
        "DPO Training completed!",
        "Saved final model to",
    ):
        assert line in printed, line
    names = {path.name for path in output.iterdir()}
    assert {"final_model", "checkpoint_epoch_1", "checkpoint_epoch_2", "metrics.jsonl"} <= names
    assert {"training_curves.png", "dpo_training_stats.json", "reference_logps"} <= names
    model = {path.name for path in (output / "final_model").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "dpo_config.json"} <= model
    assert "generation_config.json" in model
    card = (output / "final_model" / "README.md").read_text()
    assert "| Examples, train | 10 |" in card
    assert "chest pain" not in card
    first = metrics(output, "train")[0]
    assert first["step"] == 1
    for name in (*stage_b.METRICS, "grad_norm", "learning_rate", "tokens_per_second", "peak_memory_bytes"):
        assert isinstance(first[name], float | int), name
    assert [row["step"] for row in metrics(output, "val")] == [0, 3, 6]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--loss_type sigmoid", 0.6931472),
        ("--loss_type sigmoid_norm", 0.6931472),
        ("--loss_type robust", 0.6931472),
        ("--loss_type hinge", 1.0),
        ("--loss_type ipo", 25.0),
        ("--loss_type ipo --loss_on differences", 25.0),
        ("--loss_on rejected_differences", 0.6931472),
        ("--loss_type apo_zero", 1.0),
        ("--loss_type sppo_hard --loss_on differences", 50.0),
        ("--reference live --dpop_penalty 50", 0.6931472),
        ("--loss_type sigmoid_norm --loss_on differences --factuality_margin 0.5", 0.9740770),  # log(1 + exp(0.5))
    ],
)
@pytest.mark.parametrize("reference", ["cached", "live"])
def test_step_0_shows_the_zero_margin(inputs, tmp_path, flags, expected, reference):
    output = train(inputs, tmp_path / "run", "--num_epochs", "1", *flags.split(), "--reference", reference)
    first = metrics(output, "train")[0]
    assert first["loss"] == pytest.approx(expected, abs=1e-5 * max(1, expected))
    assert first["rewards/chosen"] == pytest.approx(0, abs=1e-5)
    assert first["rewards/rejected"] == pytest.approx(0, abs=1e-5)


@pytest.fixture
def no_reference(monkeypatch):
    """Fail where a reference is scored; return the ranks of frozen adapters that memory is estimated for."""
    monkeypatch.setattr(AdapterPair, "as_reference", lambda *args: pytest.fail("the reference was scored"))
    monkeypatch.setattr("training.reference_cache.score_reference", lambda *args: pytest.fail("it was scored"))
    ranks = []
    fit_memory = memory_estimate.fit_memory
    monkeypatch.setattr(
        memory_estimate, "fit_memory", lambda *call: ranks.append(call[3].frozen_rank) or fit_memory(*call)
    )
    return ranks


@pytest.mark.parametrize(
    ("flags", "frozen_rank"),
    [
        ("--loss_type simpo --beta 2 --loss_on differences", 0),
        ("--loss_type orpo --nll_weight 1 --lora_r 3", 4),  # the fresh adapter is trained on top of the SFT adapter
    ],
)
def test_reference_free_losses_compute_no_reference(
    inputs, tmp_path, capsys, monkeypatch, no_reference, flags, frozen_rank
):
    monkeypatch.setattr("training.watching.DISPLACEMENT_LIMIT", -100.0)  # any change is a fall below this
    output = train(inputs, tmp_path / "run", "--learning_rate", "5e-3", "--num_epochs", "1", *flags.split())
    printed = capsys.readouterr()
    assert "has no reference, so there is no zero margin to check" in printed.out
    assert "Reference model: none" in printed.out
    assert no_reference == [frozen_rank]
    assert not (output / "reference_logps").exists()
    before, after = metrics(output, "val")
    assert after["loss"] < before["loss"]
    lost = before["logps/chosen"] - after["logps/chosen"]
    warnings = [line for line in printed.err.splitlines() if "displacement" in line]
    assert [f"lost {lost:.1f} nats on average" in line for line in warnings] == [True]  # not before training


def test_the_control_computes_no_reference_and_takes_the_steps_of_the_nll_term(inputs, tmp_path, capsys, request):
    """A preference term of almost no weight, which has a reference, trains the same."""
    flags = ("--num_epochs", "1", "--nll_weight", "1", "--reference", "live", "--preference_weight")
    almost = train(inputs, tmp_path / "almost", *flags, "1e-12")
    ranks = request.getfixturevalue("no_reference")
    control = train(inputs, tmp_path / "control", *flags, "0")
    assert "--preference_weight 0 needs no reference" in capsys.readouterr().out
    assert ranks == [0]
    assert [name for name in metrics(control, "val")[0] if name.startswith("rewards/")] == []
    assert_same_weights(control, almost, 1e-6)


def test_a_reference_that_is_not_the_start_stops_the_run(inputs, tmp_path):
    output = train(inputs, tmp_path / "run", "--num_epochs", "1")
    for path in (output / "reference_logps").iterdir():
        from safetensors import safe_open
        from safetensors.torch import save_file

        with safe_open(path, framework="pt") as file:
            key, tensors = file.metadata(), {name: file.get_tensor(name) + 0.1 for name in ("chosen", "rejected")}
        save_file(tensors, path, metadata=key)
    with pytest.raises(RunError, match="differ before training"):
        stage_b.main(arguments(inputs, output, "--num_epochs", "1", "--overwrite_output_dir"))


def test_cached_and_live_references_train_the_same(inputs, tmp_path):
    cached = train(inputs, tmp_path / "cached")
    live = train(inputs, tmp_path / "live", "--reference", "live")
    assert_same_weights(cached, live, 1e-5)
    before = load_file(inputs / "sft" / "adapter_model.safetensors")
    moved = max((tensor - before[name]).abs().max().item() for name, tensor in weights(cached).items())
    assert moved > 1e-3


def test_a_hinge_loss_whose_margins_are_all_met_trains_on(inputs, tmp_path):
    """The reward margin grows by beta times nats, so that after one step every margin exceeds 1 and nothing is left."""
    flags = ("--loss_type", "hinge", "--beta", "1000", "--learning_rate", "1e-2", "--max_grad_norm", "0")
    output = train(inputs, tmp_path / "run", *flags, "--num_epochs", "3", "--batch_size", "10", "--warmup_ratio", "0")
    rows = metrics(output, "train")
    assert rows[0]["grad_norm"] > 0
    assert (rows[-1]["loss"], rows[-1]["grad_norm"]) == (0, 0)


def test_the_cache_is_reused_and_replaced_when_the_data_change(inputs, tmp_path, capsys):
    output = train(inputs, tmp_path / "run", "--num_epochs", "1")
    train(inputs, output, "--num_epochs", "1", "--overwrite_output_dir")
    assert capsys.readouterr().out.count("Reference log-probabilities read from") == 2
    other = tmp_path / "other"
    shutil.copytree(inputs, other)
    write_triplets(other / "train.jsonl", 10, seed=9)
    train(other, output, "--num_epochs", "1", "--overwrite_output_dir")
    printed = capsys.readouterr().out
    assert "Reference log-probabilities saved to" in printed


def test_the_reference_is_scored_again_when_other_tokens_count(inputs, tmp_path, capsys):
    output = train(inputs, tmp_path / "run", "--num_epochs", "1")
    train(inputs, output, "--num_epochs", "1", "--overwrite_output_dir", "--loss_on", "differences")
    assert capsys.readouterr().out.count("Reference log-probabilities saved to") == 4
    train(inputs, output, "--num_epochs", "1", "--overwrite_output_dir", "--loss_on", "differences")
    printed = capsys.readouterr().out
    assert printed.count("Reference log-probabilities read from") == 2
    assert "The preference term counts " in printed


def test_the_end_of_chosen_is_watched(inputs, tmp_path, capsys, monkeypatch):
    output = train(inputs, tmp_path / "run", "--num_epochs", "2")
    printed = capsys.readouterr()
    before, *after = [row["logps/chosen_end"] for row in metrics(output, "val")]
    assert f", End of Chosen: {before:.2f} nats" in printed.out
    assert [f"  End of Chosen: {value:.2f} nats" in printed.out for value in after] == [True, True]
    assert "the end of the chosen completions" not in printed.err
    monkeypatch.setattr("training.watching.END_LIMIT", -100.0)  # any change is a fall below this
    train(inputs, output, "--num_epochs", "2", "--overwrite_output_dir")
    assert capsys.readouterr().err.count("warning: the end of the chosen completions lost") == 2  # not before training


def test_accumulation_changes_no_gradient(inputs, tmp_path):
    whole = train(inputs, tmp_path / "1x4", "--num_epochs", "1", "--nll_weight", "1")
    parts = train(
        inputs, tmp_path / "4x1", "--num_epochs", "1", "--nll_weight", "1",
        "--batch_size", "1", "--gradient_accumulation_steps", "4",
    )  # fmt: skip
    for one, other in zip(metrics(whole, "train"), metrics(parts, "train"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-6)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-5)


# 15 s. Proves that two processes take the same steps as one.
def test_two_processes_train_as_one_does(inputs, tmp_path):
    """From two weighted files, with texts so long that two of them may not fit into one row.

    So the processes have rows in different numbers.
    """
    inputs = shutil.copytree(inputs, tmp_path / "inputs")
    write_triplets(inputs / "train.jsonl", 7, seed=2, most_denials=50)
    write_triplets(inputs / "more.jsonl", 3, seed=3, most_denials=50)
    write_triplets(inputs / "more_val.jsonl", 2, seed=4)
    files = {"train_data_path": ["train", "more"], "val_data_path": ["val", "more_val"]}
    files = {name: [str(inputs / f"{stem}.jsonl") for stem in stems] for name, stems in files.items()}
    dataset = DPODataset(files["train_data_path"], load_tokenizer(inputs / "base"))
    sources = (Source(7, 5), Source(3, 5))
    options = {"num_processes": 2, "row_tokens": CPU_ROW_TOKENS, "sources": sources}
    plans = [BatchPlan(10, 2, 1, 2, 42, rank, **options) for rank in range(2)]
    numbers = [[len(plan.rows(step, dataset.tokens)) for step in range(plan.total_steps)] for plan in plans]
    assert numbers[0] != numbers[1]
    flags = [word for name, paths in files.items() for word in (f"--{name}", *paths)] + ["--data_weights", "1", "1"]
    one = train(inputs, tmp_path / "one", *flags)
    options = vars(arguments(inputs, tmp_path / "two", "--batch_size", "2"))
    names = ("sft_model_path", "output_dir", "device", "learning_rate", "batch_size")
    flags += [word for name in names for word in (f"--{name}", str(options[name]))]
    launched = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"),
            *(str(ROOT / "stage_b_dpo_training.py"), *flags),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )
    assert launched.returncode == 0, launched.stderr[-2000:]
    assert launched.stdout.count("DPO Training completed!") == 1
    two = tmp_path / "two"
    for kind in ("train", "val"):
        pairs = list(zip(metrics(one, kind), metrics(two, kind), strict=True))
        assert [second["loss"] for _, second in pairs] == pytest.approx([first["loss"] for first, _ in pairs], abs=1e-5)
        by_file = [{key: row[key] for key in row if key.startswith("chosen_preference/")} for row in pairs[-1]]
        assert by_file[0] == by_file[1]
    assert_same_weights(one, two, 1e-4)


def test_checkpointing_changes_no_gradient(inputs, tmp_path):
    plain = train(inputs, tmp_path / "plain")
    checkpointed = train(inputs, tmp_path / "checkpointed", "--gradient_checkpointing")
    assert_same_weights(plain, checkpointed, 1e-6)


def test_a_resumed_run_is_the_uninterrupted_one(inputs, tmp_path):
    whole = train(inputs, tmp_path / "whole", "--save_steps", "2")
    cut = tmp_path / "cut"
    shutil.copytree(whole, cut)
    for name in ("final_model", "checkpoint_epoch_1", "checkpoint_epoch_2", "checkpoint_step_4"):
        shutil.rmtree(cut / name)
    config = json.loads((cut / "run_config.json").read_text())
    config["arguments"]["output_dir"] = str(cut)
    (cut / "run_config.json").write_text(json.dumps(config))
    train(inputs, cut, "--save_steps", "2", "--resume")
    assert_same_weights(whole, cut, 1e-6)
    for kind in ("train", "val"):
        steps = [row["step"] for row in metrics(cut, kind)]
        assert steps == [row["step"] for row in metrics(whole, kind)]
    whole_loss = [row["loss"] for row in metrics(whole, "train")]
    assert [row["loss"] for row in metrics(cut, "train")] == pytest.approx(whole_loss, abs=1e-6)


def test_resuming_under_other_settings_is_refused(inputs, tmp_path):
    output = train(inputs, tmp_path / "run", "--num_epochs", "1")
    with pytest.raises(InputError, match="--beta"):
        stage_b.main(arguments(inputs, output, "--num_epochs", "1", "--beta", "0.5", "--resume"))


@pytest.mark.parametrize("bits", ["--use_8bit", "--use_4bit"])
def test_quantised_bases_train_with_gradients_on_every_tensor(inputs, tmp_path, bits):
    # two epochs, with an evaluation between them: 4-bit weights on a CPU lose their gradients after inference unless
    # told not to, and the script itself checks every tensor after the first backward pass of each epoch
    output = train(inputs, tmp_path / "run", bits)
    before = load_file(inputs / "sft" / "adapter_model.safetensors")
    after = weights(output)
    assert all((tensor - before[name]).abs().max() > 1e-6 for name, tensor in after.items())


@pytest.mark.parametrize("architecture", ["qwen2", "gemma3"])
def test_other_architectures(tmp_path, architecture):
    base = build_tiny_model(tmp_path / "base", architecture)
    random_adapter(tmp_path / "sft", base)
    write_triplets(tmp_path / "train.jsonl", 6)
    write_triplets(tmp_path / "val.jsonl", 3, seed=1)
    output = train(tmp_path, tmp_path / "run", "--num_epochs", "1")
    assert metrics(output, "train")[0]["loss"] == pytest.approx(0.6931472, abs=1e-5)


def test_a_fresh_adapter_is_saved_as_one_that_peft_loads_and_merges(inputs, tmp_path):
    output = train(inputs, tmp_path / "run", "--lora_r", "3")
    model = AutoPeftModelForCausalLM.from_pretrained(output / "final_model").eval()
    ids = torch.arange(3, 30).view(1, -1)
    with torch.no_grad():
        adapted = model(input_ids=ids).logits
        merged = model.merge_and_unload()(input_ids=ids).logits
    torch.testing.assert_close(merged, adapted, atol=1e-4, rtol=0)
    assert json.loads((output / "final_model" / "adapter_config.json").read_text())["r"] == 4 + 3


def test_preference_rises_and_loss_falls(inputs, tmp_path):
    output = train(inputs, tmp_path / "run", "--num_epochs", "4", "--learning_rate", "5e-3")
    before, *_, after = metrics(output, "val")
    assert after["loss"] < before["loss"] - 0.1
    assert after["rewards/margins"] > 0.3 > before["rewards/margins"]
    assert after["chosen_preference"] >= before["chosen_preference"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preference_weight", "0"], "nor both 0"),  # the control needs an NLL term
        (["--preference_weight", "nan"], "must be finite"),
        (["--nll_weight", "inf"], "must be finite"),
        (["--beta", "inf"], "--beta inf: must be a number above 0"),
        (["--factuality_margin", "-1"], "--factuality_margin -1.0: must be a number of 0 or more"),
        (["--factuality_margin", "1", "--loss_type", "ipo"], "--factuality_margin has no meaning for --loss_type ipo"),
        (["--dpop_penalty", "nan"], "--dpop_penalty nan: must be a number of 0 or more"),
        (["--dpop_penalty", "5", "--loss_type", "simpo"], "--dpop_penalty has no meaning for --loss_type simpo"),
        (["--label_smoothing", "0.1", "--loss_type", "apo_zero"], "--label_smoothing has no meaning"),
        (["--reference", "live", "--loss_type", "simpo"], "--reference live: --loss_type simpo has no reference"),
        (["--loss_on", "differences", "--loss_type", "orpo"], "--loss_type orpo compares the odds of whole"),
    ],
)
def test_weights_that_make_no_loss_are_refused(inputs, tmp_path, flags, message):
    with pytest.raises(InputError, match=message):
        stage_b.main(arguments(inputs, tmp_path / "run", *flags))


def test_the_memory_that_a_run_needs_is_checked_before_the_weights_are_loaded(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr("training.memory_estimate.available_bytes", lambda device: 10_000)
    monkeypatch.setattr(stage_b, "load_base_model", lambda *args: pytest.fail("loaded"))
    with pytest.raises(InputError, match="GiB are free"):
        stage_b.main(arguments(inputs, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_the_judges_of_the_pairs_are_recorded_with_the_model(inputs, tmp_path):
    triplets = [json.loads(line) for line in (inputs / "train.jsonl").read_text().splitlines()]
    judged = tmp_path / "judged.jsonl"
    judged.write_text("".join(json.dumps(row | {"judge": "nli:x"}) + "\n" for row in triplets))
    shutil.copytree(inputs / "sft", tmp_path / "sft")
    (tmp_path / "sft" / "sft_config.json").write_text("{}")
    flags = ("--train_data_path", str(judged), "--sft_model_path", str(tmp_path / "sft"), "--num_epochs", "1")
    output = train(inputs, tmp_path / "run", *flags)
    assert json.loads((output / "final_model" / "dpo_config.json").read_text())["pair_judges"] == ["nli:x"]


def test_a_run_that_turned_checkpointing_on_by_itself_can_be_resumed(inputs, tmp_path, monkeypatch):
    fit_memory = memory_estimate.fit_memory

    def needs_checkpointing(args, *others):
        args.gradient_checkpointing = True
        return fit_memory(args, *others)

    monkeypatch.setattr(memory_estimate, "fit_memory", needs_checkpointing)
    output = train(inputs, tmp_path / "run", "--num_epochs", "1", "--save_steps", "2")
    for name in ("final_model", "checkpoint_epoch_1"):
        shutil.rmtree(output / name)
    train(inputs, output, "--num_epochs", "1", "--save_steps", "2", "--resume")
    assert (output / "final_model").is_dir()
    stored = json.loads((output / "run_config.json").read_text())["arguments"]
    assert (stored["dtype"], stored["gradient_checkpointing"]) == ("float32", True)


def test_attention_dropout_is_off_in_stage_b(tmp_path):
    base, _ = tiny_base_and_adapter(tmp_path)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.5}))
    write_triplets(tmp_path / "train.jsonl", 4)
    write_triplets(tmp_path / "val.jsonl", 3, seed=1)
    output = train(tmp_path, tmp_path / "run", "--num_epochs", "1")
    assert metrics(output, "train")[0]["loss"] == pytest.approx(0.6931472, abs=1e-5)


# ------------------------------------------------------------------------------------ several data files


@pytest.fixture(scope="module")
def two_files(inputs, tmp_path_factory):
    """A base and an adapter with 8 and 4 training triplets and 3 and 5 validation triplets, in two files each."""
    folder = tmp_path_factory.mktemp("two_files")
    shutil.copytree(inputs, folder, dirs_exist_ok=True)
    for name, count, seed in (("a", 8, 2), ("b", 4, 3), ("val_a", 3, 4), ("val_b", 5, 5)):
        write_triplets(folder / f"{name}.jsonl", count, seed)
    swapped = [json.loads(line) for line in (folder / "val_b.jsonl").read_text().splitlines()]
    swapped = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in swapped]
    (folder / "val_b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in swapped))
    (folder / "sft" / "sft_config.json").write_text("{}")
    return folder


def two_file_flags(folder, *weights):
    flags = ["--train_data_path", folder / "a.jsonl", folder / "b.jsonl"]
    flags += ["--val_data_path", folder / "val_a.jsonl", folder / "val_b.jsonl"]
    return [*map(str, flags), *(["--data_weights", *weights] if weights else [])]


def test_weighted_files_train_in_their_shares_and_are_recorded(two_files, tmp_path, capsys):
    rows = [json.loads(line) for line in (two_files / "b.jsonl").read_text().splitlines()]
    judged = "".join(json.dumps(row | {"judge": "nli:x"}) + "\n" for row in rows)
    (two_files / "b.jsonl").write_text(judged)
    output = train(two_files, tmp_path / "run", *two_file_flags(two_files, "1", "3"))
    printed = capsys.readouterr().out
    first, second = (str(two_files / f"{name}.jsonl") for name in "ab")
    assert f"{first}: 3 of 12 triplets an epoch, from 8 (0.38 times each)" in printed
    assert f"{second}: 9 of 12 triplets an epoch, from 4 (2.25 times each)" in printed
    config = json.loads((output / "final_model" / "dpo_config.json").read_text())
    stats = json.loads((output / "dpo_training_stats.json").read_text())
    recorded = [
        {"path": first, "weight": 0.25, "triplets": 8, "triplets_an_epoch": 3},
        {"path": second, "weight": 0.75, "triplets": 4, "triplets_an_epoch": 9},
    ]
    assert config["training_files"] == stats["training_files"] == recorded
    assert config["pair_judges"] == ["nli:x"]  # of the second file
    assert (stats["steps"], stats["data"]["train"]["total"], stats["data"]["validation"]["total"]) == (6, 12, 8)
    for row in metrics(output, "val"):
        parts = (row["chosen_preference/1"], row["chosen_preference/2"])
        assert row["chosen_preference"] == pytest.approx((3 * parts[0] + 5 * parts[1]) / 8)
    assert "val_chosen_preference/2" in stats["epochs"][-1]


def test_a_weighted_run_reads_what_the_plan_draws(two_files, tmp_path):
    output = train(two_files, tmp_path / "run", *two_file_flags(two_files, "1", "3"))
    dataset = DPODataset([two_files / "a.jsonl", two_files / "b.jsonl"], load_tokenizer(two_files / "base"))
    plan = BatchPlan(12, 4, 1, 2, 42, sources=(Source(8, 3), Source(4, 9)))
    drawn = [index for step in range(6) for index in plan.step_indices(step)]
    assert json.loads((output / "dpo_training_stats.json").read_text())["tokens"] == sum(map(dataset.tokens, drawn))


def test_the_preference_of_each_validation_file_is_that_of_the_file_alone(two_files, tmp_path):
    flags = ("--num_epochs", "1")
    both = metrics(train(two_files, tmp_path / "both", *two_file_flags(two_files), *flags), "val")[0]
    alone = ("--train_data_path", str(two_files / "a.jsonl"), "--val_data_path", str(two_files / "val_b.jsonl"))
    one = metrics(train(two_files, tmp_path / "one", *alone, *flags), "val")[0]
    assert one["chosen_preference"] == both["chosen_preference/2"] < both["chosen_preference/1"]
    assert "chosen_preference/1" not in one


def test_files_without_weights_train_as_one_file_of_both(two_files, tmp_path):
    joined = tmp_path / "joined"
    shutil.copytree(two_files, joined)
    for name, files in (("train", "ab"), ("val", ("val_a", "val_b"))):
        texts = [(two_files / f"{file}.jsonl").read_text() for file in files]
        texts[1] = texts[1].replace('"id": "t', '"id": "u')  # ids are distinct within a file
        (joined / f"{name}.jsonl").write_text("".join(texts))
    one = train(joined, tmp_path / "one")
    two = train(two_files, tmp_path / "two", *two_file_flags(two_files))
    assert_same_weights(one, two, 0)
    names = [next((run / "reference_logps").glob("train-*")).name for run in (one, two)]
    assert names[0] == names[1]  # the reference is kept under what the triplets say, whichever file they are from


def test_a_weighted_run_resumes_as_the_uninterrupted_one(two_files, tmp_path):
    flags = (*two_file_flags(two_files, "0.5", "0.5"), "--save_steps", "2")
    whole = train(two_files, tmp_path / "whole", *flags)
    cut = shutil.copytree(whole, tmp_path / "cut")
    for name in ("final_model", "checkpoint_epoch_2", "checkpoint_epoch_1"):
        shutil.rmtree(cut / name)
    shutil.rmtree(cut / "checkpoint_step_4")  # what is left was saved in the middle of the first epoch
    train(two_files, cut, *flags, "--resume")
    assert_same_weights(whole, cut, 1e-6)
    losses = [[row["loss"] for row in metrics(run, "train")] for run in (whole, cut)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-6)
    with pytest.raises(InputError, match="--data_weights"):
        stage_b.main(
            arguments(two_files, cut, *two_file_flags(two_files, "0.4", "0.6"), "--save_steps", "2", "--resume")
        )


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (["0.5"], "--data_weights 0.5: 1 for 2 training files; give one per file"),
        (["1", "0"], "--data_weights 1 0: must be numbers above 0"),
        (["1", "nan"], "--data_weights 1 nan: must be numbers above 0"),
        (["1", "inf"], "--data_weights 1 inf: must be numbers above 0"),
        (["1", "0.01"], r"--data_weights 0.01 of .*b\.jsonl: 0 of 12 triplets an epoch; raise it"),
    ],
)
def test_weights_that_cannot_be(two_files, tmp_path, weights, message):
    with pytest.raises(InputError, match=message):
        stage_b.main(arguments(two_files, tmp_path / "run", *two_file_flags(two_files, *weights)))
    assert not (tmp_path / "run").exists()


def test_a_file_named_twice_is_refused(two_files, tmp_path):
    path = str(two_files / "a.jsonl")
    with pytest.raises(InputError, match=r"--train_data_path names .*a\.jsonl twice"):
        stage_b.main(arguments(two_files, tmp_path / "run", "--train_data_path", path, path))


def test_one_path_is_recorded_as_before(inputs, tmp_path):
    assert arguments(inputs, tmp_path).train_data_path == str(inputs / "train.jsonl")
    assert stage_b.parse_args([]).val_data_path == "phase2_data/dpo/val_dpo.jsonl"
    assert stage_b.parse_args(["--val_data_path", "x", "y"]).val_data_path == ["x", "y"]
