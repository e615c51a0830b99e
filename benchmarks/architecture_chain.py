"""Both stages, inference and export in this process, on a small model of one architecture."""

from __future__ import annotations

from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.tiny_architectures import ARCHITECTURES, build_architecture
from language_model.prompt_format import build_prompt
from script_io.csv_files import write_csv
from script_io.errors import InputError, RunError
from script_io.files import write_jsonl

NOTE = "A 54-year-old woman with chest pain. Denies fever. Started apixaban 5 mg twice daily."
PAIRS = 4


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
            adapter_text, exported_text = (_greedy_text(path) for path in (adapter, folder / "merged"))
        except (InputError, RunError) as error:
            return Outcome(refusal=str(error).replace(str(folder), ""))
    return Outcome(adapter_text, exported_text, is_packed="rows are padded" not in log.getvalue())


def _stage_flags(file: str, data: Path, output: Path) -> list[str]:
    paths = (str(data / file), "--val_data_path", str(data / file))
    return ["--train_data_path", *paths, "--output_dir", str(output)]


def _greedy_text(model: Path) -> str:
    from sft_inference import SFTInference

    result: dict[str, Any] = SFTInference(model, device="cpu").generate_summary(NOTE, 16, temperature=0)
    text: str = result["generated_summary"]
    return text
