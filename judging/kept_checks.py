"""Keep the verdicts of a judge so far, so that a run that was stopped judges only the rest.

Summaries are judged in parts, and a part is kept once all of it is judged. The parts depend on the summaries alone,
since a learnt judge rounds differently when it reads a summary together with others. So a continued run has the
verdicts of an uninterrupted one, to the last digit. A part is known by its texts, in whatever order the parts come.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from fact_checking.claims import Claim, Contrast, FactCheck, SentenceDoubt
from judging.judge import Judge, NoteAndSummary
from script_io.partial_file import PartialFile
from script_io.progress import progress_bar
from script_io.stop_signals import told_when_stopped

NAME = "judged.partial.jsonl"
PART_SUMMARIES = 64  # most summaries of a part, unless one note has more


class KeptChecks:
    """A judge that remembers. It gives the verdicts of `judge`, or those that an earlier run has kept in `file`."""

    def __init__(self, judge: Judge, file: PartialFile) -> None:
        self.judge, self.file, self.name = judge, file, judge.name
        self.parts: dict[str, list[FactCheck | None]] = {}
        self.failures = 0
        earlier = getattr(judge, "earlier_usage", None)  # of a judge that counts tokens
        for row in file.rows:
            self.parts[row["part"]] = [None if check is None else check_of(check) for check in row["checks"]]
            if earlier is not None:
                earlier.update(row["usage"])

    @property
    def usage(self) -> dict[str, Any] | None:
        """See `Judge`."""
        return self.judge.usage

    def check(self, note: str, summary: str) -> FactCheck | None:
        """See `Judge`."""
        return self.check_all([(note, summary)])[0]

    def check_all(self, pairs: Sequence[NoteAndSummary], progress: str | None = None) -> list[FactCheck | None]:
        """See `Judge`. Each part is kept as soon as it is judged."""
        parts = [(key_of(part), part) for part in parts_of(pairs)]
        known = sum(len(part) for key, part in parts if key in self.parts)
        if known:
            print(f"{progress or self.name}: {known} of {len(pairs)} summaries are judged already")
        checks: list[FactCheck | None] = []
        bar = progress_bar(label=progress, total=len(pairs), unit="summary", initial=known)
        with told_when_stopped(self.file.kept), bar:
            for key, part in parts:
                if key not in self.parts:
                    self._judge(key, part)
                    bar.update(len(part))
                checks += self.parts[key]
        self.failures += checks.count(None)
        return checks

    def _judge(self, key: str, part: Sequence[NoteAndSummary]) -> None:
        before = _counts(self.judge.usage)
        checks = self.judge.check_all(part)
        used = _counts(self.judge.usage)
        used.subtract(before)
        self.parts[key] = checks
        stored = [None if check is None else asdict(check) for check in checks]
        self.file.append({"part": key, "checks": stored, "usage": used})


def parts_of(pairs: Sequence[NoteAndSummary]) -> Iterator[list[NoteAndSummary]]:
    """Yield the pairs in parts of at most PART_SUMMARIES; neighbours with the same note stay together."""
    part: list[NoteAndSummary] = []
    for _, group in groupby(pairs, key=lambda pair: pair[0]):
        of_note = list(group)
        if part and len(part) + len(of_note) > PART_SUMMARIES:
            yield part
            part = []
        part += of_note
    if part:
        yield part


def key_of(part: Sequence[NoteAndSummary]) -> str:
    """Return a hash of the texts."""
    return hashlib.sha256(json.dumps(part).encode()).hexdigest()


def check_of(stored: Mapping[str, Any]) -> FactCheck:
    """Return the check that `asdict` has turned into JSON."""
    claims = [
        Claim(**{**claim, "contrast": Contrast(**claim["contrast"]) if claim["contrast"] else None})
        for claim in stored["claims"]
    ]
    sentences = stored["sentences"]
    doubts = None if sentences is None else tuple(SentenceDoubt(**each) for each in sentences)
    return FactCheck(**{**stored, "claims": tuple(claims), "sentences": doubts})


def _counts(usage: Mapping[str, Any] | None) -> Counter[str]:
    """Return the whole numbers of a usage: replies and tokens, but not their price."""
    return Counter({name: value for name, value in (usage or {}).items() if type(value) is int})
