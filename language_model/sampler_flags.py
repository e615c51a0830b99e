"""The command-line flags that choose between a model in this process and a server."""

from __future__ import annotations

import argparse
from collections.abc import MutableMapping
from typing import TYPE_CHECKING

from language_model.length_limits import OVERFLOWS
from language_model.loading import load_for_inference
from language_model.prompt_flags import PROMPT_FLAGS, add_prompt_arguments, prompt_settings
from language_model.prompt_format import PROMPT_FORMATS
from language_model.sampler import SamplingSettings
from language_model.threads import use_threads
from script_io.errors import InputError, at_least

if TYPE_CHECKING:
    from language_model.endpoint_sampler import EndpointSampler
    from language_model.local_sampler import LocalSampler


def add_sampling_arguments(parser: argparse.ArgumentParser, *, temperature: float) -> argparse._ArgumentGroup:
    """Add the flags of all scripts that generate, with the script's own default temperature; return their group."""
    group = parser.add_argument_group("Generation")
    group.add_argument("--max_new_tokens", type=at_least(1), default=150, help="largest number of tokens in a summary")
    group.add_argument(
        "--temperature",
        type=float,
        default=temperature,
        help="sampling temperature, 0 or more; 0 always takes the most likely token",
    )
    group.add_argument(
        "--top_k",
        type=at_least(0),
        default=0,
        help="number of most likely tokens to sample from; 0: the whole vocabulary",
    )
    group.add_argument(
        "--top_p",
        type=float,
        default=1.0,
        help="sample from the fewest most likely tokens with this probability, above 0; 1: the whole vocabulary",
    )
    group.add_argument(
        "--batch_size",
        type=at_least(1),
        default=8,
        help="sequences that a local model generates at a time; halved automatically if memory runs out",
    )
    group.add_argument(
        "--overflow",
        choices=OVERFLOWS,
        default="drop",
        help="what to do with a note that leaves a local model no room; drop: refuse it or leave it out, and name it; "
        "shorten_note: cut out its middle and mark the gap",
    )
    group.add_argument(
        "--keep_thinking",
        action="store_true",
        help="leave the thinking blocks (<think>...</think>) of a reasoning model in its summaries",
    )
    add_prompt_arguments(parser)
    return group


def add_endpoint_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags for an OpenAI-compatible server instead of a local model."""
    group = parser.add_argument_group("Endpoint (instead of a local model)")
    group.add_argument(
        "--base_url",
        metavar="URL",
        help="address of an OpenAI-compatible server, such as http://localhost:8000/v1; OPENAI_API_KEY holds its key "
        "(default: none, use a local model)",
    )
    group.add_argument(
        "--served_model", metavar="NAME", help="name of the model on the server (default: none, use a local model)"
    )
    group.add_argument(
        "--endpoint_prompt_format",
        choices=PROMPT_FORMATS,
        default="plain",
        help="plain: the server's /completions; chat: its /chat/completions. The format of a local model is read from "
        "its folder",
    )
    group.add_argument("--concurrency", type=at_least(1), default=8, help="requests to the server at a time")


def sampling_settings(args: argparse.Namespace, num_completions: int = 1) -> SamplingSettings:
    """Return the settings of `add_sampling_arguments` and `--seed`. Raises InputError for a value out of range."""
    return SamplingSettings(
        num_completions,
        args.max_new_tokens,
        args.temperature,
        args.batch_size,
        args.seed,
        top_k=args.top_k,
        top_p=args.top_p,
    )


def local_sampler(
    args: argparse.Namespace, model_path: str, dtypes: MutableMapping[str, str] | None = None
) -> LocalSampler:
    """Load the model at `model_path` as the flags of `add_model_arguments` and `--base_model` say.

    `--dtype auto` may measure what is faster, and differ the next time. So a run that goes on passes the `dtypes` in
    which its models were loaded first; a model that is not there is added.
    """
    from language_model.local_sampler import LocalSampler  # loads torch, which would slow down --help

    dtypes = {} if dtypes is None else dtypes
    loaded = load_for_inference(
        model_path,
        device=args.device,
        dtype=dtypes.get(model_path, "auto") if args.dtype == "auto" else args.dtype,
        use_8bit=args.use_8bit,
        use_4bit=args.use_4bit,
        trust_remote_code=args.trust_remote_code,
        base_model=args.base_model,
        prompt=prompt_settings(args),
    )
    dtypes[model_path] = str(loaded.model.dtype).removeprefix("torch.")
    if loaded.device.type == "cpu":
        use_threads(args.num_threads, getattr(loaded.model.config.get_text_config(), "hidden_size", None))
    return LocalSampler(loaded, model_path, args.overflow, keep_thinking=args.keep_thinking)


def endpoint_sampler(args: argparse.Namespace, served_model: str) -> EndpointSampler:
    """Return the model of this name on the server of `add_endpoint_arguments`."""
    from language_model.endpoint_sampler import EndpointSampler  # loads openai, which would slow down --help

    if given := next((name for name in PROMPT_FLAGS if getattr(args, name) is not None), None):
        raise InputError(
            f"--{given} is for a local model; a server renders prompts as its model's tokenizer says, and "
            "--endpoint_prompt_format chooses its /completions or its /chat/completions"
        )
    return EndpointSampler(
        args.base_url,
        served_model,
        prompt_format=args.endpoint_prompt_format,
        concurrency=args.concurrency,
        keep_thinking=args.keep_thinking,
    )
