"""The short form of the harness that kills stages, and that it would notice a difference."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from training_helpers import ROOT

from benchmarks.torture_runs import differences
from script_io.measured import page_without_measured


# 12 s of a core. Stage A is killed at any time, in a write, before its first checkpoint and inside one.
@pytest.mark.skipif(sys.platform != "linux", reason="the harness reads /proc")
def test_stage_a_survives_kills_at_any_moment() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "torture.py"), "--short"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.stdout.splitlines()[-1:] == ["kills survived: 4 of 4"], done.stdout + done.stderr
    assert done.returncode == 0


def write(folder: Path, name: str, content: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content, encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "content", "other"),
    [
        ("stats.json", {"loss": 1.0, "seconds": 2.0}, {"loss": 1.5, "seconds": 2.0}),
        ("metrics.jsonl", {"epochs": [{"loss": 1.0}]}, {"epochs": [{"loss": 1.5}]}),
        ("results.csv", "id,seconds\na,1\n", "id,seconds\nb,1\n"),
        ("model/weights.safetensors", "one", "two"),
    ],
)
def test_a_difference_is_found(tmp_path: Path, name: str, content: object, other: object) -> None:
    for folder, text in (("whole", content), ("same", content), ("other", other)):
        write(tmp_path / folder, name, text if isinstance(text, str) else json.dumps(text))
    assert differences(tmp_path / "whole", tmp_path / "same") == []
    assert differences(tmp_path / "whole", tmp_path / "other") == [f"{name}: differs"]
    write(tmp_path / "same", ".left.tmp", "")
    assert differences(tmp_path / "whole", tmp_path / "same") == [".left.tmp: in the resumed run only"]


def test_measured_fields_make_no_difference(tmp_path: Path) -> None:
    for folder, seconds in (("whole", 1.5), ("resumed", 2.5)):
        write(tmp_path / folder, "stats.json", json.dumps({"epochs": [{"seconds": seconds}], "tokens": 3}))
        write(tmp_path / folder, "metrics.jsonl", json.dumps({"tokens_per_second": seconds}) + "\n")
        write(tmp_path / folder, "results.csv", f"id,seconds\na,{seconds}\n")
    assert differences(tmp_path / "whole", tmp_path / "resumed") == []
    page = (
        '<p class="quiet">8 claims; {} s</p><span class="quiet">in seconds</span></th><td class="n">{}</td><b>1.5</b>'
    )
    assert page_without_measured(page.format(1.5, 1.5)) == page_without_measured(page.format(2.5, 2.5))
