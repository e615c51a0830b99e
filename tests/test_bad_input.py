"""One table of bad input: each case is one line on stderr with exit code 2, and leaves nothing half-written.

The cases of each script's own flags and of missing files are in test_command_lines.py.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple
from unittest.mock import Mock

import pytest
from bad_input_files import write_all
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, HTTPError, RepositoryNotFoundError
from in_process import files_below, is_progress, run_here

from language_model import hub


class Case(NamedTuple):
    """A command that cannot run, and what its one line must say."""

    script: str
    arguments: str  # relative to the folder of `place`
    says: str
    hub: str = ""  # how the hub answers


A = "--model_name base --train_data_path good.csv --val_data_path good.csv --output_dir out --device cpu"
B = "--sft_model_path sft --train_data_path good.jsonl --val_data_path good.jsonl --output_dir out --device cpu"
SAMPLE = "--prompts_path good.csv --model_path sft --output_path out/c.jsonl --device cpu"
INFER = "--model_path sft --clinical_note Cough. --device cpu"
EVALUATE = "--model_path sft --test_data good.csv --output_dir out --device cpu"
PREDICTED = "--predictions predictions.csv --output_dir out"
EXPORT = "--output_dir out --device cpu --model_path"
SFT, DPO, COMPLETE = "stage_a_sft_training", "stage_b_dpo_training", "generate_completions"
EVAL, JUDGE, PREPARE = "evaluation.evaluate_model", "judge_completions", "prepare_phase1_data"
PHASE2, TOOL, INFERENCE, CALIBRATE = (
    "generate_phase2_data",
    "manual_assessment_tool",
    "sft_inference",
    "judging.calibrate",
)

PHASE1_SAYS = {
    "cp1252.csv": "not UTF-8 text (byte 78); save it as UTF-8",
    "utf16.csv": "not UTF-8 text (byte 0); save it as UTF-8",
    "nul.csv": "line 3: holds a NUL byte",
    "twice.csv": "line 1: repeated column label",
    "label.csv": "line 3: label 'good' is not known; use one of factual",
    "spelling.csv": "line 3: label 'Factual' is not known; write factual",
    "blank_note.csv": "line 3: empty clinical_note; fill in or delete the row",
    "blank_summary.csv": "line 3: empty model_summary",
    "blank_label.csv": "line 3: empty label",
    "cells.csv": "line 3: 5 cells where the header has 4",
    "quote.csv": "line 2: not valid CSV",
    "header.csv": "has a header but no rows",
    "hallucinated.csv": "no row is labelled factual",
    "ids.csv": "line 3: line 2 has the id a too; rename one",
    "long.csv": "line 3: has 50,000,013 characters",
    "texts.json": "row 1: an object is expected, found str",
    "number.json": "holds int, not a table",
    "null.json": "holds NoneType, not a table",
    "no_rows.json": "the file is empty",
    "broken.json": "line 2: not valid JSON",
    "deep.json": "not valid JSON (nested too deeply)",
    "digits.json": "not valid JSON (Exceeds the limit",
    "list.json": "row 2: clinical_note is not text but list",
    "null_note.json": "row 2: empty clinical_note",
    "half.json": "row 2: has \\ud83d, half of a character",
    "key_twice.json": "not valid JSON (the key id is there twice)",
    "column.json": "row 2: missing column model_summary",
    "object.json": "is no table; give an array of objects",
    "label.jsonl": "line 2: label 'good' is not known",
    "object.jsonl": "line 2: model_summary is not text but dict",
    "long_cell.jsonl": "line 1: clinical_note has 10,000,001 characters",
    "table.parquet": "cannot be read as Parquet",
    "empty.parquet": "cannot be read as Parquet",
}
OTHER_PHASE1_SAYS = {
    "column.parquet": "row 1: missing column model_summary, label; found clinical_note",
    "nothing.parquet": "is a folder, not a file",
    "none.parquet": "no such file; make the demo's data",
    "loop.csv": "cannot be read (Too many levels of symbolic links)",
    "empty.json": "the file is empty",
    "empty.jsonl": "the file is empty",
}
PAIRS_SAY = {
    "cp1252_pairs.jsonl": "not UTF-8 text (byte 15)",
    "utf16_pairs.jsonl": "not UTF-8 text (byte 0)",
    "nul_pairs.jsonl": "line 1: not valid JSON",
    "long_pairs.jsonl": "line 2: has 50,000,000 characters",
    "deep_pairs.jsonl": "line 1: not valid JSON (nested too deeply)",
    "array_line.jsonl": "line 1: a JSON object is expected, found list",
    "number_line.jsonl": "line 2: a JSON object is expected, found int",
    "text_line.jsonl": "line 2: a JSON object is expected, found str",
    "null_line.jsonl": "line 2: a JSON object is expected, found NoneType",
    "digits_pairs.jsonl": "line 1: not valid JSON (Exceeds the limit",
    "key_twice_pairs.jsonl": "line 1: not valid JSON (the key chosen is there twice)",
    "prompt_number.jsonl": "line 2: prompt: neither text nor a list of messages",
    "prompt_null.jsonl": "line 2: prompt: neither text nor a list of messages",
    "chosen_number.jsonl": "line 2: chosen: neither text",
    "rejected_list.jsonl": "line 2: rejected: message 1 is not an object with role and content",
    "chosen_object.jsonl": "line 2: chosen: neither text",
    "no_messages.jsonl": "line 2: chosen: neither text",
    "no_content.jsonl": "line 2: chosen: message 1 has no content as text",
    "content_parts.jsonl": "line 2: chosen: message 1 has no content as text",
    "user_answers.jsonl": "line 2: chosen: message 1 has the role user",
    "same.jsonl": "line 2: chosen and rejected are the same text; delete the line",
    "same_tokens.jsonl": "line 2: chosen and rejected have the same tokens; delete the line",
    "empty_prompt.jsonl": "line 2: empty prompt",
    "empty_chosen.jsonl": "line 2: empty chosen",
    "half.jsonl": "line 2: has \\ud83d, half of a character",
    "other_note.jsonl": "line 2: clinical_note is not the note in prompt",
    "note_number.jsonl": "line 2: clinical_note is not text",
    "edits_number.jsonl": "line 2: edits",
    "spans_text.jsonl": "line 2: chosen_spans",
    "spans_outside.jsonl": "line 2: chosen_spans",
    "pair_ids.jsonl": "line 2: line 1 has the id a too; rename one",
    "same.parquet": "row 2: chosen and rejected are the same text; delete the",
    "no_rows.parquet": "the table has no rows",
    "table.parquet": "cannot be read as Parquet",
    "loop.jsonl": "cannot be read (Too many levels of symbolic links)",
    "nothing.jsonl": "is a folder, not a file",
    "empty.json": "the file is empty",
}
MODELS_SAY = {
    "good.csv": "good.csv: is a file, not a model folder",
    "nothing": "nothing: no ",
    "model_list": "model_list: no config.json could be read",
    "model_text": "model_text: no config.json could be read",
    "model_utf16": "model_utf16: no config.json could be read",
    "model_type": "model_type: no config.json could be read",
    "model_encoder": "model_encoder: no model could be loaded",
    "model_torn": "model_torn: no model could be loaded",
    "model_noise": "model_noise: no model could be loaded",
    "model_pickle": "model_pickle: no model could be loaded",
    "tokenizer_text": "tokenizer_text: no tokenizer could be loaded",
    "tokenizer_list": "tokenizer_list: no tokenizer could be loaded",
    "tokenizer_none": "tokenizer_none: no tokenizer could be loaded",
    "no_eos": "no_eos: the tokenizer has no end-of-sequence token",
}
ADAPTERS_SAY = {
    "adapter_base_gone": "adapter_base_gone: its base model ./gone/base is not there",
    "adapter_base_number": "names no base_model_name_or_path",
    "adapter_no_base": "names no base_model_name_or_path",
    "adapter_prompt": "adapters of type PROMPT_TUNING are not supported",
    "adapter_kind": "adapter_kind: ",
    "adapter_rank": "adapter_rank: the adapter does not fit its base model",
    "adapter_list": "adapter_config.json: a JSON object is expected, found list",
    "adapter_text": "adapter_config.json, line 1: not valid JSON",
    "adapter_noise": "adapter_noise: adapter_model.safetensors is damaged",
    "adapter_torn": "adapter_torn: adapter_model.safetensors is damaged",
    "format_list": "prompt_format.json: ",
    "format_text": "prompt_format.json, line 1: not valid JSON",
    "format_empty": "prompt_format.json: ",
    "format_unknown": "prompt_format.json: ",
    "format_changed": "the prompt is no longer rendered as in training",
}
HUB_SAYS = {
    "gated": "from the hub (",
    "unknown": "no such model on the hub",
    "unreachable": "the hub gave no answer",
    "offline": "HF_HUB_OFFLINE",
}
LOCAL_REMEDIES = ("hf auth login", "HF_HUB_OFFLINE", "folder")

CASES = [
    # Phase 1 files of every kind
    *(Case(SFT, f"{A} --train_data_path {file}", says) for file, says in {**PHASE1_SAYS, **OTHER_PHASE1_SAYS}.items()),
    *(
        Case(script, f"{flags} {file}", PHASE1_SAYS[file])
        for script, flags in (
            (SFT, f"{A} --val_data_path"),
            (COMPLETE, f"{SAMPLE} --prompts_path"),
            (EVAL, f"{EVALUATE} --test_data"),
        )
        for file in ("cp1252.csv", "nul.csv", "twice.csv", "label.csv", "half.json", "list.json", "table.parquet")
    ),
    *(
        Case(script, f"--phase1_dir phase1_{name.split('.')[0]} {rest}", PHASE1_SAYS[name])
        for script, rest in ((PHASE2, "--phase2_dir out"), (CALIBRATE, "--judge_model base --device cpu"))
        for name in ("cp1252.csv", "nul.csv", "label.csv", "twice.csv", "half.json", "table.parquet")
    ),
    Case(PHASE2, "--phase1_dir phase1_long --phase2_dir out", "line 3: has 50,000,013 characters"),
    Case(PHASE2, "--phase1_dir phase1_two --phase2_dir out", "holds train_set_processed.csv and train"),
    Case(EVAL, f"{EVALUATE} --test_data ids.csv", "line 3: line 2 has the id a too"),
    Case(COMPLETE, f"{SAMPLE} --prompts_path ids.csv", "two different notes have the id a"),
    Case("sft_dataset", "table.parquet", "cannot be read as Parquet"),
    Case("sft_dataset", "deep.json", "nested too deeply"),
    # the columns of one's own table
    Case(SFT, f"{A} --columns note=text", "line 1: missing column text; found id"),
    Case("sft_dataset", "good.csv --columns note=text", "line 1: missing column text"),
    Case("dpo_dataset", "good.jsonl --tokenizer base --columns prompt=text", "line 1: missing key text"),
    Case(EVAL, f"{EVALUATE} --columns note=text", "line 1: missing column text"),
    Case(CALIBRATE, "--judge_model base --phase1_dir phase1_good --columns note=text", "line 1: missing column text"),
    Case(SFT, f"{A} --columns note", "'note': write ROLE=COLUMN"),
    Case(SFT, f"{A} --columns text=clinical_note", "'text' is not one of note, summary"),
    Case(SFT, f"{A} --columns note=id note=label", "--columns names note twice"),
    Case(DPO, f"{B} --columns chosen=prompt rejected=prompt", "--columns names the column prompt twice"),
    Case(DPO, f"{B} --columns chosen=better", "line 1: missing key better"),
    Case(PHASE2, "--phase1_dir phase1_good --phase2_dir out --columns summary=text", "line 1: missing column text"),
    Case(EVAL, f"{PREDICTED} --columns generated=text", "line 1: missing column text"),
    Case(COMPLETE, f"{SAMPLE} --columns prompt=text", "line 1: missing column text"),
    # preference data
    *(Case(DPO, f"{B} --train_data_path {file}", says) for file, says in PAIRS_SAY.items()),
    *(Case(DPO, f"{B} --val_data_path {file}", PAIRS_SAY[file]) for file in ("same.jsonl", "same.parquet")),
    Case("dpo_dataset", "table.parquet --tokenizer base", "cannot be read as Parquet"),
    Case("dpo_dataset", "number_line.jsonl --tokenizer base", "line 2: a JSON object is expected"),
    # predictions, completions, ratings, notes
    Case(EVAL, "--output_dir out --predictions predictions_ids.json", "row 2: id 1 is already used on row 1"),
    Case(EVAL, "--output_dir out --predictions predictions_number.json", "row 1: generated_summary is empty or not te"),
    Case(EVAL, "--output_dir out --predictions predictions_blank.json", "row 1: clinical_note is empty or not text"),
    Case(EVAL, "--output_dir out --predictions texts.json", "row 1: an object is expected"),
    Case(EVAL, f"{PREDICTED} --judge_accuracy accuracy.json", "not the figures of a judge's accuracy"),
    Case("evaluation.report", "evaluation_list", "evaluation_summary.json: not the summary of an evaluation"),
    Case(JUDGE, "--output_dir out --completions_path completions_text.jsonl", "line 1: completions is not a list"),
    Case(JUDGE, "--output_dir out --completions_path completions_numbers.jsonl", "line 1: completions is not a list"),
    Case(JUDGE, "--output_dir out --completions_path completions_prompt.jsonl", "line 1: prompt is not a text"),
    Case(JUDGE, "--output_dir out --completions_path completions_reference.jsonl", "line 1: reference is not a text"),
    Case(JUDGE, "--output_dir out --completions_path completions_finished.jsonl", "line 1: finished must hold one"),
    Case(JUDGE, "--output_dir out --completions_path half.jsonl", "line 1: missing key completions"),
    Case(COMPLETE, f"{SAMPLE} --output_path sampled/c.jsonl", "c.config.json: "),
    Case(TOOL, "--results_csv rated/results.csv", "manual_assessment.json: not written by this version"),
    Case(TOOL, "--results_csv cp1252.csv", "not UTF-8 text"),
    Case(INFERENCE, "--model_path sft --input_file long.txt", "has 50,000,000 characters"),
    Case(INFERENCE, "--model_path sft --input_file cp1252.txt", "not UTF-8 text (byte 3)"),
    Case(INFERENCE, "--model_path sft --input_file texts.json", "row 1: an object is expected"),
    Case(INFERENCE, "--model_path sft --input_file blank_note.csv", "line 3: the note is empty"),
    Case(INFERENCE, "--model_path sft --input_file list.json", "row 2: clinical_note is not text"),
    Case(INFERENCE, "--model_path sft --clinical_note @loop", "loop: cannot be read (Too many levels"),
    Case(PREPARE, "--input nothing.parquet --output_dir out", "nothing.parquet: holds no table"),
    Case(PREPARE, "--input deep.json --output_dir out", "nested too deeply"),
    Case(PREPARE, "--input label.csv --output_dir out", "line 3: label 'good' is not known"),
    # model folders
    *(Case(SFT, f"{A} --model_name {name}", says) for name, says in MODELS_SAY.items()),
    *(Case(INFERENCE, f"{INFER} --model_path {name}", MODELS_SAY[name].split(":")[0]) for name in MODELS_SAY),
    *(Case(DPO, f"{B} --sft_model_path {name}", says) for name, says in ADAPTERS_SAY.items()),
    *(Case("export_model", f"{EXPORT} {name}", says) for name, says in ADAPTERS_SAY.items()),
    Case(DPO, f"{B} --base_model other_base", "the adapter does not fit its base model"),
    Case("export_model", f"{EXPORT} sft --base_model other_base", "the adapter does not fit its base model"),
    Case(INFERENCE, f"{INFER} --base_model other_base", "the adapter does not fit its base model"),
    Case(INFERENCE, f"{INFER} --base_model good.csv", "good.csv: is a file, not a model folder"),
    Case(SFT, f"{A} --prompt_format chat", "the tokenizer has no chat template; pass --prompt_format plain"),
    Case("dpo_dataset", "good.jsonl --tokenizer base --prompt_format chat", "the tokenizer has no chat template"),
    Case(CALIBRATE, "--judge_model model_encoder --phase1_dir phase1_good", "is no causal language model"),
    *(Case(SFT, f"{A} --model_name owner/model", says, hub) for hub, says in HUB_SAYS.items()),
    *(Case(INFERENCE, f"{INFER} --model_path owner/model", says, hub) for hub, says in HUB_SAYS.items()),
    # outputs that would overwrite inputs
    Case(
        SFT, f"{A} --model_name base_run/final_model --output_dir base_run --overwrite_output_dir", "would be deleted"
    ),
    Case(DPO, f"{B} --sft_model_path run/final_model --output_dir run --overwrite_output_dir", "would be deleted"),
    Case("export_model", "--model_path sft --output_dir sft --overwrite_output_dir --device cpu", "sft: is the"),
    Case("export_model", "--model_path sft --output_dir base --overwrite_output_dir --device cpu", "base: is the"),
    Case(EVAL, "--predictions evaluation/evaluation_results.csv --output_dir evaluation", "is the input file"),
    Case(JUDGE, "--completions_path on_policy/train.jsonl --output_dir on_policy", "is the input file"),
    Case(COMPLETE, f"{SAMPLE} --prompts_path good.jsonl --output_path good.jsonl", "is the input file"),
    Case(
        PREPARE,
        "--input prepared/train_set_processed.csv --output_dir prepared --overwrite_output_dir",
        "is the input file",
    ),
    Case(PREPARE, "--input prepared --output_dir prepared --overwrite_output_dir", "is the input folder"),
    # flags out of range
    *(
        Case(script, f"{flags} --{flag} {value}", f"--{flag} {value}: must be")
        for script, flags in ((SFT, A), (DPO, B))
        for flag, value in (
            ("learning_rate", "0.0"),
            ("learning_rate", "nan"),
            ("learning_rate", "inf"),
            ("warmup_ratio", "1.5"),
            ("weight_decay", "nan"),
            ("max_grad_norm", "inf"),
        )
    ),
    *(Case(DPO, f"{B} --beta {value}", f"--beta {value}: must be a number above 0") for value in ("0.0", "nan", "inf")),
    Case(DPO, f"{B} --label_smoothing 0.5", "--label_smoothing 0.5: must be at least 0 and below 0.5"),
    Case(DPO, f"{B} --nll_weight -1", "--preference_weight and --nll_weight must be finite"),
    Case(DPO, f"{B} --data_weights nan", "--data_weights nan: must be numbers above 0"),
    Case(SFT, f"{A} --max_length 0", "--max_length: 0: must be at least 1"),
    Case(SFT, f"{A} --num_epochs 0", "--num_epochs: 0: must be at least 1"),
    Case(INFERENCE, f"{INFER} --temperature nan", "--temperature nan"),
    Case(INFERENCE, f"{INFER} --max_new_tokens 0", "--max_new_tokens: 0: must be at least 1"),
    Case(EVAL, f"{EVALUATE} --temperature -1", "--temperature -1.0"),
]
# Files with a byte order mark and CRLF load: the command then fails on the second thing that is wrong with it.
LOADS = [
    Case(SFT, f"{A} --train_data_path bom.csv --val_data_path none.csv", "none.csv: no such file"),
    Case(SFT, f"{A} --train_data_path bom.json --val_data_path none.csv", "none.csv: no such file"),
    Case(DPO, f"{B} --train_data_path bom.jsonl --val_data_path none.jsonl", "none.jsonl: no such file"),
    Case(COMPLETE, f"{SAMPLE} --prompts_path bom.csv --model_path ./none", "none: no such model folder"),
    Case(COMPLETE, f"{SAMPLE} --prompts_path bom.jsonl --model_path ./none", "none: no such model folder"),
    Case(EVAL, f"{EVALUATE} --test_data bom.csv --model_path ./none", "none: no such model folder"),
    Case(INFERENCE, "--input_file bom.csv --model_path ./none", "none: no such model folder"),
    Case(INFERENCE, "--input_file bom.txt --model_path ./none", "none: no such model folder"),
    Case(PHASE2, "--phase1_dir phase1_bom --phase2_dir out", "validation_set_processed.csv: no such file"),
    Case(EVAL, "--predictions bom_predictions.csv --output_dir good.csv", "cannot write there"),
    Case(TOOL, "--results_csv bom_predictions.csv --start_idx 1", "--start_idx 1"),
    Case(JUDGE, "--completions_path bom_completions.jsonl --output_dir out", "no pair can be made from it"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    write_all(folder)
    return folder


@pytest.fixture(autouse=True)
def restored_signals() -> Iterator[None]:
    earlier = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, earlier)


def set_hub(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the hub by one that answers in a way of HUB_SAYS."""
    monkeypatch.setattr(hub, "_ask", cache(hub._ask.__wrapped__))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", answer == "offline")

    def model_info(*_: object, **__: object) -> object:
        if answer == "unreachable":
            raise HTTPError("no route to host")
        if answer == "unknown":
            raise RepositoryNotFoundError("404", response=Mock())
        return Mock(sha="0" * 40)  # of a gated model, the hub tells what it is, but gives no file

    def from_pretrained(*_: object, **__: object) -> object:
        raise OSError("You are trying to access a gated repo.\nMake sure to have access to it.")

    def download(*_: object, **__: object) -> object:
        raise GatedRepoError("Access to this model is restricted.", response=Mock(status_code=403))

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", model_info)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    for name in ("AutoConfig", "AutoTokenizer", "AutoModelForCausalLM"):
        monkeypatch.setattr(f"transformers.{name}.from_pretrained", from_pretrained)


