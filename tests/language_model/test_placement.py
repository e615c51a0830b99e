"""Which dtype `auto` comes to, and that training on a CPU measures before it leaves float32."""

from __future__ import annotations

import argparse

import pytest
import torch
from tiny_models import build_tiny_model

from language_model import placement
from language_model.loading import load_for_inference
from language_model.placement import choose_placement
from script_io.errors import InputError


def arguments(**changes):
    settings = {"device": "cpu", "dtype": "auto", "use_8bit": False, "use_4bit": False, "trust_remote_code": False}
    return argparse.Namespace(**settings | {"num_threads": 0} | changes)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(build_tiny_model(tmp_path_factory.mktemp("base")))


def measured(monkeypatch, float32: float, bfloat16: float) -> None:
    seconds = {torch.float32: float32, torch.bfloat16: bfloat16}
    monkeypatch.setattr(placement, "_seconds_of_product", lambda size, dtype: seconds[dtype])


@pytest.mark.parametrize(
    ("bfloat16", "dtype", "reason"),
    [(1.0, torch.bfloat16, "measured, 2.0 times as fast"), (1.9, torch.float32, "only 1.1 times as fast")],
)
def test_training_takes_bfloat16_where_the_cpu_is_faster_with_it(base, monkeypatch, capsys, bfloat16, dtype, reason):
    measured(monkeypatch, 2.0, bfloat16)
    monkeypatch.setattr(placement, "MIN_BFLOAT16_SIZE", 32)  # the tiny model's
    assert choose_placement(arguments(), base).dtype == dtype
    assert reason in capsys.readouterr().out


def test_a_small_model_and_inference_stay_exact_without_a_measurement(base, monkeypatch):
    monkeypatch.setattr(placement, "_seconds_of_product", lambda size, dtype: pytest.fail("measured"))
    assert choose_placement(arguments(), base).dtype == torch.float32
    assert choose_placement(arguments()).dtype == torch.float32
    assert choose_placement(arguments(dtype="bfloat16"), base).dtype == torch.bfloat16


def test_sampling_takes_bfloat16_where_it_is_faster_and_says_what_that_does(base, monkeypatch, capsys):
    measured(monkeypatch, 2.0, 1.0)
    monkeypatch.setattr(placement, "MIN_BFLOAT16_SIZE", 32)
    assert load_for_inference(base, device="cpu").model.dtype == torch.bfloat16
    assert "measured, 2.0 times as fast as float32 here; texts differ from those in float32" in capsys.readouterr().out
    assert choose_placement(arguments(), base).dtype == torch.bfloat16
    assert "texts differ" not in capsys.readouterr().out


def test_the_measurement_is_of_real_products():
    assert 0 < placement._seconds_of_product(64, torch.bfloat16) < 1


def test_a_base_without_a_configuration_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"no config\.json could be read"):
        choose_placement(arguments(), str(tmp_path))


def test_training_stores_its_number_of_threads_and_inference_does_not(base, capsys):
    training, inference = arguments(num_threads=1), arguments(num_threads=1)
    choose_placement(training, base)
    choose_placement(inference)
    assert capsys.readouterr().out.count("Threads: 1 of ") == 2
    chosen = arguments()
    choose_placement(chosen, base)
    assert chosen.num_threads == torch.get_num_threads()
    left = arguments()
    choose_placement(left)
    assert left.num_threads == 0
