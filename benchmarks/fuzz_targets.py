"""What benchmarks/fuzz.py feeds: each target takes bytes, and fails where a promise about hostile input is broken.

A target accepts that input is refused (InputError, BadReply), and nothing else. What it reads from a file goes through
the file `scratch`, in memory where the system has /dev/shm.
"""

from __future__ import annotations

import itertools
import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path
from typing import Protocol

from assessment.ratings import HALLUCINATED, KINDS, VERSION, Draft, Rating, RatingBook, SummaryError
from clinical.facts import extract_facts
from fact_checking.checker import check_summary, coverage
from fact_checking.citations import check_citations
from ingest.redaction import identifiers
from ingest.tables import read_table
from judging.claim_replies import BadReply, parse_reply
from language_model.counted_tokens import token_difference
from language_model.note_files import read_notes
from language_model.prompt_format import build_prompt, note_of_prompt, note_of_row
from negatives.case import Case, Corpus
from negatives.registry import EDITORS
from negatives.verification import verified_negatives
from script_io.csv_files import read_csv, write_csv
from script_io.errors import InputError
from script_io.files import read_json, read_jsonl
from script_io.word_differences import word_differences

NOTE = "A 54-year-old woman takes metformin 500 mg twice daily for 3 weeks. Denies chest pain. BP 142/88."
SUMMARY = "Takes metformin 850 mg. Denies fever. [Evidence: S1,2; Conf: 0.85]"
MOST_CHARACTERS = 2_000  # of a text; growth with length is what benchmarks/hostile_text.py measures


class HasSpan(Protocol):
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...


def _texts(data: bytes, count: int) -> list[str]:
    """Return `count` texts; NUL divides them."""
    parts = data.decode("utf-8", "ignore").split("\0", count - 1)
    return [part[:MOST_CHARACTERS] for part in [*parts, *[""] * count][:count]]


def _require_inside(spans: Iterable[HasSpan], text: str) -> None:
    for span in spans:
        assert 0 <= span.start <= span.end <= len(text), (span, len(text))


def clinical_reader(data: bytes) -> None:
    (text,) = _texts(data, 1)
    _require_inside(extract_facts(text), text)


def checker(data: bytes) -> None:
    note, summary = _texts(data, 2)
    for claim in check_summary(note, summary).claims:
        assert claim.text == summary[claim.start : claim.end]
    kept, facts = coverage(note, summary)
    assert 0 <= kept <= facts


def citations(data: bytes) -> None:
    note, summary = _texts(data, 2)
    found = check_citations(note, summary)
    assert all(citation.text == summary[citation.start : citation.end] for citation in found)


def hard_negatives(data: bytes) -> None:
    note, summary, seed = _texts(data, 3)
    case = Case(note, summary, Corpus.from_summaries([(NOTE, SUMMARY)]))
    for category in EDITORS:
        for negative in verified_negatives(case, category, random.Random(seed), 1, Counter()):
            assert negative.rejected != summary
            for edit in negative.edits:
                assert summary[edit.start : edit.end] == edit.old


def judge_reply(data: bytes) -> None:
    reply, note, summary = _texts(data, 3)
    for text in (reply, json.dumps({"claims": [{"text": reply, "type": "dose", "verdict": "supported"}]})):
        with suppress(BadReply):
            _require_inside(parse_reply(text, note, summary).claims, summary)


def redaction(data: bytes) -> None:
    (text,) = _texts(data, 1)
    found = identifiers(text)
    _require_inside(found, text)
    assert all(first.end <= second.start for first, second in itertools.pairwise(found))


def prompts(data: bytes) -> None:
    note, other = _texts(data, 2)
    assert note_of_prompt(build_prompt(note)) == note.strip()
    with suppress(InputError):
        note_of_row({"prompt": build_prompt(note), "clinical_note": other})


def differences(data: bytes) -> None:
    first, second = _texts(data, 2)
    for text, spans in zip((first, second), word_differences([first, second]), strict=True):
        assert spans == sorted(spans)
        assert all(0 <= start < end <= len(text) for start, end in spans)
    for tokens in token_difference([*map(ord, first)], [*map(ord, second)]):
        assert isinstance(tokens, Sequence)


# ----------------------------------------------------------------------------------------------- files


