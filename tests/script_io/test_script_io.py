"""Files are whole or absent, readers say where a file is wrong, and errors leave by the agreed exit codes."""

from __future__ import annotations

import argparse
import csv
import errno
import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from training_helpers import ROOT

from script_io.csv_files import read_csv, stream_csv, write_csv
from script_io.errors import ArgumentParser, InputError, RunError, at_least, run_script
from script_io.files import atomic_write, private_opener, read_json, read_jsonl, scratch_folder, write_json, write_jsonl

LINE_SEPARATOR, NEXT_LINE, VERTICAL_TAB = "\u2028", "\x85", "\x0b"  # where str.splitlines would break a line


@pytest.fixture(autouse=True)
def own_signal_handlers() -> Iterator[None]:
    """Put back the handlers that `run_script` replaces."""
    earlier = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in earlier.items():
        signal.signal(number, handler)


# ------------------------------------------------------------------------------------------- writing


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), atomic_write(path) as handle:
        handle.write("half of the new text" + "x" * 100_000 + "\ud800")  # a lone surrogate has no UTF-8
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.json"]


def test_an_interrupted_write_of_a_new_file_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_write(tmp_path / "new" / "results.json"):
        raise KeyboardInterrupt
    assert list((tmp_path / "new").iterdir()) == []


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("old")
    with atomic_write(path) as handle:
        handle.write("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_a_written_file_has_the_rights_that_the_umask_gives(tmp_path: Path) -> None:
    earlier = os.umask(0o027)
    try:
        write_json(tmp_path / "a.json", {})
        assert os.umask(0o027) == 0o027  # writing has put it back
    finally:
        os.umask(earlier)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640


def test_only_the_owner_can_read_a_file_that_may_hold_text_of_patients(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [{"clinical_note": "x"}])
    write_csv(tmp_path / "rows.csv", ["clinical_note"], [{"clinical_note": "x"}])
    write_json(tmp_path / "ratings.json", {}, private=True)
    with open(tmp_path / "appended.jsonl", "a", opener=private_opener) as handle:
        handle.write("{}\n")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(["rows.jsonl", "rows.csv", "ratings.json", "appended.jsonl"], 0o600)


def test_nan_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "file", {"rate": float("nan")})
    with pytest.raises(ValueError, match="Out of range float"):
        write_jsonl(tmp_path / "file", [{"rate": float("inf")}])
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_be_written_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"file/results\.json: cannot write there"):
        write_json(tmp_path / "file" / "results.json", {})
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="folder: is a folder; name a file to write"):
        write_json(tmp_path / "folder", {})
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder"]


# ------------------------------------------------------------------------------------------- reading


def test_csv_cells_come_back_as_they_were_written(tmp_path: Path) -> None:
    rows = [
        {"id": "1", "note": 'First line\nsecond line, with "quotes"\n\n'},
        {"id": "2", "note": f"a{LINE_SEPARATOR}b{NEXT_LINE}c{VERTICAL_TAB}d"},
        {"id": "3", "note": "Temperature 38.5 °C; naïve; 体温"},
        {"id": "4", "note": ""},
    ]
    write_csv(tmp_path / "a.csv", ("id", "note"), rows)
    found = read_csv(tmp_path / "a.csv", ("id", "note"))
    assert [row for _, row in found] == rows
    # rows end on these lines: the first cell with breaks takes lines 2 to 5
    assert [line for line, _ in found][:1] == [5]
    assert found[1][0] == 6
    assert (tmp_path / "a.csv").read_bytes().startswith(b"id,note\r\n1,")


