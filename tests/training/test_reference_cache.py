"""The cached log-probabilities of the reference: each process scores its share, and all use the file or none does."""

from types import SimpleNamespace

import pytest
import torch

from training import reference_cache
from training.batch_plan import BatchPlan


class FakeDataset:
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
    return SimpleNamespace(plan=plan, scorer=scorer, accelerator=accelerator, eval_batch_size=2, device=device)


def test_each_process_scores_its_share():
    scored = [[], []]
    parts = [reference_cache.score_reference(fake_run(rank, scored[rank]), FakeDataset(), "train") for rank in range(2)]
    assert scored == [[0, 2, 4], [1, 3]]
    chosen, rejected = (first + second for first, second in zip(*parts, strict=True))
    assert chosen.tolist() == [0, -1, -2, -3, -4]
    assert rejected.tolist() == [-0.5, -1.5, -2.5, -3.5, -4.5]
    assert chosen.dtype == torch.float64


@pytest.mark.parametrize("others_have_it", [True, False])
def test_the_file_is_read_only_if_every_process_can(tmp_path, others_have_it):
    logps = (torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    alone = SimpleNamespace(is_main_process=True, device=torch.device("cpu"), gather=lambda tensor: tensor)
    path = tmp_path / "logps.safetensors"
    reference_cache.read_or_score(path, "key", alone, lambda: logps)
    together = SimpleNamespace(**vars(alone) | {"gather": lambda tensor: torch.tensor([True, others_have_it])})
    again = []
    found = reference_cache.read_or_score(path, "key", together, lambda: again.append(1) or logps)
    assert torch.equal(found[1], logps[1])
    assert len(again) == (0 if others_have_it else 1)
