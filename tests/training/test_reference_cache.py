"""The cached log-probabilities of the reference: each process scores its share, and all use the file or none does."""

import math
from dataclasses import replace
from itertools import cycle
from types import SimpleNamespace

import pytest
import torch
from training_helpers import tiny_base_and_adapter, write_triplets

import stage_b_dpo_training as stage_b
from scoring.completion_scorer import CompletionScorer
from training import reference_cache
from training.batch_plan import BatchPlan, Source
from training.pair_scores import score_pairs


class FakeDataset:
    loss_on = "completion"

    def __len__(self):
        return 5

    def encoded(self, index):
        return index

    def tokens(self, index):
        return 1


def fake_run(rank, scored):
    def scorer(indices):
        scored.extend(indices)
        return torch.tensor([[-index, -index - 0.5] for index in indices]).flatten(), torch.ones(2 * len(indices))

    accelerator = SimpleNamespace(reduce=lambda tensor, _: tensor)
    plan = BatchPlan(5, 2, 1, 1, seed=0, rank=rank, num_processes=2)
    device = torch.device("cpu")
    run = SimpleNamespace(plan=plan, scorer=scorer, accelerator=accelerator, eval_batch_size=2, device=device)
    run.with_pace = lambda rows, dataset: rows
    return run


def test_each_process_scores_its_share():
    scored = [[], []]
    runs = [fake_run(rank, scored[rank]) for rank in range(2)]
    parts = [
        reference_cache.score_reference(run, FakeDataset(), reference_cache.validation_rows(run, FakeDataset()), "val")
        for run in runs
    ]
    assert scored == [[0, 2, 4], [1, 3]]
    chosen, rejected = (parts[0] + parts[1])[..., 0].unbind(1)
    assert chosen.tolist() == [0, -1, -2, -3, -4]
    assert rejected.tolist() == [-0.5, -1.5, -2.5, -3.5, -4.5]
    assert chosen.dtype == torch.float64


class RoundingScorer:
    """Scores a pair differently in every row, as half precision does."""

    def __call__(self, indices):
        logps = [[-index - len(indices) / 8, -index - sum(indices) / 512] for index in indices]
        return torch.tensor(logps).flatten(), torch.ones(2 * len(indices))


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("sources", [(), (Source(3, 6), Source(6, 3))], ids=["plain", "weighted"])
def test_training_pairs_are_scored_in_the_rows_of_the_first_epoch(processes, sources):
    size = 9
    dataset = type("Nine", (FakeDataset,), {"__len__": lambda self: size})()
    plans = [
        BatchPlan(size, 2, 1, 2, seed=3, rank=rank, num_processes=processes, sources=sources)
        for rank in range(processes)
    ]
    runs = [SimpleNamespace(**vars(fake_run(0, [])) | {"plan": plan, "scorer": RoundingScorer()}) for plan in plans]
    rows = [reference_cache.training_rows(run, dataset) for run in runs]
    assert sorted({index for own in rows for row in own for index in row.kept}) == list(range(size))
    parts = [reference_cache.score_reference(run, dataset, own, "train") for run, own in zip(runs, rows, strict=True)]
    cached = sum(parts)[..., 0]  # (9, 2)
    first: dict[int, torch.Tensor] = {}  # the scores that training meets first
    for step in range(plans[0].steps_per_epoch):
        for index, process in zip(plans[0].step_indices(step), cycle(range(processes))):
            pairs = next(pairs for pairs in plans[process].rows(step, dataset.tokens) if index in pairs)
            scores = RoundingScorer()(pairs)[0].view(-1, 2)[pairs.index(index)]
            first.setdefault(index, scores.double())
    assert len(first) == size if not sources else len(first) < size
    for index, scores in first.items():
        assert torch.equal(cached[index], scores), index


