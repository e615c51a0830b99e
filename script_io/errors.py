"""The edges of every script: the user's files, one-line errors, files that are either whole or absent.

Errors: a script raises `InputError` for anything the user can mend; `run_script` prints it as one line on
stderr and returns exit code 2. Ctrl-C returns 130 and SIGTERM 143.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class InputError(Exception):
    """Bad input. The message is one line: file, line or row id, what is wrong, what to do."""


class RunError(Exception):
    """A run cannot go on although its input was good. One line as `InputError`, exit code 1."""


class Terminated(BaseException):
    """SIGTERM arrived. Not an `Exception`, so that no handler of ordinary errors takes it."""


class ArgumentParser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are one line, like all errors of the suite."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_BAD_INPUT, f"error: {message}; see {self.prog} --help\n")


def run_script(main: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Runs `main(args)` and turns the errors a user can cause into one line and an exit code."""

    def terminate(signal_number: int, frame: FrameType | None) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
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
    except Terminated:
        print("terminated", file=sys.stderr)
        return EXIT_TERMINATED
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