FORMULAS = [
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "  =1",
    "\u00a0=1",
    "＝1",
    "'=1",
    "- chest pain",
    "+44 20",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_and_no_header_runs_as_a_formula(tmp_path: Path, text: str) -> None:
    write_csv(tmp_path / "a.csv", (text,), [{text: text}])
    with open(tmp_path / "a.csv", encoding="utf-8", newline="") as handle:
        assert list(csv.reader(handle)) == [[f"'{text}"], [f"'{text}"]]
    original = text.replace("\r", "\n")
    assert [row for _, row in read_csv(tmp_path / "a.csv", ())] == [{original: original}]


def test_numbers_and_other_text_are_written_as_they_are(tmp_path: Path) -> None:
    cells = [-0.5, -3, "-0.5", "+1e-3", ".5", "5-10 mg", "'quoted'", "a=b", "", None, True]
    write_csv(tmp_path / "a.csv", ("value",), [{"value": cell} for cell in cells])
    expected = ["-0.5", "-3", "-0.5", "+1e-3", ".5", "5-10 mg", "'quoted'", "a=b", "", "", "True"]
    with open(tmp_path / "a.csv", encoding="utf-8", newline="") as handle:
        assert [row[0] for row in csv.reader(handle)] == ["value", *expected]
    assert [row["value"] for _, row in read_csv(tmp_path / "a.csv", ("value",))] == expected


CELLS = st.text("='+-@＝ \t\r\n\x00\ufeff1.e,\"x", max_size=8) | st.text(st.characters(codec="utf-8"), max_size=20)


@settings(deadline=None, max_examples=300, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5))
def test_every_text_comes_back_and_none_runs(tmp_path: Path, cells: list[tuple[str, str]]) -> None:
    rows = [{"first": first, "second": second} for first, second in cells]
    write_csv(tmp_path / "a.csv", ("first", "second"), rows)
    back = [row for _, row in read_csv(tmp_path / "a.csv", ("first", "second"))]
    expected = [{name: re.sub("\r\n?", "\n", cell) for name, cell in row.items()} for row in rows]
    assert back == [{name: cell.replace("\0", "\ufffd") for name, cell in row.items()} for row in expected]
    with open(tmp_path / "a.csv", encoding="utf-8", newline="") as handle:
        written = [cell for row in csv.reader(handle) for cell in row]
    for cell in written:
        if cell.strip().startswith(("=", "+", "-", "@", "＝")) or cell.startswith(("\t", "\r")):
            float(cell)  # raises on anything but a number


def test_nul_is_written_as_the_replacement_character(tmp_path: Path) -> None:
    # a reader refuses NUL, and a mark of the same length keeps the offsets of spans
    write_csv(tmp_path / "a.csv", ("text",), [{"text": "5\0mg"}, {"text": "\0=1"}])
    assert [row["text"] for _, row in read_csv(tmp_path / "a.csv", ("text",))] == ["5\ufffdmg", "\ufffd=1"]


