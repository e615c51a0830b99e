"""Measure how many greedy texts of a model stay the same when its weights are rounded as in a GGUF file.

In:  a model or an adapter (merged first), and a Phase 1 CSV with the notes.
Out: on stdout, one row for each layout, that is, for each choice of tensors that are stored as Q8_0 while the others
     are F16: size, error of the logits, tokens that change, and texts that stay the same; as JSON with --output_file.

    python benchmarks/gguf_texts.py --model_path models/sft_specialist/final_model
    python benchmarks/gguf_texts.py --model_path models/smollm2 --layouts f16 q8_0 all ffn_down --max_new_tokens 40

The model writes its texts once, in float32. A layout keeps a greedy text if, at each of its tokens, the rounded weights
also give that token the largest logit, so one forward pass over prompt and text answers for a layout. The products are
float32, where llama.cpp also rounds the inputs of a Q8_0 matrix to 8 bits.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in benchmarks/ only

from language_model.prompt_format import build_prompt, encode_prompt
from script_io.csv_files import read_csv
from script_io.errors import ArgumentParser, InputError, run_script
from script_io.files import write_json

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from language_model.loading import LoadedModel

EMBEDDINGS = ("token_embd", "output")
LAYERS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
REFERENCE = "q8_0_of_llama_cpp"  # the tensors of q8_0, rounded as llama.cpp does and not as export_model.py does
# Layout -> the kinds of tensors that are stored as Q8_0; a kind by itself is a layout too
LAYOUTS = {"f16": (), "q8_0": LAYERS, "all": (*EMBEDDINGS, *LAYERS), "embeddings": EMBEDDINGS}
LAYOUTS |= {kind: (kind,) for kind in LAYERS}
LAYOUTS |= {f"q8_0-{kind}": tuple(other for other in LAYERS if other != kind) for kind in LAYERS}
LAYOUTS |= {"q8_0-attn": LAYERS[4:], "q8_0-ffn": LAYERS[:4], REFERENCE: LAYERS}


@dataclass(frozen=True)
class Text:
    """A prompt, and what the exact model wrote."""

    prompt: list[int]
    tokens: list[int]


@dataclass(frozen=True)
class Figures:
    """What a layout changes in some texts."""

    layout: str
    bytes: int  # of the weights
    size_of_f16: float  # share
    relative_error: float  # root mean square error of the logits by their standard deviation
    margin_error: float  # root mean square error of the difference between the two largest logits
    tokens: int
    changed_tokens: int
    texts: int
    same_texts: int
    decided_by: list[float]  # at the first changed token of each changed text, the exact model's margin, in nats


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    model = parser.add_argument_group("Model")
    model.add_argument("--model_path", required=True, metavar="MODEL", help="model or adapter, a folder or a hub id")
    model.add_argument("--base_model", metavar="MODEL", help="base of the adapter, if it was moved (default: its own)")
    data = parser.add_argument_group("Data")
    data.add_argument(
        "--notes",
        default="phase1_data/sft/test_set_processed.csv",
        metavar="FILE",
        help="Phase 1 CSV of the notes (default: %(default)s)",
    )
    data.add_argument("--max_notes", type=int, default=20, metavar="N", help="number of notes (default: 20)")
    data.add_argument(
        "--max_new_tokens", type=int, default=64, metavar="N", help="largest number of tokens in a text (default: 64)"
    )
    data.add_argument(
        "--layouts", nargs="+", choices=LAYOUTS, default=["f16", "q8_0", "all"], help="layouts (default: f16 q8_0 all)"
    )
    output = parser.add_argument_group("Output")
    output.add_argument("--output_file", type=Path, metavar="FILE", help="JSON file of the figures (default: none)")
    return parser.parse_args(argv)


def write_texts(loaded: LoadedModel, notes: Sequence[str], max_new_tokens: int) -> list[Text]:
    """Return what the model writes greedily about each note, in one batch."""
    import torch

    from language_model.local_sampler import end_of_sequence_ids

    tokenizer, ends = loaded.tokenizer, end_of_sequence_ids(loaded)
    prompts = [encode_prompt(tokenizer, build_prompt(note), loaded.prompt_format) for note in notes]
    longest = max(map(len, prompts))
    ids = torch.tensor([[tokenizer.pad_token_id] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    written = loaded.model.generate(
        ids,
        attention_mask=mask,
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=ends,
        pad_token_id=tokenizer.pad_token_id,
    )
    return [Text(prompt, _until(row[longest:].tolist(), ends)) for prompt, row in zip(prompts, written, strict=True)]


def _until(tokens: list[int], ends: Collection[int]) -> list[int]:
    """Return the tokens up to the first that ends a text, that one included."""
    return tokens[: next((place for place, token in enumerate(tokens) if token in ends), len(tokens)) + 1]


def text_logits(model: PreTrainedModel, texts: Sequence[Text]) -> list[torch.Tensor]:
    """Return the logits (T, V) from which each text's T tokens are taken."""
    import torch

    found = []
    with torch.no_grad():
        for text in texts:
            ids = torch.tensor([text.prompt + text.tokens[:-1]], device=model.device)
            found.append(model(input_ids=ids, logits_to_keep=len(text.tokens), use_cache=False).logits[0].float().cpu())
    return found


