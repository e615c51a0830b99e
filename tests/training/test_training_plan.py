"""Which examples each step sees, and the learning rate of each step."""

import math
from collections import Counter

import pytest
import torch

from training.batch_plan import BatchPlan, Source, row_tokens_on, weighted_sources
from training.settings import learning_rate_factor


def one_token(index):
    return 1


def test_a_row_has_no_more_tokens_than_the_device_is_quick_with():
    plan = BatchPlan(6, 6, 1, 1, seed=0, row_tokens=row_tokens_on(torch.device("cpu")))
    assert [len(row) for row in plan.rows(0, lambda index: 250)] == [2, 2, 2]
    assert [len(row) for row in plan.rows(0, lambda index: 5000)] == [1] * 6
    assert row_tokens_on(torch.device("cuda")) > 10**9


def test_every_example_once_an_epoch_in_an_order_of_its_own():
    plan = BatchPlan(num_examples=10, batch_size=2, accumulation=2, num_epochs=2, seed=1)
    assert (plan.steps_per_epoch, plan.total_steps, plan.batches_per_epoch) == (3, 6, 5)
    epochs = [[i for step in range(3 * e, 3 * e + 3) for i in plan.step_indices(step)] for e in range(2)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 2
    assert epochs[0] != epochs[1]
    assert [len(row) for row in plan.rows(0, one_token)] == [2, 2]
    assert [len(row) for row in plan.rows(2, one_token)] == [2]
    assert BatchPlan(10, 2, 2, 2, seed=1).step_indices(4) == plan.step_indices(4)


def test_processes_share_each_step_and_none_is_left_without():
    plans = [BatchPlan(5, 1, 2, 1, seed=3, rank=rank, num_processes=2) for rank in range(2)]
    first = [index for plan in plans for row in plan.rows(0, one_token) for index in row]
    assert sorted(first) == sorted(plans[0].step_indices(0))
    assert plans[0].steps_per_epoch == 2
    assert all(plan.rows(1, one_token) for plan in plans)  # one example is left for two processes
    more_processes_than_examples = [BatchPlan(1, 1, 1, 1, seed=3, rank=rank, num_processes=4) for rank in range(4)]
    assert [plan.rows(0, one_token) for plan in more_processes_than_examples] == [[[0]]] * 4
    dealt = [plan.evaluation_rows(5, 2, one_token) for plan in plans]
    assert dealt == [[[0, 2], [4]], [[1, 3]]]


# 60 triplets and 20, half of every epoch each: 40 of the 60, and the 20 twice
SIZES, HALVES = (60, 20), (Source(60, 40), Source(20, 40))


def weighted_plan(**changes):
    options = {"num_examples": 80, "batch_size": 5, "accumulation": 2, "num_epochs": 3, "seed": 7, "sources": HALVES}
    return BatchPlan(**options | changes)


def epochs_of(plan):
    starts = range(0, plan.total_steps, plan.steps_per_epoch)
    return [[i for step in range(plan.steps_per_epoch) for i in plan.step_indices(start + step)] for start in starts]


@pytest.mark.parametrize(
    ("sizes", "weights", "drawn"),
    [
        ((60, 20), (0.5, 0.5), [40, 40]),
        ((60, 20), (3, 1), [60, 20]),
        ((418, 191), (7, 3), [426, 183]),  # 426.3 and 182.7
        ((10, 10, 10), (1, 1, 1), [10, 10, 10]),
        ((1, 2, 2), (1, 1, 1), [2, 2, 1]),  # 5 thirds each: what is left goes to the first ones
        ((5, 5), (1e-9, 1), [0, 10]),
    ],
)
def test_shares_of_an_epoch_by_hand(sizes, weights, drawn):
    sources = weighted_sources(sizes, weights)
    assert [source.size for source in sources] == list(sizes)
    assert [source.drawn for source in sources] == drawn


def test_every_epoch_has_the_exact_shares_and_no_triplet_twice_before_all_of_its_file_once():
    plan = weighted_plan()
    assert (plan.steps_per_epoch, plan.total_steps) == (8, 24)
    epochs = epochs_of(plan)
    for epoch in epochs:
        large, small = [i for i in epoch if i < 60], [i for i in epoch if i >= 60]
        assert (len(large), len(small)) == (40, 40)
        assert len(set(large)) == 40
        assert sorted(small[:20]) == sorted(small[20:]) == list(range(60, 80))
    # 3 epochs of 40 are the 60 twice, and what one epoch left out comes in the next
    assert Counter(i for epoch in epochs for i in epoch if i < 60) == dict.fromkeys(range(60), 2)
    assert set(range(60)) <= {*epochs[0], *epochs[1]}
    orders = [[i for i in epoch if i >= 60] for epoch in epochs]
    assert orders[0][:20] != orders[0][20:]
    assert orders[0] != orders[1]


def test_files_are_mixed_within_an_epoch():
    first_half = epochs_of(weighted_plan())[0][:40]
    assert 12 <= sum(i < 60 for i in first_half) <= 28  # 20 on average, standard deviation 2.2


def test_shares_that_do_not_divide_stay_balanced_over_the_epochs():
    plan = weighted_plan(num_examples=14, sources=(Source(7, 10), Source(7, 4)), num_epochs=7)
    totals = Counter()
    for epoch in epochs_of(plan):
        counts = Counter(epoch)
        assert [counts[i] for i in range(7)].count(2) == 3
        assert all(1 <= counts[i] <= 2 for i in range(7))
        assert sum(counts[i] for i in range(7, 14)) == len({i for i in epoch if i >= 7}) == 4
        totals += counts
        assert max(totals[i] for i in range(7)) - min(totals[i] for i in range(7)) <= 1
        assert max(totals[i] for i in range(7, 14)) - min(totals[i] for i in range(7, 14)) <= 1
    assert totals == dict.fromkeys(range(7), 10) | dict.fromkeys(range(7, 14), 4)


def test_a_small_file_comes_whole_again_and_again():
    plan = weighted_plan(num_examples=20, sources=(Source(16, 6), Source(4, 14)))
    for epoch in epochs_of(plan):
        small = [i for i in epoch if i >= 16]
        rounds = [small[start : start + 4] for start in range(0, 14, 4)]
        assert [sorted(each) for each in rounds[:3]] == [[16, 17, 18, 19]] * 3
        assert len(set(rounds[3])) == 2


def test_the_draw_follows_from_seed_and_step_alone():
    plan = weighted_plan()
    last = plan.step_indices(23)
    assert weighted_plan().step_indices(23) == last
    assert weighted_plan(seed=8).step_indices(23) != last
    assert weighted_plan(num_epochs=5).step_indices(23) == last


def test_without_weights_the_order_is_the_one_that_runs_have_always_had():
    plan = BatchPlan(num_examples=10, batch_size=2, accumulation=2, num_epochs=2, seed=3)
    assert epochs_of(plan)[1] == [0, 7, 4, 9, 6, 2, 3, 8, 1, 5]


def test_processes_take_disjoint_parts_of_the_same_draw():
    plans = [weighted_plan(accumulation=1, rank=rank, num_processes=2) for rank in range(2)]
    one = weighted_plan()
    for step in range(one.total_steps):
        parts = [[i for row in plan.rows(step, one_token) for i in row] for plan in plans]
        assert [len(part) for part in parts] == [5, 5]
        assert Counter(parts[0] + parts[1]) == Counter(one.step_indices(step))
    tail = [weighted_plan(num_examples=9, batch_size=2, accumulation=2, sources=(Source(6, 5), Source(3, 4)), rank=rank,
                          num_processes=2) for rank in range(2)]  # fmt: skip
    assert all(plan.rows(1, one_token) for plan in tail)  # one triplet is left for two processes


@pytest.mark.parametrize(
    ("schedule", "middle", "end"), [("cosine", 0.5, 0.0), ("linear", 0.5, 0.0), ("constant", 1.0, 1.0)]
)
def test_schedules_by_hand(schedule, middle, end):
    # 2 warm-up steps of 10: shares 1/3, 2/3, then from 1 at step 2 to the end at step 10
    assert learning_rate_factor(0, 10, 2, schedule) == pytest.approx(1 / 3)
    assert learning_rate_factor(1, 10, 2, schedule) == pytest.approx(2 / 3)
    assert learning_rate_factor(2, 10, 2, schedule) == pytest.approx(1.0)
    assert learning_rate_factor(6, 10, 2, schedule) == pytest.approx(middle)
    assert learning_rate_factor(10, 10, 2, schedule) == pytest.approx(end, abs=1e-12)
    assert learning_rate_factor(4, 10, 2, "cosine") == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