def check(case: Case, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the command and return its one line."""
    monkeypatch.chdir(place)
    before = files_below(place)
    if case.hub:
        set_hub(case.hub, monkeypatch)
    code = run_here(case.script, case.arguments)
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if not is_progress(line)]
    assert (code, len(lines)) == (2, 1), printed
    assert lines[0].startswith("error: ")
    assert case.says in lines[0]
    assert len(lines[0]) < 1000
    assert "Traceback" not in printed.out
    assert files_below(place) == before
    return lines[0]


@pytest.fixture(autouse=True)
def no_output(place: Path) -> Iterator[None]:
    """Remove what a case that is not refused has written, so that it fails alone."""
    yield
    shutil.rmtree(place / "out", ignore_errors=True)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.script} {case.arguments} {case.hub}".strip())
def test_bad_input(
    case: Case, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = check(case, place, monkeypatch, capsys)
    if case.hub:
        assert all(remedy in line for remedy in LOCAL_REMEDIES), line


@pytest.mark.parametrize("case", LOADS, ids=lambda case: f"{case.script} {case.arguments}")
def test_a_byte_order_mark_and_crlf_load(
    case: Case, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check(case, place, monkeypatch, capsys)


def test_the_table_is_as_long_as_promised(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(set(CASES)) == len(CASES) >= 100
    with capsys.disabled():
        print(f"\nbad input: {len(CASES)} cases refused, {len(LOADS)} files with a byte order mark and CRLF loaded")
