"""The benchmark of threads next to busy processes: the order of its runs and the figures that it prints."""

from __future__ import annotations

import json
import subprocess

import pytest

from benchmarks import thread_contention
from script_io.errors import InputError


def test_the_settings_take_turns_and_the_medians_are_printed(monkeypatch, capsys):
    speeds = iter([100.0, 90.0, 10.0, 45.0, 120.0, 90.0, 10.0, 45.0, 110.0, 92.0, 30.0, 46.0])
    runs = []

    def measure(folder, data, setting, num_threads):
        runs.append(setting)
        assert [len(path.read_text().splitlines()) > 1 for path in data] == [True, True]
        return next(speeds)

    monkeypatch.setattr(thread_contention, "tokens_per_second", measure)
    assert thread_contention.main(thread_contention.parse_args(["--settings", "default", "5000"])) == 0
    assert runs == ["default", "5000"] * 6
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    first, second = last["cases"]
    assert (first["tokens_per_second_alone"], first["tokens_per_second_contended"]) == (110, 10)
    assert (first["loss_factor"], second["loss_factor"]) == (11.0, 2.0)


def test_each_setting_has_its_environment():
    assert thread_contention.waiting("passive") == {"OMP_WAIT_POLICY": "PASSIVE"}
    assert thread_contention.waiting("5000") == {"GOMP_SPINCOUNT": "5000"}
    assert thread_contention.waiting("ours") == {}
    with pytest.raises(InputError, match="--settings fast"):
        thread_contention.waiting("fast")


def test_the_busy_processes_end_with_the_block(monkeypatch):
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command: started.append(popen(command)) or started[-1])
    with thread_contention.busy_processes(1):
        assert started[0].poll() is None
    assert started[0].poll() is not None


def test_a_run_gives_the_speed_of_stage_a(tmp_path):
    data = thread_contention.write_rows("train", 64, tmp_path), thread_contention.write_rows("validation", 2, tmp_path)
    assert thread_contention.tokens_per_second(tmp_path / "run", data, "5000", 1) > 0
    config = json.loads((tmp_path / "run" / "run_config.json").read_text())
    assert config["arguments"]["num_threads"] == 1