@pytest.mark.parametrize("loss_on", ["completion", "rejected_differences"])
@pytest.mark.parametrize("reference", ["cached", "live"])
def test_step_0_is_exact_where_every_row_rounds_differently(tmp_path, monkeypatch, reference, loss_on):
    score = CompletionScorer.forward

    def rounded(self, examples, parts=None):
        logps, tokens = score(self, examples, parts)
        return logps + sum(example.tokens for example in examples) / 64, tokens

    monkeypatch.setattr(CompletionScorer, "forward", rounded)
    _, adapter = tiny_base_and_adapter(tmp_path)
    train, val = (write_triplets(tmp_path / f"{name}.jsonl", 12, seed=seed) for seed, name in enumerate("tv"))
    flags = ["--sft_model_path", adapter, "--train_data_path", train, "--val_data_path", val, "--batch_size", "4"]
    flags += ["--output_dir", tmp_path / "run", "--device", "cpu", "--dtype", "bfloat16", "--eval_batch_size", "2"]
    args = stage_b.parse_args([*map(str, flags), "--reference", reference, "--loss_on", loss_on])
    run, pair, data, val_data = stage_b.prepare(args)
    for step in range(run.plan.steps_per_epoch):
        for row in run.plan.rows(step, data.dataset.tokens):
            scores = score_pairs(run, pair, data, row)
            assert torch.equal(scores.policy_chosen, scores.reference_chosen)
            assert torch.equal(scores.policy_rejected, scores.reference_rejected)
    assert stage_b.evaluate(run, pair, val_data)["loss"] == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("other", [["--lora_alpha", "640"], ["--use_rslora"]])
def test_a_start_of_another_scale_is_scored_again(tmp_path, other):
    """PiSSA's two adapters round otherwise with another scaling; the earlier cache would not be the policy's start."""
    base, _ = tiny_base_and_adapter(tmp_path)
    pairs = write_triplets(tmp_path / "pairs.jsonl", 6)
    flags = ["--sft_model_path", base, "--train_data_path", pairs, "--val_data_path", pairs, "--batch_size", "3"]
    flags += ["--output_dir", tmp_path / "run", "--device", "cpu", "--dtype", "float32", "--lora_init", "pissa"]
    flags += ["--lora_r", "8", "--overwrite_output_dir", "--skip_preflight"]
    cached = {}
    for more in ([], other):
        run, pair, data, _ = stage_b.prepare(stage_b.parse_args([*map(str, flags), *more]))
        cached[len(more)] = data.reference
        for step in range(run.plan.steps_per_epoch):
            for row in run.plan.rows(step, data.dataset.tokens):
                scores = score_pairs(run, pair, data, row)
                assert torch.equal(scores.policy_chosen, scores.reference_chosen)
    assert not torch.equal(*cached.values())


def test_the_key_depends_on_the_rows_of_training_and_not_on_the_process():
    plain = {"lora_r": None, "lora_init": "zero", "use_dora": False, "lora_modules_to_save": []}
    plain |= {"lora_target_modules": None, "lora_exclude_modules": [], "lora_alpha": None, "use_rslora": False}

    def layout(name, flags=None, **changes):
        run = fake_run(0, [])
        run.args = SimpleNamespace(**plain | (flags or {}))
        run.plan, run.scorer = replace(run.plan, **changes), SimpleNamespace(is_packed=True, is_fused=True)
        return reference_cache.layout_of(run, name)

    assert layout("train", rank=1, num_epochs=9) == layout("train")
    for change in ({"batch_size": 3}, {"seed": 1}, {"accumulation": 2}, {"sources": (Source(5, 5),)}):
        assert layout("train", **change) != layout("train")
        assert layout("val", **change) == layout("val")
    for flags in ({"lora_r": 4}, {"lora_init": "pissa"}, {"use_dora": True}, {"lora_modules_to_save": ["lm_head"]}):
        assert layout("val", flags) != layout("val")
    for flags in ({"lora_alpha": 4}, {"use_rslora": True}):
        assert layout("val", flags) == layout("val")  # an adapter that starts with B = 0
        assert layout("val", flags | {"lora_init": "pissa"}) != layout("val", {"lora_init": "pissa"})
    assert layout("val", row_tokens=640) != layout("val")


@pytest.mark.parametrize("others_have_it", [True, False])
def test_the_file_is_read_only_if_every_process_can(tmp_path, others_have_it):
    logps = torch.arange(8, dtype=torch.float64).view(2, 2, 2)
    alone = SimpleNamespace(is_main_process=True, device=torch.device("cpu"), gather=lambda tensor: tensor)
    path = tmp_path / "logps.safetensors"
    reference_cache.read_or_score(path, "key", alone, lambda: logps)
    together = SimpleNamespace(**vars(alone) | {"gather": lambda tensor: torch.tensor([True, others_have_it])})
    again = []
    found = reference_cache.read_or_score(path, "key", together, lambda: again.append(1) or logps)
    assert torch.equal(found[1], logps[1])
    assert len(again) == (0 if others_have_it else 1)
