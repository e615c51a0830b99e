"""bitsandbytes is loaded for quantised models only, and they get its layers in the same process."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from repository import ROOT
from tiny_models import build_tiny_model

_ONE_PROCESS = """
import sys
import torch
from language_model.adapters import add_lora
from language_model.loading import load_base_model, load_tokenizer
from language_model.placement import Placement

folder = sys.argv[1]

def adapted(quantisation):
    placement = Placement(torch.device("cpu"), torch.float32, quantisation)
    model = add_lora(load_base_model(folder, placement, load_tokenizer(folder)), 4, 8, 0.0, ["q_proj"])
    kinds = {type(module).__module__ for module in model.modules() if hasattr(module, "lora_A")}
    return kinds, "bitsandbytes" in sys.modules

print(*map(adapted, ("none", "8bit", "4bit", "none")))
"""


# 10 s, for a process of its own: others may have loaded bitsandbytes
@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is optional")
def test_only_a_quantised_model_loads_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _ONE_PROCESS, str(build_tiny_model(tmp_path / "base"))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    plain, quantised = {"peft.tuners.lora.layer"}, {"peft.tuners.lora.bnb"}
    expected = ((plain, False), (quantised, True), (quantised, True), (plain, True))
    assert done.stdout.splitlines()[-1] == " ".join(map(str, expected))
