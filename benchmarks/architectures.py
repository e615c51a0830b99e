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
from pathlib import Path

from benchmarks.architecture_chain import Outcome, run_chain, write_data
from benchmarks.tiny_architectures import ARCHITECTURES
from script_io.errors import ArgumentParser, run_script

DOCS_FILE = Path(__file__).resolve().parents[1] / "docs" / "architectures.md"
HEAD = """# Architectures

Written by `python -m benchmarks.architectures`: small models with random weights, made on the spot, go through Stage A,
Stage B, `sft_inference.py` and `export_model.py` in float32 on a CPU. "Same text" means that the adapter of Stage B and
the exported model write the same greedy summary. Random weights show that the code handles an architecture, and nothing
about the quality of its models. A model that a stage cannot train is refused in one line by the preflight, before the
first step. Without `--lora_target_modules`, Stage A adapts `q_proj` and `v_proj`, and names the layers of a model that
has no such modules.

| architecture | `model_type` | outcome | rows in training | LoRA flags of Stage A |
|---|---|---|---|---|
"""


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
