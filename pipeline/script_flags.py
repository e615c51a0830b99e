"""Hand the flags of `run_pipeline.py` to the scripts that know them, by asking the parser of each script."""

from __future__ import annotations

import argparse
import importlib
import json
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pipeline.hardware import GENERATING, PRESETS, excluded_by
from script_io.errors import parser_of

STAGE_A, STAGE_B = "stage_a_sft_training.py", "stage_b_dpo_training.py"
# The chain decides these for each stage.
SET_BY_THE_CHAIN = {
    *("train_data_path", "val_data_path", "columns", "data_weights", "model_name", "sft_model_path", "base_model"),
    *("output_dir", "overwrite_output_dir", "resume", "config", "help"),
}
# `run_pipeline.py` has these itself, since not every script gets the same value.
OF_THE_CHAIN = {"device", "num_threads", "seed", "max_length", "overflow", "ignore_memory_estimate"}
OF_THE_DATA = "Data"  # the group of flags on files, of which each stage has its own
# Stage B trains the adapter of Stage A; its own flags for a fresh adapter come with --stage_b.
ONLY_IN = {"LoRA": STAGE_A}
# With another value of these, a finished stage is still finished, and an interrupted one can be resumed.
WITHOUT_EFFECT = ("save_steps", "logging_steps", "report_to", "gradient_checkpointing", "skip_preflight")


@cache
def parser_of_script(script: str) -> argparse.ArgumentParser:
    """Return the parser of a script, named by its path."""
    module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
    parser = parser_of(module.parse_args)
    parser.prog = script
    return parser


@cache
def grouped(script: str) -> dict[str, tuple[str, argparse.Action]]:
    """Return the group and the action of each flag of a script, by its name without dashes."""
    groups = parser_of_script(script)._action_groups
    return {action.dest: (str(group.title), action) for group in groups for action in group._group_actions}


def knows(script: str, name: str) -> bool:
    """Return whether a script has a flag."""
    return name in grouped(script)


def training_flags() -> dict[str, tuple[str, argparse.Action]]:
    """Return the group and the action of each flag of Stage A and Stage B that the chain hands on as it is."""
    both, excluded = grouped(STAGE_B) | grouped(STAGE_A), SET_BY_THE_CHAIN | OF_THE_CHAIN
    return {name: both[name] for name in both if name not in excluded and both[name][0] != OF_THE_DATA}


def add_training_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of both stages. Those that are not given will not be in the arguments."""
    groups: dict[str, argparse._ArgumentGroup] = {}
    for title, action in training_flags().values():
        if title not in groups:
            groups[title] = parser.add_argument_group(title, "handed to each script that knows the flag")
        groups[title].add_argument(*action.option_strings, **_settings(action))


def _settings(action: argparse.Action) -> dict[str, Any]:
    """Return the settings with which `add_argument` makes the same flag, without a default."""
    text = (action.help or "").split(" (default:")[0]
    settings: dict[str, Any] = {"help": f"{text} (default: chosen by each script)", "default": argparse.SUPPRESS}
    if action.nargs == 0:
        return {**settings, "action": "store_true"}
    kept = ("type", "choices", "nargs", "metavar")
    return settings | {name: getattr(action, name) for name in kept if getattr(action, name) is not None}


@dataclass(frozen=True)
class HandedFlags:
    """What the user asks of the scripts: a preset, flags for all scripts, and words for one stage.

    `given` maps the names of flags to parsed values.
    """

    preset: str | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    stages: Mapping[str, Sequence[str]] = field(default_factory=dict)  # by script

    @classmethod
    def of(cls, args: argparse.Namespace) -> HandedFlags:
        """Take them from the arguments of `run_pipeline.py`."""
        given = {name: vars(args)[name] for name in training_flags() if name in vars(args)}
        return cls(args.hardware, given, stage_words(args))

    def added_to(self, script: str, words: Sequence[str]) -> list[str]:
        """Return the words of a command with the user's flags added; a flag that is set again loses its first value."""
        given = {name: value for name, value in self.given.items() if self._is_for(script, name)}
        flags = [word for name, value in given.items() for word in flag_words(name, value)]
        return merged(without(words, given), self.preset_words(script), flags, self.stages.get(script, ()))

    def preset_words(self, script: str) -> list[str]:
        """Return the flags that the preset sets for a script, without those that the user's own replace."""
        if self.preset is None:
            return []
        own = {flag.removeprefix("--"): True for flag, _ in split(self.stages.get(script, ()))}
        replaced = excluded_by({name: value for name, value in self.given.items() if self._is_for(script, name)} | own)
        known = [(flag, values) for flag, values in split(PRESETS[self.preset].every) if knows(script, flag[2:])]
        return without([*unsplit(known), *PRESETS[self.preset].words(script)], replaced)

    def _is_for(self, script: str, name: str) -> bool:
        """Return whether a script has the flag in a group of the same title, so that it means the same there."""
        title = training_flags()[name][0]
        only = ONLY_IN.get(title, script)
        if only != script and knows(only, name):
            return False
        return knows(script, name) and grouped(script)[name][0] == title


