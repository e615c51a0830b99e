"""Train the demo's base model: a tokenizer and a tiny Llama that can read clinical notes and copy facts from them.

In:  no files; the texts come from `demo/clinical_notes.py` and --seed.
Out: a folder that `AutoModelForCausalLM` and `AutoTokenizer` load, with the hash of its weights in `sha256.txt`.

    python demo/build_base_model.py --output_dir runs/base --num_steps 200     # a short trial, two minutes
    python demo/build_base_model.py --output_dir runs/base                     # the shipped model, about an hour

A Llama of this size with random initial weights does not learn to copy facts from a note within an hour. So the
initial weights are structured. Three heads of the first layer attend one, two and three tokens back, through their
query and key biases alone. Two heads of the second layer look for earlier positions with the same preceding tokens.
This circuit is known as induction heads (Olsson et al. 2022, arXiv:2209.11895). Training can change all of it.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs from any working folder

from demo.pretraining_text import sample_document
from script_io.errors import ArgumentParser, InputError, at_least, run_script
from script_io.files import atomic_write

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
    from transformers.models.llama.modeling_llama import LlamaAttention

PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"
CONTEXT_WEIGHT = 0.3  # loss weight of a context token; a target token has weight 1
MATCHED_DIMENSIONS = 28  # dimensions of a head in which the lookup heads of the second layer match content
DOCUMENTS_PER_POOL = 512  # sorted by length before they are cut into batches


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    model = parser.add_argument_group("Model")
    model.add_argument(
        "--hidden_size",
        type=int,
        default=256,
        help="size of the hidden vectors, a multiple of 8, at least 112 (default: %(default)s)",
    )
    model.add_argument("--intermediate_size", type=int, default=640, help="size of the MLPs (default: %(default)s)")
    model.add_argument("--num_layers", type=int, default=4, help="number of layers, at least 2 (default: %(default)s)")
    model.add_argument("--vocab_size", type=int, default=2048, help="tokens in the vocabulary (default: %(default)s)")
    optimisation = parser.add_argument_group("Optimisation")
    optimisation.add_argument("--num_steps", type=int, default=7000, help="optimiser steps (default: %(default)s)")
    optimisation.add_argument(
        "--batch_tokens", type=int, default=2048, help="most tokens per step, with padding (default: %(default)s)"
    )
    optimisation.add_argument(
        "--learning_rate", type=float, default=1e-3, help="peak learning rate of AdamW (default: %(default)s)"
    )
    optimisation.add_argument(
        "--num_threads", type=int, default=0, help="number of CPU threads; 0: PyTorch's choice (default: %(default)s)"
    )
    optimisation.add_argument(
        "--seed", type=at_least(0), default=1, help="random seed of texts, weights and order (default: %(default)s)"
    )
    output = parser.add_argument_group("Output")
    output.add_argument("--output_dir", required=True, help="folder to write, created if absent (required)")
    output.add_argument(
        "--logging_steps", type=int, default=50, help="steps between console lines (default: %(default)s)"
    )
    output.add_argument(
        "--save_steps", type=int, default=500, help="steps between saves to --output_dir (default: %(default)s)"
    )
    return parser.parse_args(argv)


def check_arguments(args: argparse.Namespace) -> None:
    """Raise InputError for values that would fail after training or that leave no room for the lookup heads."""
    if args.hidden_size < 4 * MATCHED_DIMENSIONS or args.hidden_size % 8:
        raise InputError(
            f"--hidden_size {args.hidden_size}: must be a multiple of 8, at least {4 * MATCHED_DIMENSIONS}"
        )
    if args.num_layers < 2:
        raise InputError(f"--num_layers {args.num_layers}: must be at least 2")
    if Path(args.output_dir).is_file():
        raise InputError(f"{args.output_dir}: is a file; name a folder with --output_dir")


def train_tokenizer(vocab_size: int, rng: random.Random) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE in which every digit is a token, so that numbers are copied digit by digit."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    texts = ("".join(sample_document(rng, 0.1)) + "\n\nSummary:" for _ in range(8000))
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    # every text begins with BOS, wherever the tokenizer is used (also in vLLM)
    bpe.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, bpe.token_to_id(BOS))])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=PAD, bos_token=BOS, eos_token=EOS, model_max_length=1024
    )


def create_model(args: argparse.Namespace, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Create a Llama with the structured initial weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(args.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=args.hidden_size,
        intermediate_size=args.intermediate_size,
        num_hidden_layers=args.num_layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        attention_bias=True,  # the structured initial weights use the biases of queries and keys
        initializer_range=0.06,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    wire_lookup_heads(model)
    return model


def wire_lookup_heads(model: LlamaForCausalLM) -> None:
    """Write the structured initial weights: look-back heads in layer 0, lookup heads in layer 1."""
    import torch

    config = model.config
    width, head_width = config.hidden_size, config.hidden_size // config.num_attention_heads
    embedding_scale = model.model.embed_tokens.weight.std().item()

    def random_basis() -> torch.Tensor:
        return torch.linalg.qr(torch.randn(width, head_width))[0]  # (width, head_width), orthonormal columns

    with torch.no_grad():
        for layer in model.model.layers:  # at first, every block adds little to the residual stream
            layer.self_attn.o_proj.weight.mul_(0.05)
            layer.mlp.down_proj.weight.mul_(0.05)
        first, second = model.model.layers[0].self_attn, model.model.layers[1].self_attn
        # Low frequencies of the rotary embedding rotate little within a note, so content is matched there.
        half, slow = head_width // 2, MATCHED_DIMENSIONS // 2
        matched = torch.cat([torch.arange(half - slow, half), torch.arange(head_width - slow, head_width)])
        for head in range(3):
            rows = slice(head * head_width, (head + 1) * head_width)
            _attend_back(first, rows, head_width, distance=head + 1, theta=_rope_theta(model))
            read, written = random_basis(), random_basis()
            first.v_proj.weight[rows] = read.T
            first.o_proj.weight[:, rows] = written * embedding_scale * 1.5
            if head == 2:
                continue
            query, key = torch.zeros(head_width, width), torch.zeros(head_width, width)
            query[matched] = 3.1 * read.T[: len(matched)]
            key[matched] = 3.1 * written.T[: len(matched)]
            second.q_proj.weight[rows] = query + 0.1 * second.q_proj.weight[rows]
            second.k_proj.weight[rows] = key + 0.1 * second.k_proj.weight[rows]
            copied = random_basis()
            second.v_proj.weight[rows] = copied.T
            second.o_proj.weight[:, rows] = copied * embedding_scale * 8
        model.model.norm.weight.fill_(2.0)


def _rope_theta(model: LlamaForCausalLM) -> float:
    return float(model.config.rope_parameters["rope_theta"])


def _attend_back(attention: LlamaAttention, rows: slice, head_width: int, distance: int, theta: float) -> None:
    """Make one head attend `distance` tokens back, whatever the content, through its query and key biases.

    The rotary embedding rotates the biases. They match best at this distance.
    """
    import torch

    half = head_width // 2
    angle = distance * theta ** (-torch.arange(half).float() / half)
    sharpness = 46.0**0.5
    attention.q_proj.weight[rows] *= 0.1
    attention.k_proj.weight[rows] *= 0.1
    attention.q_proj.bias[rows] = sharpness * torch.cat([torch.cos(angle), -torch.sin(angle)])
    attention.k_proj.bias[rows] = sharpness * torch.cat([torch.ones(half), torch.zeros(half)])


Batch = tuple["torch.Tensor", "torch.Tensor"]  # ids (B, T) long, loss weights (B, T) float; 0 on padding


def batches(args: argparse.Namespace, tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> Iterator[Batch]:
    """Yield batches of new documents of similar length, without end: at first many short lookups, then mostly notes."""
    step = 0
    while True:
        lookup_share = 0.5 * max(0.0, 1 - step / (0.3 * args.num_steps)) + 0.05
        documents = [_encode(tokenizer, *sample_document(rng, lookup_share)) for _ in range(DOCUMENTS_PER_POOL)]
        documents.sort(key=lambda document: len(document[0]))
        pool = list(_cut(documents, args.batch_tokens))
        rng.shuffle(pool)
        for batch in pool:
            yield _pad(batch)
            step += 1


Encoded = tuple[list[int], list[float]]


def _encode(tokenizer: PreTrainedTokenizerFast, context: str, target: str) -> Encoded:
    before = [tokenizer.bos_token_id, *tokenizer(context, add_special_tokens=False).input_ids]
    after = [*tokenizer(target, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    return before + after, [CONTEXT_WEIGHT] * len(before) + [1.0] * len(after)


def _cut(documents: list[Encoded], batch_tokens: int) -> Iterator[list[Encoded]]:
    """Cut the documents, in order, into batches of at most `batch_tokens` tokens with padding."""
    batch: list[Encoded] = []
    for document in documents:
        if batch and (len(batch) + 1) * len(document[0]) > batch_tokens:
            yield batch
            batch = []
        batch.append(document)
    yield batch


def _pad(batch: list[Encoded]) -> Batch:
    import torch

    length = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([ids + [0] * (length - len(ids)) for ids, _ in batch])
    weights = torch.tensor([weights + [0.0] * (length - len(weights)) for _, weights in batch])
    return ids, weights


def weighted_loss(model: LlamaForCausalLM, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weighted mean cross-entropy (scalar) and the loss of each predicted token (B, T-1), detached."""
    import torch

    ids, weights = batch
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=ids).logits[:, :-1]
    token_losses = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
    ).view(ids.shape[0], -1)
    return (token_losses * weights[:, 1:]).sum() / weights[:, 1:].sum(), token_losses.detach()


