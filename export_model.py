"""Merge an adapter into its base model, check that the logits are the same, and save a standalone model.

In:  an adapter folder (`final_model` of either stage); with --gguf also the folder of a whole model.
Out: a folder that `AutoModelForCausalLM` loads, with tokenizer and prompt format; quantised with --quantize.

    python export_model.py --model_path models/sft_specialist/final_model --output_dir models/sft_merged
    python export_model.py --model_path models/dpo_hallucination_resistant/final_model --output_dir models/dpo_4bit \\
        --quantize 4bit
    python export_model.py --model_path models/dpo_hallucination_resistant/final_model --output_dir models/dpo_gguf \\
        --gguf q8_0
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from language_model.adapters import attach_adapter, untie_adapted_embeddings
from language_model.loading import load_base_model, load_tokenizer_of
from language_model.merging import PROBE_NOTE, changed_share, probe_logits, require_same_logits
from language_model.model_files import (
    base_of_adapter,
    first_line,
    is_adapter,
    lies_in,
    load_config,
    replace_folder,
    require_adapter,
)
from language_model.placement import Placement, add_base_model_argument, add_model_arguments, choose_placement
from language_model.prompt_format import load_prompt_format, save_prompt_format
from publishing.hub_upload import require_upload, upload
from publishing.model_card import CardFacts, evaluation_of, stage_settings, write_model_card
from script_io.errors import ArgumentParser, InputError, run_script

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    model = parser.add_argument_group("Model")
    model.add_argument(
        "--model_path",
        required=True,
        metavar="FOLDER",
        help="folder of the adapter, such as a stage's final_model; with --gguf also of a whole model",
    )
    add_base_model_argument(model)
    weights = model.add_mutually_exclusive_group()
    weights.add_argument(
        "--quantize",
        choices=("none", "8bit", "4bit"),
        default="none",
        help="quantise the linear layers of the merged model with bitsandbytes (default: none)",
    )
    weights.add_argument(
        "--gguf",
        choices=("f16", "q8_0"),
        help="write a GGUF file for llama.cpp and Ollama with 16- or 8-bit weights instead of a folder for "
        "transformers; for llama, mistral, qwen2 and qwen3 models (default: none)",
    )
    output = parser.add_argument_group("Output")
    output.add_argument("--output_dir", required=True, metavar="FOLDER", help="folder of the model; new or empty")
    output.add_argument("--overwrite_output_dir", action="store_true", help="replace what --output_dir holds")
    output.add_argument(
        "--evaluation_dir",
        type=Path,
        metavar="FOLDER",
        help="folder of evaluation/evaluate_model.py whose rates the model card states (default: the greedy one "
        "of the pipeline run which trained the model, if any)",
    )
    output.add_argument(
        "--push_to_hub",
        metavar="OWNER/NAME",
        help="repository on the Hugging Face Hub to upload the folder to; a new one is private (default: no upload)",
    )
    add_model_arguments(parser)
    return parser.parse_args(argv)


def merge(
    base: PreTrainedModel, model_path: str, tokenizer: PreTrainedTokenizerBase, prompt_format: str, placement: Placement
) -> PreTrainedModel:
    """Return the base with the adapter added to its weights.

    Raises InputError if peft cannot merge the adapter, and RunError if merging changed the logits.
    """
    import torch

    adapted = attach_adapter(base, model_path, "default", trainable=False).eval()
    untie_adapted_embeddings(adapted)
    before = probe_logits(adapted, tokenizer, prompt_format, placement.device)
    try:
        merged: PreTrainedModel = adapted.merge_and_unload(safe_merge=True)
    except torch.OutOfMemoryError:
        raise
    except (NotImplementedError, AttributeError, ValueError, RuntimeError) as error:
        raise InputError(f"{model_path}: peft cannot merge this adapter ({first_line(error)})") from error
    after = probe_logits(merged, tokenizer, prompt_format, placement.device)
    difference = require_same_logits(model_path, before, after, placement.dtype)
    print(f"Merging changed the logits by {difference}")
    return merged


def quantise(folder: Path, kind: str, placement: Placement, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Return the model in `folder`, loaded again with its linear layers quantised; `kind` is 8bit or 4bit."""
    return load_base_model(folder, replace(placement, quantisation=kind), tokenizer)


def refuse_model_folders(output: Path, *models: str) -> None:
    """Raise InputError if the output folder is, or holds, the adapter or its base, and so would replace it."""
    for model in models:
        if lies_in(model, output):
            raise InputError(f"{output}: is the folder of {model}, which would be replaced; name another --output_dir")


