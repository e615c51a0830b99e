"""Write the demo's Phase 1 CSV files from the synthetic cases.

In:  no files; the cases come from `demo/cases.py`.
Out: `train_set_processed.csv`, `validation_set_processed.csv` and `test_set_processed.csv`.

    python demo/make_phase1_data.py                                   # phase1_data/sft, as shipped
    python demo/make_phase1_data.py --output_dir runs/phase1          # another folder
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs from any working folder

from demo.cases import NOTES, DemoCase, make_cases
from script_io.csv_files import write_csv
from script_io.errors import ArgumentParser, run_script
from script_io.phase1_csv import COLUMNS, FACTUAL, FACTUAL_WITH_EVIDENCE, HALLUCINATED


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    output = parser.add_argument_group("Output")
    output.add_argument("--output_dir", default="phase1_data/sft", help="folder for the files (default: %(default)s)")
    return parser.parse_args(argv)


def rows(case: DemoCase) -> Iterator[dict[str, str]]:
    """Yield the factual row of a case, and its hallucinated row if it has one."""
    label = FACTUAL_WITH_EVIDENCE if case.citation else FACTUAL
    yield dict(zip(COLUMNS, (case.id, case.note, case.reference + case.citation, label, ""), strict=True))
    if case.wrong_summary and case.wrong_type:
        # the same citation as the factual row, so that it does not give the wrong summary away
        cells = (f"{case.id}-h", case.note, case.wrong_summary + case.citation, HALLUCINATED, case.wrong_type)
        yield dict(zip(COLUMNS, cells, strict=True))


def main(args: argparse.Namespace) -> int:
    for split in NOTES:
        content = [row for case in make_cases(split) for row in rows(case)]
        path = Path(args.output_dir) / f"{split}_set_processed.csv"
        write_csv(path, COLUMNS, content)
        print(f"Saved {len(content)} rows of {NOTES[split]} notes to {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