@contextmanager
def rounded(model: PreTrainedModel, kinds: Collection[str], reference: bool = False) -> Iterator[int]:
    """Within the block, the model has the weights of a file with these kinds of tensors as Q8_0; yield their bytes."""
    import torch
    from gguf import quants

    from publishing.gguf_file import encoded, named_weights, stored_type

    kept, size = [], 0
    encode = quants.quantize if reference else encoded
    with torch.no_grad():
        for name, weight in named_weights(model):
            kind = "q8_0" if name.split(".")[-2] in kinds else "f16"
            data = encode(weight.float().numpy(), stored := stored_type(weight, kind))
            kept.append((weight, weight.clone()))
            weight.copy_(torch.from_numpy(quants.dequantize(data, stored)))
            size += data.nbytes
    try:
        yield size
    finally:
        with torch.no_grad():
            for weight, values in kept:
                weight.copy_(values)


def compare(
    layout: str,
    size: int,
    f16_size: int,
    texts: Sequence[Text],
    exact: Sequence[torch.Tensor],
    found: Sequence[torch.Tensor],
) -> Figures:
    """Return the figures of a layout from the logits (T, V) of each text."""
    import torch

    error, spread, margin_error = (torch.zeros(()) for _ in range(3))
    changed_tokens, decided_by = 0, []
    for text, before, after in zip(texts, exact, found, strict=True):
        first, second = before.topk(2, dim=-1).indices.unbind(-1)
        rows = torch.arange(len(first))
        margins = [logits[rows, first] - logits[rows, second] for logits in (before, after)]
        error += (after - before).square().mean(-1).sum()
        spread += before.var(-1).sum()
        margin_error += (margins[1] - margins[0]).square().sum()
        changed = after.argmax(-1) != torch.tensor(text.tokens)
        changed_tokens += int(changed.sum())
        if changed.any():
            decided_by.append(margins[0][changed.nonzero()[0, 0]].item())
    tokens = sum(len(text.tokens) for text in texts)
    return Figures(
        layout=layout,
        bytes=size,
        size_of_f16=size / f16_size,
        relative_error=(error / spread).sqrt().item(),
        margin_error=(margin_error / tokens).sqrt().item(),
        tokens=tokens,
        changed_tokens=changed_tokens,
        texts=len(texts),
        same_texts=len(texts) - len(decided_by),
        decided_by=sorted(decided_by),
    )


def row(figures: Figures) -> str:
    """Return the figures as a line of a Markdown table."""
    margins = ", ".join(f"{each:.2f}" for each in figures.decided_by)
    return (
        f"| {figures.layout} | {figures.bytes / 1e6:.0f} MB ({figures.size_of_f16:.0%}) | {figures.relative_error:.2%} "
        f"| {figures.margin_error:.3f} | {figures.changed_tokens} of {figures.tokens} "
        f"| {figures.same_texts} of {figures.texts} | {margins or '-'} |"
    )


def main(args: argparse.Namespace) -> int:
    from peft import PeftModel

    from language_model.loading import load_for_inference
    from language_model.local_sampler import merge_checked

    notes = list(dict.fromkeys(each["clinical_note"] for _, each in read_csv(args.notes, ("clinical_note",))))
    if len(notes) < args.max_notes:
        raise InputError(f"{args.notes}: has {len(notes)} different notes; pass --max_notes {len(notes)}")
    loaded = load_for_inference(args.model_path, device="cpu", dtype="float32", base_model=args.base_model)
    merge_checked(loaded, args.model_path)
    texts = write_texts(loaded, notes[: args.max_notes], args.max_new_tokens)
    model = loaded.model.unload() if isinstance(loaded.model, PeftModel) else loaded.model
    exact = text_logits(model, texts)
    with rounded(model, ()) as f16_size:
        pass
    print(
        "| layout | weights | error of the logits | of the margin | tokens changed | texts the same | margins there |"
    )
    print("|---|---|---|---|---|---|---|")
    found = []
    for layout in args.layouts:
        with rounded(model, LAYOUTS[layout], layout == REFERENCE) as size:
            found.append(compare(layout, size, f16_size, texts, exact, text_logits(model, texts)))
        print(row(found[-1]), flush=True)
    if args.output_file:
        write_json(
            args.output_file,
            {"model": args.model_path, "layouts": [asdict(each) for each in found]},
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
