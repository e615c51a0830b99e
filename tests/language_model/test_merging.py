"""The tolerance of a merge tells sound merges from wrong ones in every dtype, bfloat16 included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from peft.tuners.lora import Linear
from tiny_models import build_tiny_model
from training_helpers import perturb

from language_model.adapters import add_lora, untie_adapted_embeddings
from language_model.loading import load_base_model, load_tokenizer
from language_model.local_sampler import merge_adapter
from language_model.merging import changed_share, require_same_logits, tolerance_of
from language_model.placement import Placement
from script_io.errors import RunError

IDS = torch.arange(3, 43).view(1, -1)
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("merging") / "base", "gemma3")  # its head is tied


def adapted(base: Path, dtype: torch.dtype, targets: list[str]) -> PeftModel:
    """A policy whose adapter changes the logits by a third to a half of their size."""
    placement = Placement(torch.device("cpu"), dtype, "none")
    policy = add_lora(load_base_model(base, placement, load_tokenizer(base)), 16, 32, 0.0, targets).eval()
    perturb(policy, 0, 0.05)
    return policy


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits[0].float()
    return found


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sound_merges_pass_and_a_scaled_adapter_does_not(
    base: Path, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, delta = adapted(base, dtype, ["all-linear"]), Linear.get_delta_weight
    weights = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    before, shares = logits(policy), {}
    for fault, factor in (("sound", 1.0), ("doubled", 2.0), ("halved", 0.5), ("left out", 0.0)):
        monkeypatch.setattr(Linear, "get_delta_weight", lambda self, name, by=factor: by * delta(self, name))
        merge_adapter(policy)
        shares[fault] = changed_share(before, logits(policy))
        for layer in policy.modules():
            if isinstance(layer, Linear):
                layer.merged_adapters.clear()
        policy.load_state_dict(weights)
    print(f"{dtype}: {', '.join(f'{fault} {share:.1e}' for fault, share in shares.items())}")
    assert shares.pop("sound") < tolerance_of(dtype) / 3
    assert min(shares.values()) > tolerance_of(dtype) * 1.5


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_adapter_of_a_head_that_is_still_tied_does_not_pass(base: Path, dtype: torch.dtype) -> None:
    for unties in (True, False):
        policy = adapted(base, dtype, ["lm_head"])
        if unties:
            untie_adapted_embeddings(policy)
        before = logits(policy)
        merge_adapter(policy)
        after = logits(policy)
        print(f"{dtype}: untied first: {unties}: {changed_share(before, after):.1e}")
        if unties:
            assert changed_share(before, after) < tolerance_of(dtype) / 3
            assert "tolerance" in require_same_logits("sound", before, after, dtype)
        else:
            with pytest.raises(RunError, match=r"wrong: merging changed the logits by \d\d\.\d%"):
                require_same_logits("wrong", before, after, dtype)


def test_the_share_leaves_out_what_no_probability_depends_on() -> None:
    before = torch.tensor([[1.0, -1.0, 0.0], [2.0, 0.0, -2.0]])
    assert changed_share(before, before + 7) == pytest.approx(0, abs=1e-6)
    assert changed_share(before, 1.5 * before) == pytest.approx(0.5)
