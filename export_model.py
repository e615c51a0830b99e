"""Export: merges an adapter into its base, checks that nothing changed, and saves a standalone model.

In:  an adapter folder (`final_model` of either stage).
Out: a folder that `AutoModelForCausalLM` loads, with tokenizer and prompt format, optionally quantised by bitsandbytes.

    python export_model.py --model_path models/sft_specialist/final_model --output_dir models/sft_merged
    python export_model.py --model_path models/dpo_hallucination_resistant/final_model --output_dir models/dpo_4bit \\
        --quantize 4bit
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from language_model.adapters import attach_adapter
from language_model.loading import load_base_model, load_tokenizer
from language_model.model_files import replace_folder, require_adapter
from language_model.placement import Placement, add_model_arguments, choose_placement
from language_model.prompt_format import build_prompt, encode_prompt, load_prompt_format, save_prompt_format
from script_io.errors import ArgumentParser, InputError, RunError, run_script

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PROBE_NOTE = (
    "Patient is a 54-year-old woman with 3 weeks of chest pain. Denies fever. BP 142/88, HR 96 bpm. Suspected "
    "pulmonary embolism. Started apixaban 10 mg twice daily. Follow up in 2 weeks."
)
# Of the largest logit difference between adapter and merged model; in half precision the merged weights are rounded.
LOGIT_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.5, "float16": 0.1}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    model = parser.add_argument_group("Model")
    model.add_argument("--model_path", required=True, help="adapter folder, such as a stage's final_model")
    model.add_argument(
        "--quantize", choices=("none", "8bit", "4bit"), default="none", help="store the weights so (default: none)"
    )
    output = parser.add_argument_group("Output")
    output.add_argument("--output_dir", required=True, help="folder to write; must not hold anything yet")
    output.add_argument("--overwrite_output_dir", action="store_true", help="replace what is in that folder")
    add_model_arguments(parser)
    return parser.parse_args(argv)


def probe_logits(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, prompt_format: str, device: torch.device
) -> torch.Tensor:
    """Logits (T, V) of a fixed note, float32, on the CPU."""
    import torch

    ids = encode_prompt(tokenizer, build_prompt(PROBE_NOTE), prompt_format)
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=torch.tensor([ids], device=device)).logits[0]
    return logits.float().cpu()


def merge(
    base: PreTrainedModel, model_path: str, tokenizer: PreTrainedTokenizerBase, prompt_format: str, placement: Placement
) -> PreTrainedModel:
    """The base with the adapter folded into its weights. Raises RunError where the logits are not the adapter's."""
    adapted = attach_adapter(base, model_path, "default", trainable=False).eval()
    before = probe_logits(adapted, tokenizer, prompt_format, placement.device)
    merged: PreTrainedModel = adapted.merge_and_unload(safe_merge=True)
    difference = (probe_logits(merged, tokenizer, prompt_format, placement.device) - before).abs().max().item()
    tolerance = LOGIT_TOLERANCE[str(placement.dtype).removeprefix("torch.")]
    print(f"Largest logit difference between adapter and merged model: {difference:.1e} (tolerance {tolerance:g})")
    if not difference <= tolerance:
        raise RunError(f"{model_path}: merging changed the logits by {difference:.1e}; merge in --dtype float32")
    return merged


def quantise(folder: Path, kind: str, placement: Placement, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The model in `folder`, loaded again with its linear layers quantised."""
    return load_base_model(folder, replace(placement, quantisation=kind), tokenizer)


def main(args: argparse.Namespace) -> int:
    output = Path(args.output_dir)
    if output.exists() and (not output.is_dir() or any(output.iterdir())) and not args.overwrite_output_dir:
        raise InputError(f"{output}: is not empty; pass --overwrite_output_dir or another --output_dir")
    if args.use_8bit or args.use_4bit:
        raise InputError("merging needs the base's own weights; use --quantize to store the result quantised")
    base_name = require_adapter(args.model_path, "name the final_model of a stage")["base_model_name_or_path"]
    placement = choose_placement(args)
    tokenizer = load_tokenizer(args.model_path, args.trust_remote_code)
    prompt_format = load_prompt_format(args.model_path, tokenizer)
    model = merge(
        load_base_model(base_name, placement, tokenizer), args.model_path, tokenizer, prompt_format, placement
    )

    temporary = output.with_name(f".{output.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(temporary)
    if args.quantize != "none":
        model = quantise(temporary, args.quantize, placement, tokenizer)
        shutil.rmtree(temporary)
        model.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    save_prompt_format(temporary, tokenizer, prompt_format)
    replace_folder(temporary, output)
    size = sum(path.stat().st_size for path in output.iterdir())
    print(f"Saved {args.quantize if args.quantize != 'none' else 'merged'} model to {output} ({size / 1e6:,.1f} MB)")
    print(f"Next: python sft_inference.py --model_path {output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
