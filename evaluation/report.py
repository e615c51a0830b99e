"""Write `report.html`, the page of one evaluation.

In:  an evaluation folder with `evaluation_results.csv` and `evaluation_summary.json`, and the accuracy of its judge.
Out: one self-contained page. It works without a network, with the keyboard only, and in print.

    python evaluation/report.py evaluation_results
    python -m evaluation.report runs/demo/evaluation_sft --judge_accuracy agreement/fact_checker_agreement.json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in evaluation/ only

from evaluation.judge_accuracy import Accuracy, add_accuracy_argument, read_judge_accuracy
from evaluation.metrics import grades_text
from evaluation.pages.category_chart import chart
from evaluation.pages.examples import make_example
from evaluation.pages.page import label_of, write_page
from evaluation.pages.trust import Rate, trust
from evaluation.result_files import VERDICTS, read_evaluation
from script_io.errors import ArgumentParser, run_script

# measure, format of its value, short meaning; metrics.py has the definitions
_MEASURES = (
    ("hallucination_rate", "{:.1%}", "summaries with a claim that the note contradicts or does not support"),
    ("claim_error_rate", "{:.1%}", "claims contradicted or unsupported, of all claims"),
    ("coverage", "{:.1%}", "share of the reference's facts that the summary states"),
    ("citation_accuracy", "{:.1%}", "citations whose sentences exist and support the statement"),
    ("rouge_l", "{:.2f}", "overlap of words with the reference; says little about truth"),
    ("mean_summary_words", "{:.1f}", "mean number of words per summary"),
    ("empty_rate", "{:.1%}", "summaries without words"),
    ("repeated_rate", "{:.1%}", "summaries that repeat themselves"),
    ("unfinished_rate", "{:.1%}", "summaries cut off at the token limit"),
    ("median_seconds", "{:.2f}", "median time to generate a summary, in seconds"),
)
_MAIN_MEASURES = ("hallucination_rate", "claim_error_rate", "coverage")  # shown even if not measured


def _is_shown(summary: Mapping[str, Any], name: str) -> bool:
    return name in _MAIN_MEASURES or summary.get(name) is not None


def _measure(summary: Mapping[str, Any], name: str, written: str, meaning: str) -> dict[str, str]:
    value, interval = summary.get(name), summary.get(f"{name}_ci95")
    return {
        "name": label_of(name),
        "value": "not measured" if value is None else written.format(value),
        "interval": " to ".join(written.format(bound) for bound in interval or ()),
        "n": str(summary["claims" if name == "claim_error_rate" else f"{name}_n"]) if interval else "",
        "meaning": meaning,
    }


def _second_judge(figures: Mapping[str, Any] | None) -> str:
    """Return the rate of the second judge, such as `12.0% (95% interval 8.0% to 17.0%, n=200) by facts`."""
    if not figures or figures["hallucination_rate"] is None:
        return ""
    low, high = figures["hallucination_rate_ci95"]
    rate = f"{figures['hallucination_rate']:.1%} (95% interval {low:.1%} to {high:.1%}, n={figures['n']})"
    return f"{rate} by {figures['judge']}"


def write_evaluation_report(folder: Path, judge_accuracy: Path | None = None) -> Path:
    """Write `report.html` into an evaluation folder and return its path.

    `judge_accuracy` is a file of `evaluation.judge_accuracy`; None means the suite's own, if it is about this judge.
    """
    summary, rows = read_evaluation(folder)
    accuracy = read_judge_accuracy(judge_accuracy, summary["judge"])
    write_page(
        folder / "report.html",
        "report.html.j2",
        summary=summary,
        trust=trust(summary["judge"], accuracy, rates_of({"": summary}), summary.get("lexicons")),
        measures=[_measure(summary, *measure) for measure in _MEASURES if _is_shown(summary, measure[0])],
        calibration=summary.get("calibration"),
        grades=grades_text(summary.get("judge_grades") or {}),
        judge_made_training_pairs=summary.get("judge_made_training_pairs"),
        judge_is_relative=summary.get("judge_is_relative"),
        second_judge=_second_judge(summary.get("second_judge")),
        drawn=chart({"": summary["by_type"]}, summary["summaries"] - summary["judge_failures"]),
        verdicts=VERDICTS.values(),
        examples=(
            make_example(f"x{number}", VERDICTS[row["has_hallucination"]], {"Generated summary": row}, summary["model"])
            for number, row in enumerate(rows, start=1)
        ),
    )
    return folder / "report.html"


def rates_of(summaries: Mapping[str, Mapping[str, Any]]) -> dict[str, Rate]:
    """Return {model: (hallucination rate, its interval, number of independent summaries)} of models with a rate."""
    return {
        name: (summary["hallucination_rate"], summary["hallucination_rate_ci95"], independent_summaries(summary))
        for name, summary in summaries.items()
        if summary["hallucination_rate"] is not None
    }


def independent_summaries(summary: Mapping[str, Any]) -> float:
    """Return the number of judged summaries, which count as fewer if notes have several."""
    share, interval, n = (summary[f"hallucination_rate{end}"] for end in ("", "_ci95", "_n"))
    repeats = summary.get("notes", summary["summaries"]) < summary["summaries"]
    return Accuracy(share, interval, n).independent[1] if repeats else n


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__)
    data = parser.add_argument_group("Data")
    data.add_argument("folder", type=Path, help="evaluation folder; its report.html is replaced")
    add_accuracy_argument(data)
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    """Write the report of one evaluation."""
    print(f"Wrote {write_evaluation_report(args.folder, args.judge_accuracy)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