def test_columns_without_a_name_may_repeat(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,,\n1,,\n")  # a spreadsheet saves empty columns so
    assert read_csv(tmp_path / "a.csv", ("id",)) == [(2, {"id": "1", "": ""})]


def test_a_csv_is_streamed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id\n1\n2\n3,4\n")
    rows = stream_csv(tmp_path / "a.csv", ("id",))
    assert [next(rows), next(rows)] == [(2, {"id": "1"}), (3, {"id": "2"})]
    with pytest.raises(InputError, match=r"a\.csv, line 4: 2 cells"):  # not before it is reached
        next(rows)


def test_a_scratch_folder_leaves_nothing_of_its_own(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "new" / "out") as scratch:
        assert scratch.parent == tmp_path / "new" / "out"
        (scratch / "file").write_text("x")
    assert list(tmp_path.iterdir()) == []
    with scratch_folder(tmp_path / "new"):
        (tmp_path / "new" / "result").write_text("kept")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["result"]
    with pytest.raises(InputError, match="result: cannot write there"), scratch_folder(tmp_path / "new" / "result"):
        pass


def test_scratch_folders_of_killed_runs_are_deleted_and_others_kept(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\nfrom script_io.files import scratch_folder\nimport os, signal\n"
    )
    program += "with scratch_folder(sys.argv[2]): os.kill(os.getpid(), signal.SIGKILL)"
    root = str(Path(__file__).resolve().parents[2])
    subprocess.run([sys.executable, "-c", program, root, str(tmp_path)], check=False)
    (left,) = tmp_path.iterdir()
    with scratch_folder(tmp_path) as own:
        assert not left.exists()
        with scratch_folder(tmp_path):
            assert own.exists()  # its process lives


def test_jsonl_objects_come_back_as_they_were_written(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": f"a{LINE_SEPARATOR}b\r\nc"},
        {"prompt": "é", "completions": ["x", None, 1.5]},
    ]
    write_jsonl(tmp_path / "a.jsonl", rows)
    assert read_jsonl(tmp_path / "a.jsonl", ("prompt",)) == [(1, rows[0]), (2, rows[1])]
    write_json(tmp_path / "a.json", rows)
    assert read_json(tmp_path / "a.json") == rows


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_byte_order_mark_and_line_ends_change_nothing(tmp_path: Path, mark: bytes, end: bytes) -> None:
    # as Excel, a Unix editor and an old Mac save it; a break inside a cell becomes \n, so that a note is the same
    # text whichever system wrote it
    (tmp_path / "a.csv").write_bytes(mark + end.join([b"id,note", b'1,"one', b'two"', b"", b"2,three", b""]))
    assert read_csv(tmp_path / "a.csv", ("id", "note")) == [
        (3, {"id": "1", "note": "one\ntwo"}),
        (5, {"id": "2", "note": "three"}),
    ]
    (tmp_path / "a.jsonl").write_bytes(mark + end.join([b'{"id": 1}', b"", b'{"id": 2}', b""]))
    assert read_jsonl(tmp_path / "a.jsonl", ("id",)) == [(1, {"id": 1}), (3, {"id": 2})]


def test_a_cell_may_hold_a_whole_visit(tmp_path: Path) -> None:
    note = "word " * 60_000  # the csv module itself stops at 131,072 characters
    write_csv(tmp_path / "a.csv", ("note",), [{"note": note}])
    assert read_csv(tmp_path / "a.csv", ("note",))[0][1]["note"] == note


CSV_ERRORS = {
    "empty": (b"", "a.csv: the file is empty; expected a header with the columns id, note"),
    "header only": (b"id,note\r\n", "a.csv: the file has a header but no rows; add at least one"),
    "missing column": (b"id,text\n1,x\n", "a.csv, line 1: missing column note; found id, text"),
    "semicolons": (
        b"id;note\n1;x\n",
        "a.csv, line 1: missing column id, note; found id;note; semicolons separate the columns, so save the "
        "table with commas",
    ),
    "both missing": (b"a\n1\n", "a.csv, line 1: missing column id, note; found a"),
    "cell too many": (b"id,note\n1,x\n2,cough, fever\n", "a.csv, line 3: 3 cells where the header has 2;"),
    "cell too few": (b'id,note\n1,"two\nlines"\n2\n', "a.csv, line 4: 1 cells where the header has 2;"),
    "column twice": (b"id,note,id\n1,x,2\n", "a.csv, line 1: repeated column id; keep one of each and rename the"),
    "columns twice": (b"note,id,note,id,x\n1,x,2,3,4\n", "a.csv, line 1: repeated column note, id; keep one"),
    "NUL": (b'id,note\n1,"two\nlines"\n2,a\0b\n', "a.csv, line 4: holds a NUL byte, which no text file has;"),
    "utf-16 without mark": ("id,note\n1,x\n".encode("utf-16-le"), "a.csv, line 1: holds a NUL byte"),
    "open quote": (b'id,note\n1,"never closed\n', "a.csv, line 2: not valid CSV (unexpected end of data);"),
    "quote amid": (b'id,note\n1,"a" b\n', "a.csv, line 2: not valid CSV ("),
    "latin-1": ("id,note\n1,38 °C\n".encode("latin-1"), "a.csv: not UTF-8 text (byte 13); save it as UTF-8"),
    "utf-16": ("id,note\n1,x\n".encode("utf-16"), "a.csv: not UTF-8 text (byte 0); save it as UTF-8"),
}
JSONL_ERRORS = {
    "empty": (b"\n \n", "a.jsonl: the file is empty; expected one JSON object per line with prompt, chosen"),
    "no JSON": (b'{"prompt": 1, "chosen": 2}\n\n{"prompt": \n', "a.jsonl, line 3: not valid JSON ("),
    "no object": (b'["prompt"]\n', "a.jsonl, line 1: a JSON object is expected, found list"),
    "a number": (b"\n5\n", "a.jsonl, line 2: a JSON object is expected, found int"),
    "lacks a key": (b'{"prompt": 1, "rejected": 2}\n', "a.jsonl, line 1: missing key chosen; found prompt, rejected"),
    "no key": (b"{}\n", "a.jsonl, line 1: missing key prompt, chosen; found none"),
    "half a character": (
        rb'{"prompt": "\ud83d\ude00 \\ud83d", "chosen": ""}' + b"\n" + rb'{"prompt": ["Cough \uD83D"]}',
        "a.jsonl, line 2: has \\ud83d, half of a character, which no file can hold; remove it or give the whole",
    ),
    "latin-1": ('{"prompt": "°"}'.encode("latin-1"), "a.jsonl: not UTF-8 text (byte 12); save it as UTF-8"),
}


@pytest.mark.parametrize(("content", "message"), CSV_ERRORS.values(), ids=CSV_ERRORS)
def test_what_is_wrong_with_a_csv_is_said_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_csv(tmp_path / "a.csv", ("id", "note"))
    assert str(caught.value).startswith(f"{tmp_path}/{message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("content", "message"), JSONL_ERRORS.values(), ids=JSONL_ERRORS)
def test_what_is_wrong_with_a_jsonl_is_said_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_jsonl(tmp_path / "a.jsonl", ("prompt", "chosen"))
    assert str(caught.value).startswith(f"{tmp_path}/{message}")
    assert "\n" not in str(caught.value)


def test_what_is_wrong_with_a_json_document_is_said_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{\n "model": \n}')
    with pytest.raises(InputError, match=r"a\.json, line 3: not valid JSON \(.*\); evaluate anew"):
        read_json(tmp_path / "a.json", "evaluate anew")


@pytest.mark.parametrize("reader", [read_csv, read_jsonl])
def test_missing_files_and_folders_name_the_remedy(tmp_path: Path, reader: Callable[..., object]) -> None:
    with pytest.raises(InputError, match=r"^\S+/none: no such file; make it with: python x\.py$"):
        reader(tmp_path / "none", ("id",), "make it with: python x.py")
    with pytest.raises(InputError, match=r"^\S+: is a folder, not a file; check the path$"):
        reader(tmp_path, ("id",))
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"^\S+/file/a: cannot be read \(Not a directory\); check the path$"):
        reader(tmp_path / "file" / "a", ("id",))


# ---------------------------------------------------------------------------------------- exit codes


def raising(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def main(args: argparse.Namespace) -> int:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("a.csv, line 3: no id; add one"), 2, "error: a.csv, line 3: no id; add one\n"),
        (RunError("no gradient reached a tensor"), 1, "error: no gradient reached a tensor\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_errors_become_one_line_and_an_exit_code(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    assert run_script(raising(error), argparse.Namespace()) == code
    assert capsys.readouterr().err == line


def test_our_own_mistakes_keep_their_traceback() -> None:
    with pytest.raises(AssertionError):
        run_script(raising(AssertionError()), argparse.Namespace())


def test_sigterm_ends_in_143_and_runs_the_cleaning_up(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def main(args: argparse.Namespace) -> int:
        with atomic_write(tmp_path / "half.json"):
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        return 0

    assert run_script(main, argparse.Namespace()) == 143
    assert capsys.readouterr().err == "terminated\n"
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_works_in_a_script_that_was_started_with_sigint_ignored() -> None:
    program = (
        "import signal\n"
        "from script_io.errors import run_script\n"
        "def main(args):\n"
        "    print('ready', flush=True)\n"
        "    signal.pause()\n"
        "raise SystemExit(run_script(main, None))\n"
    )
    ignoring = ["sh", "-c", 'trap \'\' INT; exec "$0" -c "$1"', sys.executable, program]
    with subprocess.Popen(ignoring, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(30) == 130
        finally:
            process.kill()
        assert process.stderr.read() == "interrupted\n"


def test_the_code_of_main_is_the_code_of_the_script() -> None:
    assert run_script(lambda args: int(args.code), argparse.Namespace(code=7)) == 7


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    program = (
        "from script_io.errors import run_script\n"
        "def main(args):\n"
        "    while True: print('x' * 999)\n"
        "raise SystemExit(run_script(main, None))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(30) == 1
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: --model_path"),
        (["--model_path", "m", "--device", "gpu"], "argument --device: invalid choice: 'gpu'"),
        (["--model_path", "m", "--beta", "x"], "argument --beta: invalid float value: 'x'"),
        (["--model_path", "m", "--unknown"], "unrecognized arguments: --unknown"),
    ],
)
def test_errors_of_the_command_line_are_one_line(
    capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    parser = ArgumentParser(prog="train.py")
    parser.add_argument("--model_path", required=True)
    parser.add_argument("--device", choices=("auto", "cpu"))
    parser.add_argument("--beta", type=float)
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(arguments)
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: {message}")
    assert printed.err.endswith("; see train.py --help\n")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        ("-1", "argument --seed: -1: must be at least 0"),
        (str(2**32), f"argument --seed: {2**32}: must be at most {2**32 - 1}"),
        ("1.5", "argument --seed: invalid int value: '1.5'"),
        ("nan", "argument --seed: invalid int value: 'nan'"),
    ],
)
def test_a_number_out_of_range_is_refused_when_parsed(
    capsys: pytest.CaptureFixture[str], seed: str, message: str
) -> None:
    parser = ArgumentParser(prog="train.py")
    parser.add_argument("--seed", type=at_least(0))
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(["--seed", seed])
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"error: {message}; see train.py --help\n"
    assert [parser.parse_args(["--seed", text]).seed for text in ("0", str(2**32 - 1))] == [0, 2**32 - 1]


def test_the_help_of_a_flag_ends_with_its_default_unless_its_text_names_one() -> None:
    parser = ArgumentParser(description="First line.\nSecond line.")
    parser.add_argument("files", nargs="+", help="files to read")
    parser.add_argument("--model", required=True, help="folder of the model")
    parser.add_argument("--modules", nargs="+", default=["q", "v"], help="modules to train")
    parser.add_argument("--share", default="90%", help="share to keep")
    parser.add_argument("--quiet", action="store_true", help="print less")
    parser.add_argument("--limit", type=int, default=0, help="notes to read (default: all)")
    parser.add_argument("--seed", type=int, help="seed of the run")
    lines = [" ".join(line.split()) for line in parser.format_help().splitlines()]
    assert "First line." in lines
    assert "Second line." in lines
    for line in (
        "files files to read (required)",
        "--model MODEL folder of the model (required)",
        "modules to train (default: q v)",
        "--share SHARE share to keep (default: 90%)",
        "--quiet print less (default: off)",
        "--limit LIMIT notes to read (default: all)",
        "--seed SEED seed of the run",
        "-h, --help show this help message and exit",
    ):
        assert line in lines


def test_a_jsonl_written_here_is_one_json_document_a_line(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"note": "two\nlines"}, {"note": "°"}])
    lines = (tmp_path / "a.jsonl").read_bytes().split(b"\n")
    assert [json.loads(line) for line in lines[:2]] == [{"note": "two\nlines"}, {"note": "°"}]
    assert lines[2:] == [b""]


def test_a_refused_row_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("mine")
    with pytest.raises(ValueError, match="extra"):
        write_csv(path, ("id",), [{"id": 1, "extra": 2}])
    assert path.read_text() == "mine"


def test_what_a_killed_run_left_is_deleted_when_the_file_is_written_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".stats.json.abc123.tmp").write_text("half")
    (tmp_path / ".other.json.abc123.tmp").write_text("of another file")
    write_json("stats.json", {"steps": 3})  # a path without a folder
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.json.abc123.tmp", "stats.json"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_one_line_that_names_the_file_and_leaves_nothing(tmp_path, monkeypatch, capsys, number):
    def refuse(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    assert run_script(lambda args: write_json(tmp_path / "stats.json", {}), argparse.Namespace()) == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'stats.json'}: the disk is full (")
    assert not list(tmp_path.iterdir())