def _scratch(suffix: str, data: bytes) -> Path:
    memory = Path("/dev/shm")
    path = (memory if memory.is_dir() else Path(tempfile.gettempdir())) / f"fuzz{suffix}"
    path.write_bytes(data)
    return path


def csv_file(data: bytes) -> None:
    path = _scratch(".csv", data)
    with suppress(InputError):
        rows = [row for _, row in read_csv(path, ())]
        again = path.with_suffix(".again.csv")
        write_csv(again, list(rows[0]) if rows else ["id"], rows)
        written = [row for _, row in read_csv(again, ())] if rows else rows
        # RFC 4180 files keep neither NUL nor the kind of a line break
        plain = [{key: cell.replace("\r\n", "\n").replace("\r", "\n") for key, cell in row.items()} for row in rows]
        assert written == plain


def json_files(data: bytes) -> None:
    path = _scratch(".jsonl", data)
    with suppress(InputError):
        for _, row in read_jsonl(path, ()):
            json.dumps(row, ensure_ascii=False).encode()
    with suppress(InputError):
        read_json(path)


def tables(data: bytes) -> None:
    kinds = (".csv", ".tsv", ".json", ".jsonl", ".txt", ".parquet")
    path = _scratch(kinds[data[0] % len(kinds)] if data else ".csv", data[1:])
    with suppress(InputError), redirect_stderr(StringIO()):
        for row in read_table(path).rows:
            assert all(isinstance(name, str) for name in row.cells)


def note_files(data: bytes) -> None:
    path = _scratch((".txt", ".jsonl", ".csv")[data[0] % 3] if data else ".txt", data[1:])
    column = None if path.suffix == ".txt" else "clinical_note"  # which a text has not, and so refuses
    with suppress(InputError), redirect_stderr(StringIO()):
        assert all(note.text.strip() for note in read_notes(path, column))


def ratings(data: bytes) -> None:
    path = _scratch(".ratings.json", data)
    with suppress(InputError):
        for rating in RatingBook(path).ratings.values():
            assert all(error.kind in KINDS for error in rating.errors)
            json.dumps(asdict(rating), ensure_ascii=False).encode()


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        clinical_reader, checker, citations, hard_negatives, judge_reply, redaction, prompts, differences,
        csv_file, json_files, tables, note_files, ratings,
    )
}  # fmt: skip

RATED = Rating(
    *("a", "ab", "1", HALLUCINATED, [SummaryError("fabricated", "major", 0, 3, "No ")], ["dose"]),
    completeness=2,
    rated_at="2026-01-01T00:00:00+00:00",
)


def _written(rating: Rating) -> bytes:
    return json.dumps({"version": VERSION, "ratings": [asdict(rating)] * 2}).encode()


# What a target starts from, next to nothing at all
SEEDS: dict[str, list[bytes]] = {
    "clinical_reader": [NOTE.encode(), b"pt c/o SOB x 3d, metformin 500->850 mg BID; NKDA. Mother: DM2."],
    "checker": [f"{NOTE}\0{SUMMARY}".encode(), b"Doctor: Fever?\nPatient: No.\0Denies fever."],
    "citations": [f"{NOTE}\0{SUMMARY}".encode()],
    "hard_negatives": [f"{NOTE}\0{NOTE}\0001".encode()],
    "judge_reply": [
        b'{"claims": [{"text": "Denies fever", "verdict": "supported", "evidence": null}]}\0No fever.\0Denies fever.'
    ],
    "redaction": [b"Mr. John Smith, MRN 123456, seen 03/10/2024, 555-123-4567, a@b.org, aged 92, 12 Oak Street"],
    "csv_file": [b'id,clinical_note\r\n1,"a ""b"", c"\r\n2,=1+1\r\n'],
    "json_files": [b'{"prompt": "a", "chosen": "\\u00e9"}\n{"b": [1.5, null, true]}\n'],
    "tables": [b'\x02[{"note": "a", "summary": "b"}]', b"\x00note;summary\na;b\n", b'\x02{"data": [{"note": "a"}]}'],
    "note_files": [b"\x00Note one.\nNote two.\n", b'\x01{"clinical_note": "a"}\n', b"\x02clinical_note\na\n"],
    "ratings": [_written(RATED), _written(replace(RATED, errors=[], draft=Draft(adds=True)))],
}
