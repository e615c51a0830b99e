"""The README and the pages in docs/: their commands run or parse, their figures, links and names are right.

The commands of "One command per stage" are run word for word on a part of the demo's data.
"""

import csv
import importlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from pipeline_here import write_top_of_demo
from repository import SCRIPTS, options, parser_of
from training_helpers import ROOT, run

from benchmarks import seeds
from evaluation.acceptance import Bounds, acceptance
from pipeline.results import acceptance_line, best_truth, table

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS]
LINKED_PAGES = [*PAGES, ROOT / "benchmarks" / "RESULTS.md", ROOT / "lexicons" / "README.md"]
MOST_README_LINES = 199
Finished = tuple[Path, dict[str, str]]  # working folder, and what each script printed
SPLITS = {"train": 32, "validation": 10, "test": 8}
FOREIGN_FLAGS = {
    *("extra-index-url", "enable-lora", "lora-modules", "max-lora-rank", "chat-template"),  # of pip and vLLM
    *("generation-config", "served-model-name"),
    *("config_file", "cpu", "num_processes", "nproc_per_node"),  # of accelerate launch and torchrun
}
RENAMED_FLAGS = {"labelled_csv"}  # which the changelog names
WRITTEN_BY_RUNS = {  # folders and files that pages name and a fresh clone has not
    *("models", "phase2_data", "evaluation_results", "runs", "sft", "dpo", "logs"),
    *("final_model", "checkpoint_epoch_N", "reference_logps", "my_lexicons"),
}


def commands(heading: str) -> list[list[str]]:
    """The commands of the first code block under a heading."""
    block = README.split(f"## {heading}", 1)[1].split("```")[1]
    lines = block.replace("\\\n", " ").strip().splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


