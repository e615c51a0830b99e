"""Which examples each step sees, and the learning rate of each step."""

import math

import pytest
import torch

from training_plan import BatchPlan, learning_rate_factor, row_tokens_on


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
    plans = [BatchPlan(5, 1, 2, 1, seed=3, rank=rank, world=2) for rank in range(2)]
    first = [index for plan in plans for row in plan.rows(0, one_token) for index in row]
    assert sorted(first) == sorted(plans[0].step_indices(0))
    assert plans[0].steps_per_epoch == 2
    assert all(plan.rows(1, one_token) for plan in plans)  # one example is left for two processes
    dealt = [plan.evaluation_rows(5, 2, one_token) for plan in plans]
    assert dealt == [[[0, 2], [4]], [[1, 3]]]


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
