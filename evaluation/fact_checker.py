"""Holds every statement of a summary against its note, by rules alone: deterministic, offline, explained.

In:  a note and a summary, as text, as @FILE, or - for what is piped in.
Out: the claims of the summary, each supported, contradicted, unsupported or unverifiable, with the sentence of the
     note that it was held against. Level `error` is a clinical fact (dose, side, negation, ...) that counts as
     hallucination where contradicted or unsupported; level `review` is a word that the note has in no form, or a
     "he" or "she" of which the note does not tell the sex.

    python evaluation/fact_checker.py --note "Started apixaban 5 mg twice daily." --summary "Apixaban 10 mg daily."
    python evaluation/fact_checker.py --note @note.txt --summary @summary.txt

What it misses: statements made of words outside its lexicons, which are words for review at most; relations between
facts (right words, wrongly joined); a denial of something whose words the note has elsewhere; and whatever needs
medical inference ("hypoxic" from a saturation of 84%). It knows English only: of a text in another language it compares
numbers and words, and takes a run of letters without spaces for one word.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in evaluation/ only

from fact_checking.checker import check_summary
from fact_checking.explanation import explain
from script_io.errors import ArgumentParser, InputError, run_script
from script_io.files import read_text


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("Data")
    data.add_argument("--note", required=True, help="the clinical note; @FILE reads a UTF-8 file, - what is piped in")
    data.add_argument("--summary", required=True, help="the summary to check; @FILE or - as above")
    return parser.parse_args(argv)


def _text_of(argument: str, flag: str) -> str:
    if argument == "-":
        try:
            text = sys.stdin.read()
        except UnicodeDecodeError as error:
            raise InputError(f"{flag}: what is piped in is not UTF-8 ({error.reason}); convert it") from error
    else:
        text = read_text(argument[1:], f"correct {flag}") if argument.startswith("@") else argument
    if not text.strip():
        raise InputError(f"{flag}: the text is empty; give the text itself, @FILE, or - for what is piped in")
    return text


def main(args: argparse.Namespace) -> int:
    """Prints the claims of one summary."""
    if args.note == args.summary == "-":
        raise InputError("--note and --summary: only one of them can be -; give the other as text or @FILE")
    note, summary = _text_of(args.note, "--note"), _text_of(args.summary, "--summary")
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(explain(note, summary, check_summary(note, summary), colour=colour))
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
