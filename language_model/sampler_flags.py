"""The command-line flags that choose between a model in this process and a server."""

from __future__ import annotations

import argparse

from language_model.endpoint_sampler import EndpointSampler
from language_model.length_limits import OVERFLOWS
from language_model.local_sampler import LocalSampler
from language_model.prompt_format import PROMPT_FORMATS


def add_sampling_arguments(parser: argparse.ArgumentParser, *, temperature: float) -> None:
    """Flags of every script that generates, with the script's own default temperature."""
    group = parser.add_argument_group("Generation")
    group.add_argument(
        "--max_new_tokens", type=int, default=150, help="tokens after which a summary is broken off (default: 150)"
    )
    group.add_argument(
        "--temperature",
        type=float,
        default=temperature,
        help=f"0 always takes the likeliest token; above 0 samples, the higher the freer (default: {temperature})",
    )
    group.add_argument(
        "--batch_size",
        type=int,
        default=8,
        help="sequences generated at once; halved by itself when memory runs out (default: 8)",
    )
    group.add_argument(
        "--overflow",
        choices=OVERFLOWS,
        default="drop",
        help="for notes that leave a local model no room; drop: refuse them or leave them out, named; shorten_note: "
        "cut their middle out, marked (default: drop)",
    )


def add_endpoint_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags that put an OpenAI-compatible server in the place of a local model."""
    group = parser.add_argument_group("Endpoint (instead of a local model)")
    group.add_argument(
        "--base_url", help="address of the server, such as http://localhost:8000/v1; the key is OPENAI_API_KEY"
    )
    group.add_argument("--served_model", help="name under which the server knows the model")
    group.add_argument(
        "--endpoint_prompt_format",
        choices=PROMPT_FORMATS,
        default="plain",
        help="plain asks /completions, chat asks /chat/completions; a local model's format is read from its folder "
        "(default: plain)",
    )
    group.add_argument("--concurrency", type=int, default=8, help="requests under way at once (default: 8)")


def local_sampler(args: argparse.Namespace, model_path: str) -> LocalSampler:
    """The model at `model_path`, loaded as the flags of `add_model_arguments` say."""
    from language_model.loading import load_for_inference

    loaded = load_for_inference(
        model_path,
        device=args.device,
        dtype=args.dtype,
        use_8bit=args.use_8bit,
        use_4bit=args.use_4bit,
        trust_remote_code=args.trust_remote_code,
    )
    return LocalSampler(loaded, model_path, args.overflow)


def endpoint_sampler(args: argparse.Namespace, served_model: str) -> EndpointSampler:
    """The model that the server of `add_endpoint_arguments` knows under this name."""
    return EndpointSampler(
        args.base_url, served_model, prompt_format=args.endpoint_prompt_format, concurrency=args.concurrency
    )