def stage_words(args: argparse.Namespace) -> dict[str, list[str]]:
    """Return the words of `--stage_a` and `--stage_b`, by script."""
    return {STAGE_A: shlex.split(args.stage_a or ""), STAGE_B: shlex.split(args.stage_b or "")}


def check_stage_words(args: argparse.Namespace) -> None:
    """End the process with one line if a stage does not know what it is handed, or if the chain decides it."""
    for script, words in stage_words(args).items():
        parser = parser_of_script(script)
        for flag, _ in split(words):
            if flag.removeprefix("--") in SET_BY_THE_CHAIN:
                parser.error(f"{flag}: run_pipeline.py sets it for each stage")
        parser.parse_args(words)


def flag_words(name: str, value: Any) -> list[str]:
    """Return a parsed value as the words of a command line; none for a switch that is off."""
    if isinstance(value, bool):
        return [f"--{name}"] * value
    items = value if isinstance(value, list) else [value]
    return [f"--{name}", *(json.dumps(item) if isinstance(item, Mapping) else str(item) for item in items)]


def split(words: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each flag of a command with its values; what comes before the first flag has the flag ""."""
    flag, values = "", list[str]()
    for word in words:
        if word.startswith("--"):
            if flag or values:
                yield flag, values
            flag, equals, value = word.partition("=")
            values = [value] if equals else []
        else:
            values.append(word)
    if flag or values:
        yield flag, values


def merged(*layers: Iterable[str]) -> list[str]:
    """Return the words of all layers, each flag once: a later layer replaces a flag where an earlier one has it."""
    flags = {flag: values for layer in layers for flag, values in split(layer)}
    return unsplit(flags.items())


def without(words: Iterable[str], names: Collection[str]) -> list[str]:
    """Return words without some flags and their values."""
    return unsplit((flag, values) for flag, values in split(words) if flag.removeprefix("--") not in names)


def unsplit(flags: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    """Return the words of flags with their values, as `split` yields them."""
    return [word for flag, values in flags for word in ([flag] * bool(flag) + list(values))]


def joined(words: Sequence[str], flags: Collection[str]) -> list[str]:
    """Return a command line in which each of `flags` has its value behind `=`, so that the value may start with --."""
    found: list[str] = []
    for word in words:
        if found and found[-1] in flags:
            found[-1] = f"{found[-1]}={word}"
        else:
            found.append(word)
    return found


def describe(handed: HandedFlags) -> list[str]:
    """Return one line for each script on the flags that the preset sets, without those that the user replaces."""
    if handed.preset is None:
        return []
    preset = PRESETS[handed.preset]
    lines = [
        f"Hardware {handed.preset}: {preset.fits}; examples of 512 tokens, by estimate (docs/speed_and_memory.md)",
        f"  every script that uses a model: --device {preset.device}, unless you pass another",
    ]
    for script in (STAGE_A, STAGE_B, *GENERATING):
        words = handed.preset_words(script)
        lines.append(f"  {script}: {' '.join(words)}" if words else f"  {script}: nothing")
    return lines