def load_whole(args: argparse.Namespace, placement: Placement) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, str]:
    """Return the model without adapters, its tokenizer and the prompt format; an adapter is merged into its base."""
    tokenizer = load_tokenizer_of(args.model_path, base_name(args), args.trust_remote_code)
    prompt_format = load_prompt_format(args.model_path, tokenizer)
    if not is_adapter(args.model_path):
        return load_base_model(args.model_path, placement, tokenizer).eval(), tokenizer, prompt_format
    model = load_base_model(base_name(args), placement, tokenizer)
    return merge(model, args.model_path, tokenizer, prompt_format, placement), tokenizer, prompt_format


def base_name(args: argparse.Namespace) -> str:
    """Return the base of the adapter. Raises InputError if there is no adapter and no whole model for --gguf."""
    if args.gguf and not is_adapter(args.model_path):
        return str(args.model_path)
    config = require_adapter(args.model_path, "name the final_model of a stage with --model_path")
    return base_of_adapter(args.model_path, config, args.base_model)


def save(
    args: argparse.Namespace,
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt_format: str,
    placement: Placement,
) -> None:
    """Write the model into `folder` as transformers or, with --gguf, llama.cpp reads it."""
    if args.gguf:
        from publishing.gguf_export import export_gguf

        folder.mkdir(parents=True)
        name = Path(args.output_dir).resolve().name
        export_gguf(folder, model, tokenizer, prompt_format, args.gguf, name, PROBE_NOTE)
        model.generation_config.to_json_file(folder / "generation_config.json")
        return
    model.save_pretrained(folder)
    if args.quantize != "none":
        probe = (tokenizer, prompt_format, placement.device)
        before = probe_logits(model, *probe)
        model = quantise(folder, args.quantize, placement, tokenizer)
        share = changed_share(before, probe_logits(model, *probe))
        print(f"Quantising changed the logits by {share:.1%}: evaluate the exported model")
        shutil.rmtree(folder)
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_prompt_format(folder, tokenizer, prompt_format)


def card_facts(
    args: argparse.Namespace, base: str, prompt_format: str, evaluation: Mapping[str, Any] | None
) -> CardFacts:
    """Return what the model card says about the exported model."""
    stage, settings = stage_settings(Path(args.model_path))
    return CardFacts(
        kind="gguf" if args.gguf else "model",
        name=Path(args.output_dir).resolve().name,
        base=base,
        prompt_format=prompt_format,
        settings=settings,
        stage=stage,
        weights=args.gguf or ("merged" if args.quantize == "none" else args.quantize),
        evaluation=evaluation,
    )


def move_into_place(temporary: Path, output: Path) -> None:
    """Move what was written to the output folder. An empty one is kept, since it may be the working folder."""
    if not output.exists() or any(output.iterdir()):
        replace_folder(temporary, output)
        return
    for path in temporary.iterdir():
        path.rename(output / path.name)


def say_if_trained_quantised(settings: Mapping[str, Any]) -> None:
    """Print that the adapter was trained on other weights than it is merged into, if its stage's settings say so."""
    trained = settings.get("arguments", {})
    bits = next((bits for bits in (8, 4) if trained.get(f"use_{bits}bit")), None)
    if bits:
        print(
            f"The adapter was trained on its base in {bits} bits and is merged into the unquantised base, whose logits "
            "differ: evaluate the exported model"
        )


def main(args: argparse.Namespace) -> int:
    output = Path(args.output_dir).resolve()  # `.` has no name of its own
    if output.exists() and (not output.is_dir() or any(output.iterdir())) and not args.overwrite_output_dir:
        raise InputError(f"{args.output_dir}: is not empty; pass --overwrite_output_dir or another --output_dir")
    if Path.cwd().is_relative_to(output) and any(output.iterdir()):
        raise InputError(f"{args.output_dir}: holds the working folder, which would be replaced; name another one")
    if args.use_8bit or args.use_4bit:
        raise InputError("merging needs the unquantised base; leave --use_8bit and --use_4bit out, or use --quantize")
    if args.push_to_hub:
        require_upload(args.push_to_hub)
    evaluation = evaluation_of(Path(args.model_path), args.evaluation_dir)
    base = base_name(args)
    refuse_model_folders(output, args.model_path, base)
    if args.gguf:
        from publishing.gguf_file import require_supported

        require_supported(load_config(base, args.trust_remote_code))
    placement = choose_placement(args)
    model, tokenizer, prompt_format = load_whole(args, placement)
    facts = card_facts(args, base, prompt_format, evaluation)
    say_if_trained_quantised(facts.settings)

    temporary = output.with_name(f".{output.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        save(args, temporary, model, tokenizer, prompt_format, placement)
        write_model_card(temporary, facts)
        move_into_place(temporary, output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    size = sum(path.stat().st_size for path in output.iterdir())
    print(f"Saved {facts.weights} model to {args.output_dir} ({size / 1e6:,.1f} MB)")
    if args.push_to_hub:
        upload(output, args.push_to_hub)
    if args.gguf:
        print(f"Next: cd {args.output_dir} && ollama create summary -f Modelfile")
    else:
        print(f"Next: python sft_inference.py --model_path {args.output_dir}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