# 80 s. Proves that the README's commands, run as processes word for word, work one after the other.
@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A working folder in which every command of the real run has been run; its outputs by script name."""
    folder = tmp_path_factory.mktemp("readme")
    write_top_of_demo(folder / "phase1_data" / "sft", SPLITS)
    outputs = {}
    for program, script, *arguments in commands("One command per stage"):
        assert program == "python"
        result = run(script, *arguments, cwd=folder)
        assert result.returncode == 0, f"{script}: {result.stdout[-2000:]} {result.stderr[-2000:]}"
        outputs[script] = result.stdout
    return folder, outputs


def test_every_stage_leaves_what_the_contract_names(finished: Finished) -> None:
    folder, outputs = finished
    for name in (
        "models/sft_specialist/final_model/adapter_model.safetensors",
        "models/sft_specialist/final_model/sft_config.json",
        "models/sft_specialist/checkpoint_epoch_2/adapter_model.safetensors",
        "models/sft_specialist/training_stats.json",
        "models/sft_specialist/training_curves.png",
        "phase2_data/dpo/train_dpo.jsonl",
        "phase2_data/dpo/val_dpo.jsonl",
        "phase2_data/dpo/phase2_stats.json",
        "phase2_data/on_policy/completions.jsonl",
        "phase2_data/on_policy/preferences.jsonl",
        "phase2_data/on_policy/train.jsonl",
        "phase2_data/on_policy/val.jsonl",
        "phase2_data/on_policy/judge_stats.json",
        "models/dpo_hallucination_resistant/final_model/adapter_model.safetensors",
        "models/dpo_hallucination_resistant/final_model/dpo_config.json",
        "models/dpo_hallucination_resistant/dpo_training_stats.json",
        "models/dpo_merged/model.safetensors",
        "evaluation_results/sft/evaluation_results.csv",
        "evaluation_results/dpo/evaluation_summary.json",
        "evaluation_results/dpo/report.html",
        "evaluation_results/dpo/comparison.html",
    ):
        assert (folder / name).stat().st_size > 0, name
    assert "Clinical Note:" in outputs["sft_inference.py"]
    assert "Generated Summary:" in outputs["sft_inference.py"]
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".pkl", ".tmp")]


@pytest.mark.parametrize("model", ["sft_specialist", "dpo_hallucination_resistant"])
def test_the_final_models_load_and_merge(finished: Finished, model: str) -> None:
    folder, _ = finished
    loaded = AutoPeftModelForCausalLM.from_pretrained(folder / "models" / model / "final_model").eval()
    ids = torch.arange(3, 60).view(1, -1)
    with torch.no_grad():
        adapted = loaded(input_ids=ids).logits
        merged = loaded.merge_and_unload()(input_ids=ids).logits
    torch.testing.assert_close(merged, adapted, atol=1e-4, rtol=0)


def test_the_evaluations_count_every_test_note_once(finished: Finished) -> None:
    folder, _ = finished
    with (folder / "phase1_data/sft/test_set_processed.csv").open(newline="", encoding="utf-8") as file:
        notes = {row["clinical_note"] for row in csv.DictReader(file)}
    for name in ("sft", "dpo"):
        summary = json.loads((folder / "evaluation_results" / name / "evaluation_summary.json").read_text())
        assert summary["n"] == len(notes)
        low, high = summary["hallucination_rate_ci95"]
        assert 0 <= low <= summary["hallucination_rate"] <= high <= 1


def test_the_python_example_runs(finished: Finished) -> None:
    folder, _ = finished
    code = README.split("```python", 1)[1].split("```", 1)[0].replace("…", "A 54-year-old woman with chest pain.")
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


# ------------------------------------------------------------------------------------------ the README


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= MOST_README_LINES


def test_the_readme_opens_with_the_two_commands_and_the_last_lines_of_the_demo() -> None:
    _, first, _, second, _ = README.split("\n## ", 1)[0].split("```")
    targets = re.findall(r"(?m)^make (\w+)", first)
    assert targets == ["demo", "test"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"(?m)^{target}:", makefile) for target in targets)
    assert second.strip() == last_lines_of_the_demo()


def last_lines_of_the_demo() -> str:
    """What `run_pipeline.py` prints last, from the stored results of the demo."""
    results = json.loads((ROOT / "benchmarks" / "demo_results.json").read_text(encoding="utf-8"))
    mode = results["headline"]
    figures = {**results["models"], "control": results["control"]}
    before, after = (best_truth(figures[model][mode]) for model in ("sft", "dpo"))
    verdict = acceptance_line(mode, acceptance(before, after, Bounds()))
    return f"{table(figures, mode)}\n{verdict}"


@pytest.mark.parametrize("model", ["sft", "dpo", "control"])
def test_the_results_table_holds_the_stored_figures(model: str) -> None:
    modes = json.loads((ROOT / "benchmarks" / "seeds.json").read_text(encoding="utf-8"))["modes"]
    sampled, greedy = (modes[mode]["models"][model] for mode in ("sampled", "greedy"))
    shares = (sampled["hallucination_rate"], greedy["hallucination_rate"], sampled["coverage"])
    cells = [share_text(share) for share in shares] + [f"{sampled['mean_summary_words']['mean']:.1f}"]
    assert f" | {' | '.join(cells)} |" in README


def share_text(stored: dict[str, Any]) -> str:
    """A mean of `seeds.json` as `benchmarks/seeds.py` prints it: `4.2% [3.1%, 5.3%]`."""
    return seeds.Mean(stored["mean"], tuple(stored["ci95"]), stored["values"]).text()


def test_the_file_tree_names_every_script_and_package_and_no_other() -> None:
    tree = README.split("## Files", 1)[1].split("```")[1]
    assert set(re.findall(r"(?m)^([a-z_0-9]+\.py)", tree)) == {path.name for path in ROOT.glob("*.py")}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert set(re.findall(r"(?m)^([a-z_0-9]+)/", tree)) >= packages


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_the_readme_links_every_page_once(page: Path) -> None:
    assert README.count(f"(docs/{page.name})") == 1


# ------------------------------------------------------------------------------------------- all pages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_are_accepted_by_their_scripts(page: Path) -> None:
    for script, arguments in commands_of(page):
        importlib.import_module(script).parse_args(arguments)


def test_commands_are_found_in_blocks_and_in_sentences() -> None:
    found = [script for page in PAGES for script, _ in commands_of(page)]
    assert {"stage_a_sft_training", "evaluation.fact_checker", "run_pipeline", "benchmarks.transfer"} <= set(found)


def commands_of(page: Path) -> list[tuple[str, list[str]]]:
    """(script as a module, arguments) of every `python SCRIPT.py` in code blocks and code spans."""
    text = page.read_text(encoding="utf-8")
    lines = "\n".join(code_blocks(text)).replace("\\\n", " ").splitlines() + code_spans(text)
    found = []
    for line in lines:
        if match := re.search(r"python ([\w/]+)\.py(?: |$)", line.strip()):
            words = shlex.split(line.strip()[match.end() :], comments=True)
            found.append((match[1].replace("/", "."), words))
    return found


def code_blocks(text: str) -> list[str]:
    return re.findall(r"(?ms)^```\w*\n(.*?)^```", text)


def code_spans(text: str) -> list[str]:
    """Inline code, each span on one line."""
    without_blocks = re.sub(r"(?ms)^```.*?^```", "", text)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", without_blocks)]


@pytest.fixture(scope="module")
def flags() -> set[str]:
    """Every flag of every script."""
    return {name for script in SCRIPTS for name in options(parser_of(script))} | {"help", "config"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_flag_that_a_page_names_exists(page: Path, flags: set[str]) -> None:
    text = page.read_text(encoding="utf-8")
    named = {flag for code in code_blocks(text) + code_spans(text) for flag in re.findall(r"--([a-z][\w-]*)", code)}
    assert named - flags - FOREIGN_FLAGS - RENAMED_FLAGS == set()


@pytest.mark.parametrize("page", LINKED_PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8")):
        place = page.parent / target if target else page
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"(?m)^#+ (.*)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    for span in code_spans(page.read_text(encoding="utf-8")):
        is_name = re.fullmatch(r"[\w./]+(?:/|\.py)", span)
        if is_name and span.split("/")[0] not in WRITTEN_BY_RUNS | {"..", ""}:
            assert (ROOT / span).exists() or any(ROOT.glob(f"*/{span}")), span


def test_the_glossary_names_every_metric_and_column_of_a_run(finished: Finished) -> None:
    folder, _ = finished
    glossary = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    named = {name for span in code_spans(glossary) for name in re.split(r", | ", span)}
    runs = [folder / "models" / name for name in ("sft_specialist", "dpo_hallucination_resistant")]
    results = folder / "evaluation_results" / "dpo"
    written = {name for path in runs for line in (path / "metrics.jsonl").open() for name in json.loads(line)}
    with (results / "evaluation_results.csv").open(newline="", encoding="utf-8") as file:
        written |= set(csv.DictReader(file).fieldnames or ())
    for path in (
        runs[0] / "training_stats.json",
        runs[1] / "dpo_training_stats.json",
        folder / "phase2_data" / "on_policy" / "judge_stats.json",
        results / "evaluation_summary.json",
        results / "comparison.json",
    ):
        written |= set(json.loads(path.read_text(encoding="utf-8")))
    written |= set(json.loads((folder / "phase2_data" / "dpo" / "phase2_stats.json").read_text())["train"])
    explained = {name.removesuffix("_ci95").removesuffix("_n") for name in written}  # the page explains both endings
    assert explained - named == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_placeholder_is_left(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "@@" not in text
    assert "TBD" not in text