def learning_rate_factor(step: int, num_steps: int) -> float:
    """Return the factor of the peak: warm-up over 50 steps, constant for half the run, then linear down to 2%."""
    progress = step / num_steps
    return min(1.0, (step + 1) / 50) * (1.0 if progress < 0.5 else max(0.02, 2 * (1 - progress)))


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save a float16 copy that loads as float32, and the hash of its weights."""
    import copy

    import torch

    copy.deepcopy(model).half().save_pretrained(folder)
    model.config.dtype = torch.float32  # float16 halves the file; the model computes in float32
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    with atomic_write(folder / "sha256.txt", private=False) as handle:
        handle.write(f"{hashlib.sha256((folder / 'model.safetensors').read_bytes()).hexdigest()}  model.safetensors\n")


def main(args: argparse.Namespace) -> int:
    import torch

    check_arguments(args)
    if args.num_threads:
        torch.set_num_threads(args.num_threads)
    rng = random.Random(args.seed)
    tokenizer = train_tokenizer(args.vocab_size, rng)
    model = create_model(args, tokenizer)
    print(f"Base model: {sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer):,} tokens")
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, betas=(0.9, 0.95), weight_decay=0.01)
    source = batches(args, tokenizer, rng)
    seconds, tokens, target_losses, context_losses = time.time(), 0, [0.0], [0.0]
    for step in range(args.num_steps):
        for group in optimizer.param_groups:
            group["lr"] = args.learning_rate * learning_rate_factor(step, args.num_steps)
        batch = next(source)
        loss, token_losses = weighted_loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        weights = batch[1][:, 1:]
        tokens += int((weights > 0).sum())
        target_losses.append(token_losses[weights == 1].mean().item())
        context_losses.append(token_losses[weights == CONTEXT_WEIGHT].mean().item())
        if (step + 1) % args.logging_steps == 0:
            recent = slice(-args.logging_steps, None)
            print(
                f"step {step + 1:>6}/{args.num_steps}  target {sum(target_losses[recent]) / args.logging_steps:.4f}"
                f"  context {sum(context_losses[recent]) / args.logging_steps:.4f}"
                f"  {tokens / 1e6:.2f}M tokens  {tokens / (time.time() - seconds):,.0f} tokens/s",
                flush=True,
            )
        if (step + 1) % args.save_steps == 0:
            save(model, tokenizer, Path(args.output_dir))
    save(model, tokenizer, Path(args.output_dir))
    print(f"Saved the base model to {args.output_dir}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
