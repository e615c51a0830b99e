"""Measure how the time of every reader of text grows on text that is made to be slow.

In:  nothing; each kind of hostile text is made here, from 10,000 characters up to --largest.
Out: a table with a row per reader: its worst growth and the text that caused it, and `hostile_text.json` in
     --output_dir.
     The growth is log10 of the time on ten times the text: 1 is linear, 2 is quadratic. A time under
     --shortest seconds says nothing and counts as linear. A reading that takes over --patience seconds of
     processor time is ended and counts as not linear.

    python benchmarks/hostile_text.py
    python benchmarks/hostile_text.py --readers "clinical reader" --largest 1000000

Each reading runs in a process of its own, so that no cache helps it. Exit code 1 if one is not linear.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in benchmarks/ only

from clinical.facts import extract_facts
from clinical.note_pieces import sign_of_one_note
from fact_checking.checker import check_summary
from fact_checking.citations import check_citations
from ingest.redaction import identifiers
from judging.claim_replies import BadReply, parse_reply
from negatives.case import Case, Corpus
from negatives.registry import EDITORS
from negatives.verification import verified_negatives
from script_io.errors import ArgumentParser, at_least, run_script
from script_io.files import write_json
from script_io.word_differences import word_differences

SMALLEST = 10_000  # characters
LINEAR = 1.3  # the largest growth that passes: a log or a cache adds a little
NOTE = "Patient takes metformin 500 mg twice daily for 3 weeks. Denies chest pain. BP 142/88."

# Each is repeated to the length that is measured
PIECES = {
    "blanks": " ",
    "tabs and line ends": "\t\n",
    "digits": "1",
    "spaced digits": "1 ",
    "decimals": "1.",
    "thousands": "1,",
    "fractions": "1/",
    "ranges": "1-",
    "ranges in words": "1 to ",
    "a word without end": "a",
    "hyphens": "a-",
    "dashes": "- ",
    "full stops": ".",
    "commas": "a, ",
    "colons": "a: ",
    "headings": "Plan:\n",
    "brackets": "(",
    "square brackets": "[Evidence: S1,",
    "quotation marks": '"',
    "comparators": "<",
    "markup": "<b>&amp;",
    "doses": "50 mg ",
    "doses to doses": "50 mg to ",
    "doses of one drug": "metformin 500 mg daily, ",
    "units": "mg/",
    "blood pressures": "BP 120/80, ",
    "dates": "1/1/2020 ",
    "negations": "no ",
    "denied findings": "denies cough, ",
    "commas between findings": f"no fever{',' * 40} cough ",
    "and": "and ",
    "history": "history of ",
    "findings": "chest pain and ",
    "relatives": "mother's ",
    "findings of relatives": "in the family gout ",
    "allergies": "allergic to penicillin, ",
    "check boxes": "[ ] gout ",
    "turns of a dialogue": "Doctor: ",
    "questions": "Doctor: Cough?\nPatient: No.\n",
    "abbreviations": "pt c/o SOB, ",
    "one sentence of many drugs": "lisinopril and ",
    "many sentences": "Patient has a cough. ",
    "zero-width spaces": "\u200b",
    "combining marks": "e\u0301",
    "an open code fence": "``` ",
    "an open JSON list": "[",
    "an open JSON object": '{"a":',
}
Reader = Callable[[str], object]


def _negatives(text: str) -> object:
    case = Case(text, text, Corpus.from_summaries([(NOTE, NOTE)]))
    return [verified_negatives(case, category, random.Random(0), 1, Counter()) for category in EDITORS]


def _candidates(text: str) -> object:
    case = Case(text, text, Corpus.from_summaries([(NOTE, NOTE)]))
    return [sum(1 for _ in editor(case, random.Random(0))) for editor, _ in EDITORS.values()]


def _reply(text: str) -> object:
    try:
        return parse_reply(text, NOTE, NOTE)
    except BadReply as error:
        return str(error)


READERS: dict[str, Reader] = {
    "clinical reader": extract_facts,
    "checker, of the note": lambda text: check_summary(text, NOTE),
    "checker, of the summary": lambda text: check_summary(NOTE, text),
    "checker, of both": lambda text: check_summary(text, text),
    "citations": lambda text: check_citations(text, text),
    "hard negatives, candidates": _candidates,
    "hard negatives": _negatives,
    "judge's reply": _reply,
    "redaction": identifiers,
    "notes in one file": sign_of_one_note,
    "differing words": lambda text: word_differences([text, f"x {text}"]),
}


@dataclass(frozen=True)
class Growth:
    """How one reader's time grew on one kind of text, up to the largest size that it was given."""

    reader: str
    text: str
    characters: int
    seconds: float  # of processor time, on that many characters
    growth: float  # log10 of the time on ten times the text; infinite where the reading was ended

    @property
    def is_linear(self) -> bool:
        return self.growth <= LINEAR


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    group = parser.add_argument_group("Readings")
    group.add_argument(
        "--readers", nargs="+", choices=list(READERS), default=list(READERS), metavar="READER",
        help=f"of: {', '.join(READERS)} (default: all)",
    )  # fmt: skip
    group.add_argument(
        "--largest",
        type=at_least(10 * SMALLEST),
        default=10 * SMALLEST,
        help="size of the longest texts, in characters (default: %(default)s)",
    )
    group.add_argument(
        "--shortest", type=float, default=0.3, help="seconds from which growth is measured (default: %(default)s)"
    )
    group.add_argument(
        "--patience", type=at_least(1), default=60, help="most seconds of a reading (default: %(default)s)"
    )
    group.add_argument("--output_dir", type=Path, help="folder of the results (default: none, print only)")
    return parser.parse_args(argv)


