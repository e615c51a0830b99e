"""How waiting threads behave, and which number of threads is chosen, printed and kept."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from tiny_models import build_tiny_model
from training_helpers import ROOT

from language_model import threads
from language_model.sampler_flags import local_sampler
from language_model.threads import use_threads
from sft_inference import parse_args

WAIT_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    """Let torch seem to have two threads, with nothing set by the user."""
    before = torch.get_num_threads()
    for name in ("OMP_NUM_THREADS", "WORLD_SIZE", *WAIT_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "_available_threads", lambda: 2)
    threads._measured_threads.cache_clear()
    yield
    threads._measured_threads.cache_clear()
    torch.set_num_threads(before)


def takes(monkeypatch, seconds: dict[int, float]) -> None:
    monkeypatch.setattr(threads, "_seconds_of_layer", lambda size, count: seconds[count])


@pytest.mark.parametrize(
    ("seconds", "chosen", "reason"),
    [
        ({1: 1.0, 2: 0.5}, 2, "measured, 2.0 times as fast as 1"),
        ({1: 1.0, 2: 0.9}, 1, "measured, 2 are only 1.1 times as fast"),
        ({1: 1.0, 2: 20.0}, 1, "measured, 2 are only 0.1 times as fast"),
    ],
)
def test_the_second_thread_is_used_only_if_it_gains_much(monkeypatch, capsys, seconds, chosen, reason):
    takes(monkeypatch, seconds)
    assert use_threads(0, 256) == chosen
    assert torch.get_num_threads() == chosen
    out = capsys.readouterr().out
    assert out.startswith(f"Threads: {chosen} of 2 (")
    assert reason in out


def test_the_fewest_threads_that_are_about_as_fast_are_taken(monkeypatch):
    monkeypatch.setattr(threads, "_available_threads", lambda: 6)
    takes(monkeypatch, {1: 1.0, 2: 0.5, 4: 0.3, 6: 0.26})
    assert use_threads(0, 256) == 4


@pytest.mark.parametrize(
    ("asked", "size", "environment", "chosen", "reason"),
    [
        (3, 256, {}, 3, "asked for"),
        (3, 256, {"OMP_NUM_THREADS": "2"}, 3, "asked for"),
        (0, 256, {"OMP_NUM_THREADS": "2"}, 2, "OMP_NUM_THREADS"),
        (0, 256, {"WORLD_SIZE": "2"}, 2, "several processes"),
        (0, 4096, {}, 2, "auto: all"),
        (0, None, {}, 2, "auto: all"),
    ],
)
def test_nothing_is_measured_where_the_number_is_known(monkeypatch, capsys, asked, size, environment, chosen, reason):
    monkeypatch.setattr(threads, "_seconds_of_layer", lambda *_: pytest.fail("measured"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert use_threads(asked, size) == torch.get_num_threads() == chosen
    assert reason in capsys.readouterr().out


def test_the_measurement_computes_with_the_number_it_is_given():
    assert 0 < threads._seconds_of_layer(32, 1) < 1
    assert torch.get_num_threads() == 1
    threads._seconds_of_layer(32, 2)
    assert torch.get_num_threads() == 2


def test_waiting_is_shortened_unless_the_user_set_it(monkeypatch):
    threads.set_environment()
    assert os.environ["GOMP_SPINCOUNT"] == str(threads.SPIN_COUNT)
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    threads.set_environment()
    assert "GOMP_SPINCOUNT" not in os.environ


def test_the_environment_is_set_before_torch_is_loaded():
    names = ("GOMP_SPINCOUNT", "LRU_CACHE_CAPACITY")
    code = f"import stage_a_sft_training, os, sys; print('torch' in sys.modules, *map(os.environ.get, {names}))"
    environment = {name: value for name, value in os.environ.items() if name not in names}
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert printed.split() == ["False", str(threads.SPIN_COUNT), str(threads.COMPILED_PRODUCTS)]


def test_sampling_uses_the_threads_that_are_asked_for(tmp_path, capsys):
    model = build_tiny_model(tmp_path)
    local_sampler(parse_args(["--model_path", str(model), "--device", "cpu", "--num_threads", "2"]), str(model))
    assert torch.get_num_threads() == 2
    assert "Threads: 2 of 2 (asked for)" in capsys.readouterr().out
