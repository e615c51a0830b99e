"""Parse the command line of a script and turn its errors into one line and an exit code.

A script raises `InputError` for anything the user can correct. `run_script` prints it as one line on stderr and returns
exit code 2. Ctrl-C returns 130, SIGTERM 143, and SIGHUP, when the terminal closes, 129.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from script_io.config_file import ConfigError, apply_config, config_path
from script_io.durable import FULL_DISK
from script_io.stop_signals import Terminated, handle, raise_stop

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class InputError(Exception):
    """Bad input. The message is one line: the file, the line or row id, what is wrong, and what to do."""


@contextmanager
def placed(place: str) -> Iterator[None]:
    """Put `place`, such as a file and a line, in front of the message of an InputError that the block raises."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {error}") from error


class MissingColumnError(InputError):
    """A table lacks a column, which may be there under another name."""


class RunError(Exception):
    """A run cannot continue although its input was good. Printed as one line; the exit code is 1."""


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keep the lines of the description, and end the help of each flag with its default or with `(required)`."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        if "(default" in text or "(required)" in text or action.default is argparse.SUPPRESS:
            return text
        if action.required:
            return f"{text} (required)"
        if action.default is None:  # the help text itself says what happens
            return text
        return f"{text} (default: {_default_text(action.default)})"


def _default_text(default: object) -> str:
    """Return a default as a user would type it; `off` for a switch."""
    if default is False:
        return "off"
    words = default if isinstance(default, list | tuple) else [default]
    return " ".join(map(str, words)).replace("%", "%%")


class ParserBuilt(Exception):
    """Carries a parser out of the function that builds it; see `parser_of`."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__(parser.prog)
        self.parser = parser


class _ConfigFile(argparse.Action):
    """The flag `--config`, which the parser has applied before it parses; the settings of a run leave it out."""

    def __call__(self, *_: Any) -> None:
        pass


_ASKING = ["\0"]  # a command line that asks for the parser itself, and that no shell can pass


class ArgumentParser(argparse.ArgumentParser):
    """An `ArgumentParser` with one-line errors, with defaults in the help, and with `--config`."""

    def __init__(self, description: str | None = None, **settings: Any) -> None:
        super().__init__(description=description, **{"formatter_class": HelpFormatter, **settings})
        self.add_argument(
            "--config",
            metavar="FILE",
            action=_ConfigFile,
            default=argparse.SUPPRESS,
            help="YAML or JSON file of flags and their values, or the run_config.json of a run; the command line "
            "overrides it (default: none)",
        )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does, with the values of `--config` in place of the defaults."""
        words: Sequence[str] = sys.argv[1:] if args is None else args
        if list(words) == _ASKING:
            raise ParserBuilt(self)
        namespace = argparse.Namespace() if namespace is None else namespace
        if path := config_path(words):
            try:
                apply_config(path, self, namespace)
            except ConfigError as error:
                self.error(str(error))
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_BAD_INPUT, f"error: {message}; see {self.prog} --help\n")


def parser_of(parse_args: Callable[[list[str]], argparse.Namespace]) -> argparse.ArgumentParser:
    """Return the parser that the `parse_args` of a script builds."""
    try:
        parse_args(_ASKING)
    except ParserBuilt as built:
        return built.parser
    raise AssertionError("parse_args handed its command line to no ArgumentParser of this module")


@dataclass(frozen=True)
class WholeNumber:
    """A `type` for `add_argument` that refuses numbers below `minimum` before the script does anything."""

    minimum: int
    maximum: int = 2**32 - 1  # the largest seed that every generator takes (scikit-learn has the smallest limit)

    def __call__(self, text: str) -> int:
        try:
            number = int(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"invalid int value: {text!r}") from error
        if number < self.minimum:
            raise argparse.ArgumentTypeError(f"{number}: must be at least {self.minimum}")
        if number > self.maximum:
            raise argparse.ArgumentTypeError(f"{number}: must be at most {self.maximum}")
        return number


def at_least(minimum: int) -> WholeNumber:
    """Return the `type` of a flag that takes whole numbers from `minimum` on: `type=at_least(0)`."""
    return WholeNumber(minimum)


def run_script(main: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run `main(args)` and return its exit code, or the exit code of an error that a user can cause."""
    handle(raise_stop)  # SIGINT too: a background job may start with it ignored, and Python then has no handler
    try:
        return main(args)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Terminated as stop:
        print(stop, file=sys.stderr)
        return stop.exit_code
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}the disk is full ({error.strerror}); free some space and try again", file=sys.stderr)
        return EXIT_FAILED
