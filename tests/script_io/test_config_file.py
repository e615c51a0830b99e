"""`--config`: values from a file, converted and checked as on the command line, which overrides them."""

import argparse
import json
from pathlib import Path

import pytest

from script_io.errors import ArgumentParser, at_least, parser_of


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser()
    parser.add_argument("file", nargs="?", default="a.csv", help="file")
    parser.add_argument("--model_path", required=True, help="model")
    parser.add_argument("--batch_size", type=at_least(1), default=4, help="size")
    parser.add_argument("--rate", type=float, default=1.0, help="rate")
    parser.add_argument("--layers", nargs="+", default=["q"], help="layers")
    parser.add_argument("--types", nargs="+", default=[], help="types")
    parser.add_argument("--loss", choices=("sigmoid", "ipo"), default="sigmoid", help="loss")
    parser.add_argument("--kwargs", type=json.loads, help="kwargs")
    parser.add_argument("--use_4bit", action="store_true", help="switch")
    either = parser.add_mutually_exclusive_group(required=True)
    either.add_argument("--notes", help="notes")
    either.add_argument("--table", help="table")
    return parser.parse_args(argv)


def write(folder: Path, text: str, name: str = "settings.yaml") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


GOOD = """
file: b.csv
model_path: sft
batch_size: 2
rate: 1e-5         # which YAML reads as text
layers: [k, v]
kwargs: {enable_thinking: false}
use_4bit: true
types: []
table: null
notes: n.csv
"""


def test_a_file_gives_flags_their_values(tmp_path):
    args = parse_args(["--config", write(tmp_path, GOOD)])
    assert vars(args) == {
        **{"file": "b.csv", "model_path": "sft", "batch_size": 2, "rate": 1e-5, "layers": ["k", "v"]},
        **{
            "types": [],
            "loss": "sigmoid",
            "kwargs": {"enable_thinking": False},
            "use_4bit": True,
            "notes": "n.csv",
            "table": None,
        },
    }


def test_the_command_line_overrides_the_file_wherever_it_is_named(tmp_path):
    path = write(tmp_path, GOOD)
    for words in (["--config", path, "--batch_size", "7"], ["--batch_size=7", f"--config={path}"]):
        args = parse_args(["c.csv", *words, "--layers", "o"])
        assert (args.file, args.batch_size, args.layers, args.rate) == ("c.csv", 7, ["o"], 1e-5)


def test_values_of_the_file_come_before_what_a_script_fills_in(tmp_path):
    parser = ArgumentParser()
    parser.add_argument("--rounds", type=int, default=1, help="rounds")
    path = write(tmp_path, "rounds: 3")
    assert parser.parse_args(["--config", path], argparse.Namespace(rounds=2)).rounds == 3


def test_the_settings_of_a_run_are_read_back(tmp_path):
    args = parse_args(["--config", write(tmp_path, GOOD)])
    stored = {**vars(args), "rate": 1e-05}
    path = write(tmp_path, json.dumps({"arguments": stored, "commit": "abc"}), "run_config.json")
    assert vars(parse_args(["--config", path])) == vars(args)


def test_a_run_is_not_deleted_because_an_earlier_one_was(tmp_path):
    parser = ArgumentParser()
    for name in ("resume", "overwrite_output_dir"):
        parser.add_argument(f"--{name}", action="store_true", help=name)
    stored = json.dumps({"arguments": {"resume": True, "overwrite_output_dir": True}})
    args = parser.parse_args(["--config", write(tmp_path, stored, "run_config.json")])
    assert not args.resume
    assert not args.overwrite_output_dir
    assert parser.parse_args(["--config", write(tmp_path, "resume: true")]).resume


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("batch: 2", "has no flag --batch"),
        ("config: other.yaml", "has no flag --config"),
        ("batch_size: two", "--batch_size: invalid int value: 'two'"),
        ("batch_size: 0", "--batch_size: 0: must be at least 1"),
        ("batch_size: [1, 2]", "--batch_size [1, 2]: takes one value, not a list"),
        ("batch_size: true", "--batch_size True: takes a value, no switch"),
        ("rate: {a: 1}", "--rate: invalid float value"),
        ("model_path: {a: 1}", "takes a text, not a mapping"),
        ("loss: hinge", "--loss: invalid choice: 'hinge'"),
        ("use_4bit: 1", "--use_4bit 1: must be true or false"),
        ("kwargs: text", "--kwargs: invalid loads value"),
        ("layers: []", "--layers []: takes at least one value"),
        ("- batch_size", "write one flag with its value per line"),
        ("", "write one flag with its value per line"),
        ("a: [", "not valid YAML or JSON"),
    ],
)
def test_one_line_says_what_is_wrong_with_the_file(text, says, tmp_path, capsys):
    path = write(tmp_path, text)
    with pytest.raises(SystemExit) as caught:
        parse_args(["--config", path])
    printed = capsys.readouterr().err
    assert caught.value.code == 2
    assert printed.startswith(f"error: {path}: ")
    assert says in printed
    assert printed.count("\n") == 1


def test_a_file_that_is_not_there_and_a_flag_without_its_value(tmp_path, capsys):
    for words, says in ((["--config", str(tmp_path / "none")], "cannot be read"), (["--config"], "expected one")):
        with pytest.raises(SystemExit):
            parse_args(words)
        assert says in capsys.readouterr().err


def test_a_script_is_asked_for_its_parser():
    parser = parser_of(parse_args)
    assert {"--batch_size", "--config", "--help"} <= set(parser._option_string_actions)
