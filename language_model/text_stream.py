"""Print a summary while the model writes it."""

from __future__ import annotations

import argparse

from language_model.sampler import Sampler
from script_io.errors import InputError
from script_io.terminal import printable

_HALF_CHARACTER = "\ufffd"  # what the first bytes of a character decode to


def heading(note: str) -> str:
    """Return what is printed before the summary of a note."""
    return f"\nClinical Note:\n{printable(note)}\n\nGenerated Summary:"


class TextStream:
    """Prints `first_lines` once there is a text, and then what a growing text has gained since the last call."""

    def __init__(self, first_lines: str) -> None:
        self.first_lines: str | None = first_lines
        self.shown = ""

    def __call__(self, text: str) -> None:
        """Print the new end of `text`; hold back half a character, and a text that changed what was printed."""
        whole = text.rstrip(_HALF_CHARACTER)
        if whole.startswith(self.shown):
            self._print(whole[len(self.shown) :])
            self.shown = whole

    def finish(self, text: str, remark: str) -> None:
        """Print the rest of the final text, or on a new line all of it if it is not what was printed; and a remark."""
        self._print(text[len(self.shown) :] if text.startswith(self.shown) else f"\n{text}")
        print(f"\n{remark}" if remark else "")

    def _print(self, text: str) -> None:
        if self.first_lines is not None:
            print(self.first_lines)
            self.first_lines = None
        print(printable(text), end="", flush=True)


def attach_stream(sampler: Sampler, note: str) -> TextStream:
    """Return a stream that prints the note, and its summary by a local sampler while it is written."""
    from language_model.local_sampler import LocalSampler  # loads torch, which would slow down --help

    assert isinstance(sampler, LocalSampler)  # see `check_stream`
    sampler.on_text = stream = TextStream(heading(note))
    return stream


def add_stream_argument(group: argparse._ArgumentGroup) -> None:
    """Add the flag that prints a summary while it is written."""
    group.add_argument(
        "--stream", action="store_true", help="print the summary of one note token by token while it is written"
    )


def check_stream(args: argparse.Namespace) -> None:
    """Raise InputError if `--stream` is set where more than one summary, or one from a server, is printed."""
    others = ("input_file", "compare_model_path", "compare_served_model", "served_model", "check")
    given = [f"--{name}" for name in others if args.stream and getattr(args, name)]
    if given:
        raise InputError(f"--stream prints one summary of a local model as it is written; leave {given[0]} out")