def seconds_of(read: Reader, text: str, patience: int) -> float:
    """Return the processor time of one reading in a new process; infinite if it was ended after `patience` seconds."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_read_once, args=(read, text, patience, sender))
    process.start()
    sender.close()
    try:
        seconds: float = receiver.recv()
    except EOFError:  # the system ended the process
        seconds = math.inf
    process.join()
    return seconds


def _read_once(read: Reader, text: str, patience: int, sender: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + patience, resource.RLIM_INFINITY))
    start = time.process_time()
    read(text)
    sender.send(time.process_time() - start)


def measured(reader: str, text: str, args: argparse.Namespace) -> Growth:
    """Read ever longer texts of one kind, each ten times as long, until one takes long enough to tell the growth."""
    before, characters = 0.0, SMALLEST
    growth, seconds = 0.0, 0.0
    while characters <= args.largest:
        piece = PIECES[text]
        seconds = seconds_of(READERS[reader], (piece * (characters // len(piece) + 1))[:characters], args.patience)
        if before and seconds >= args.shortest:
            growth = max(growth, math.log10(seconds / before))
        if seconds == math.inf:
            return Growth(reader, text, characters, seconds, math.inf)
        before, characters = max(seconds, 1e-4), 10 * characters
    return Growth(reader, text, characters // 10, seconds, growth)


def measurements(args: argparse.Namespace) -> Iterator[Growth]:
    for reader in args.readers:
        worst = [measured(reader, text, args) for text in PIECES]
        yield from worst
        top = max(worst, key=lambda row: row.growth)
        bad = [row.text for row in worst if not row.is_linear]
        slowest = max(row.seconds for row in worst)
        print(f"| {reader} | {top.growth:.2f} | {top.text} | {slowest:.2f} | {', '.join(bad) or 'none'} |", flush=True)


def main(args: argparse.Namespace) -> int:
    """Measure every reader on every kind of text; return 1 if one is not linear."""
    print("| reader | worst growth | on | slowest, seconds | not linear on |")
    print("| --- | --- | --- | --- | --- |")
    rows = list(measurements(args))
    linear = sum(row.is_linear for row in rows)
    print(f"linear: {linear} of {len(rows)} (reader, text) pairs, up to {args.largest:,} characters")
    if args.output_dir:
        write_json(args.output_dir / "hostile_text.json", [asdict(row) for row in rows if row.growth < math.inf])
    return 0 if linear == len(rows) else 1


if __name__ == "__main__":
    sys.exit(run_script(main, parse_args()))
