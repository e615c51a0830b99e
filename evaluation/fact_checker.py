"""Check every statement of a summary against its note by rules: deterministic, offline, explained.

In:  a note and a summary, as text, as @FILE, or - for standard input.
Out: the claims of the summary, each supported, contradicted, unsupported or unverifiable, with the sentence of the note
     that decided it. A claim of level `error` is a clinical fact (dose, side, negation, ...) and a hallucination if it
     is contradicted or unsupported. A claim of level `review` is a word that the note does not have in any form, or a
     "he" or "she" when the note does not say the sex.

    python evaluation/fact_checker.py --note "Started apixaban 5 mg twice daily." --summary "Apixaban 10 mg daily."
    python evaluation/fact_checker.py --note @note.txt --summary @summary.txt --lexicon_dir my_lexicons

What it misses: statements in words outside its lexicons (at most it marks the words for review); relations between
facts (the right words, wrongly joined); denials of something that the note mentions in another context; and medical
inference ("hypoxic" from a saturation of 84%). It knows English only. In other languages it compares numbers and words,
and a run of letters without spaces is one word.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in evaluation/ only

from clinical.lexicon_flag import add_lexicon_argument, add_lexicons
from fact_checking.checker import check_summary
from fact_checking.explanation import explain
from script_io.errors import ArgumentParser, InputError, run_script
from script_io.files import read_text


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__)
    data = parser.add_argument_group("Data")
    data.add_argument(
        "--note", required=True, help="the clinical note; @FILE: read a UTF-8 file, -: read standard input"
    )
    data.add_argument("--summary", required=True, help="the summary to check; @FILE and - as for --note")
    add_lexicon_argument(data)
    return parser.parse_args(argv)


def _text_of(argument: str, flag: str) -> str:
    if argument == "-":
        try:
            text = sys.stdin.read()
        except UnicodeDecodeError as error:
            raise InputError(f"{flag}: standard input is not UTF-8 ({error.reason}); convert it") from error
    else:
        text = read_text(argument[1:], f"correct {flag}") if argument.startswith("@") else argument
    if not text.strip():
        raise InputError(f"{flag}: the text is empty; give the text itself, @FILE, or - for standard input")
    return text


def main(args: argparse.Namespace) -> int:
    """Print the claims of one summary."""
    if args.note == args.summary == "-":
        raise InputError("--note and --summary: only one of them can be -; give the other as text or @FILE")
    add_lexicons(args.lexicon_dir)
    note, summary = _text_of(args.note, "--note"), _text_of(args.summary, "--summary")
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(explain(note, summary, check_summary(note, summary), colour=colour))
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
