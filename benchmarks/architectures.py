"""Run Stage A, Stage B, inference and export on small models of 17 architectures, and write the table of the docs.

In:  nothing; the models have random weights (tiny_architectures.py) and the data are made on the spot.
Out: --docs_file, one row per architecture: whether the adapter and the exported model write the same greedy text, or
     the line in which the run was refused before training.

    python -m benchmarks.architectures                                # a minute or two on a CPU
    python -m benchmarks.architectures --architectures gpt2 mixtral --docs_file models/table.md
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.tiny_architectures import ARCHITECTURES, build_architecture
from language_model.prompt_format import build_prompt
from script_io.csv_files import write_csv
from script_io.errors import ArgumentParser, InputError, RunError, run_script
from script_io.files import write_jsonl

DOCS_FILE = Path(__file__).resolve().parents[1] / "docs" / "architectures.md"
NOTE = "A 54-year-old woman with chest pain. Denies fever. Started apixaban 5 mg twice daily."
PAIRS = 4
HEAD = """# Architectures

Written by `python -m benchmarks.architectures`: small models with random weights, made on the spot, go through Stage A,
Stage B, `sft_inference.py` and `export_model.py` in float32 on a CPU. "Same text" means that the adapter of Stage B and
the exported model write the same greedy summary. Random weights show that the code handles an architecture, and nothing
about the quality of its models. A model that a stage cannot train is refused in one line by the preflight, before the
first step.

| architecture | `model_type` | outcome | rows in training | LoRA flags of Stage A |
|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Outcome:
    """What became of one architecture. `refusal` is the line of the error, or empty if the chain ran."""

    adapter_text: str = ""
    exported_text: str = ""
    is_packed: bool = False
    refusal: str = ""

    @property
    def ran(self) -> bool:
        return not self.refusal and self.adapter_text == self.exported_text

    def in_words(self) -> str:
        """Return the outcome as the table has it."""
        if self.refusal:
            return f"refused: {self.refusal}"
        return "runs, same text" if self.ran else "runs, the exported model writes another text"


def write_data(folder: Path) -> None:
    """Write examples for Stage A and pairs for Stage B, a few of each, that serve as training and validation data."""
    columns = ("id", "clinical_note", "model_summary", "label")
    notes = [f"A {age}-year-old with chest pain. Started apixaban {age % 9 + 1} mg." for age in range(40, 40 + PAIRS)]
    rows = [(f"n{number}", note, note[:30], "factual") for number, note in enumerate(notes)]
    write_csv(folder / "examples.csv", columns, [dict(zip(columns, row, strict=True)) for row in rows])
    pairs = [
        {"id": f"p{number}", "prompt": build_prompt(note), "chosen": note[:30], "rejected": "Denies fever."}
        for number, note in enumerate(notes)
    ]
    write_jsonl(folder / "pairs.jsonl", pairs)


def run_chain(name: str, folder: Path, data: Path) -> Outcome:
    """Run the chain on one architecture inside `folder`, with the data that `write_data` wrote to `data`."""
    import export_model
    import stage_a_sft_training as stage_a
    import stage_b_dpo_training as stage_b

    common = ["--device", "cpu", "--batch_size", str(PAIRS), "--num_epochs", "1", "--learning_rate", "1e-2"]
    log = StringIO()
    with ExitStack() as stack:
        stack.enter_context(patch("training.loop.plot_curves"))  # it takes longer than the training
        for redirect in (redirect_stdout, redirect_stderr):
            stack.enter_context(redirect(log))
        base = build_architecture(name, folder / "base")
        try:
            adapter = folder / "a" / "final_model"
            flags = [*_stage_flags("examples.csv", data, folder / "a"), *common, "--model_name", str(base)]
            stage_a.main(stage_a.parse_args([*flags, *ARCHITECTURES[name].lora]))
            flags = [*_stage_flags("pairs.jsonl", data, folder / "b"), *common, "--sft_model_path", str(adapter)]
            stage_b.main(stage_b.parse_args(flags))
            adapter = folder / "b" / "final_model"
            flags = ["--model_path", str(adapter), "--output_dir", str(folder / "merged"), "--device", "cpu"]
            export_model.main(export_model.parse_args(flags))
            texts = [_greedy_text(path) for path in (adapter, folder / "merged")]
        except (InputError, RunError) as error:
            return Outcome(refusal=str(error).replace(str(folder), ""))
    return Outcome(*texts, is_packed="rows are padded" not in log.getvalue())


def _stage_flags(file: str, data: Path, output: Path) -> list[str]:
    paths = (str(data / file), "--val_data_path", str(data / file))
    return ["--train_data_path", *paths, "--output_dir", str(output)]


def _greedy_text(model: Path) -> str:
    from sft_inference import SFTInference

    result: dict[str, Any] = SFTInference(model, device="cpu").generate_summary(NOTE, 16, temperature=0)
    text: str = result["generated_summary"]
    return text


def table_row(name: str, outcome: Outcome) -> str:
    """Return the row of one architecture in the table of the docs."""
    architecture = ARCHITECTURES[name]
    rows = "-" if outcome.refusal else "packed" if outcome.is_packed else "padded"
    cells = (architecture.title, f"`{architecture.model_type}`", outcome.in_words(), rows)
    return f"| {' | '.join(cells)} | `{' '.join(architecture.lora)}` |\n"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--architectures",
        nargs="+",
        choices=list(ARCHITECTURES),
        default=list(ARCHITECTURES),
        metavar="NAME",
        help="architectures to run (default: all)",
    )
    parser.add_argument("--docs_file", type=Path, default=DOCS_FILE, help="file of the table (default: the docs page)")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary)
        write_data(data)
        for name in args.architectures:
            outcome = run_chain(name, data / name, data)
            rows.append(table_row(name, outcome))
            print(f"{ARCHITECTURES[name].title}: {outcome.in_words()}", flush=True)
    args.docs_file.parent.mkdir(parents=True, exist_ok=True)
    args.docs_file.write_text(HEAD + "".join(rows), encoding="utf-8")
    print(f"Wrote {args.docs_file}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
