"""Write `comparison.html`: the comparisons of every two models, and each note next to all its summaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from evaluation.judge_accuracy import JudgeAccuracy
from evaluation.metrics import by_type
from evaluation.pages.category_chart import chart
from evaluation.pages.examples import make_example
from evaluation.pages.page import label_of, write_page
from evaluation.pages.trust import Rate, trust
from evaluation.result_files import Row
from evaluation.stats import p_text
from evaluation.verdicts_in_words import names_of, outcome, p_of

IN_UNITS = ("summary_words",)  # differences that are not shares
Sides = Mapping[str, Row]  # name of the model -> its row


def write_comparison_report(
    path: Path,
    results: Sequence[Mapping[str, Any]],
    notes: Sequence[Sides],
    summary: Mapping[str, Any],
    accuracy: JudgeAccuracy | None = None,
) -> None:
    """Write `comparison.html` from the comparisons, the rows of each note, and the summary of the first evaluation."""
    names = list(notes[0])
    drawn = chart({name: by_type([sides[name] for sides in notes]) for name in names}, len(notes))
    changes = [change_of(sides) for sides in notes]
    write_page(
        path,
        "comparison.html.j2",
        names=names,
        n=len(notes),
        not_judged=results[0]["not_judged"],
        models=_models(results),
        trust=trust(summary["judge"], accuracy, _rates(results), summary.get("lexicons")),
        comparisons=[_comparison(result) for result in results],
        warnings=list(dict.fromkeys(warning for result in results for warning in result["warnings"])),
        drawn=drawn,
        types=[each["name"] for each in drawn["names"]],
        verdicts=[name for name in possible_changes(names) if len(names) == 2 or name in changes],
        examples=(
            make_example(f"x{number}", change, sides)
            for number, (change, sides) in enumerate(zip(changes, notes, strict=True), start=1)
        ),
    )


def possible_changes(names: Sequence[str]) -> list[str]:
    """Return the names of all combinations of verdicts, the one with the most hallucinated summaries first."""
    wrong = [[name for name, is_wrong in zip(names, each, strict=True) if is_wrong] for each in _combinations(names)]
    return [_change(each, len(names)) for each in wrong]


def _combinations(names: Sequence[str]) -> list[tuple[bool, ...]]:
    return sorted(product((True, False), repeat=len(names)), key=sum, reverse=True)


def change_of(sides: Sides) -> str:
    """Return which of the summaries of a note are hallucinated, in words."""
    return _change([name for name, row in sides.items() if row["has_hallucination"] == "1"], len(sides))


def _change(wrong: Sequence[str], models: int) -> str:
    if not wrong:
        return f"no error in {'either' if models == 2 else 'any'}"
    if len(wrong) == models:
        return f"{'both' if models == 2 else 'all'} hallucinated"
    return f"only {' and '.join(wrong)} hallucinated"


def _models(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each model once, with the number of its notes that are left out."""
    found: dict[str, dict[str, Any]] = {}
    for result in results:
        for side in ("first", "second"):
            found[result[side]["name"]] = {**result[side], "left_out": result[f"only_in_{side}"]}
    return list(found.values())


def _rates(results: Sequence[Mapping[str, Any]]) -> dict[str, Rate]:
    return {
        name: (side["rate"], side["ci95"], result["n"])
        for result in results
        for name, side in zip(names_of(result), result["hallucination_rate"], strict=True)
    }


def _comparison(result: Mapping[str, Any]) -> dict[str, Any]:
    first, second = names_of(result)
    return {
        "first": first,
        "second": second,
        "conclusion": result["conclusion"],
        "table": result["mcnemar"],
        "p": p_of(result),
        "measures": [_difference(name, entry, name not in IN_UNITS) for name, entry in result["differences"].items()],
        "categories": [_category(kind, entry) for kind, entry in result["by_type"].items()],
    }


def _difference(name: str, entry: Mapping[str, Any] | None, is_share: bool) -> dict[str, str]:
    if entry is None:
        blank = dict.fromkeys(("first", "second", "difference", "interval"), "")
        return {"name": label_of(name), **blank, "outcome": outcome(name, entry)}
    scale, unit = (100, "%") if is_share else (1, "")
    points = " points" if is_share else ""
    low, high = (scale * bound for bound in entry["ci95"])
    return {
        "name": label_of(name),
        "first": f"{scale * entry['first']:.1f}{unit}",
        "second": f"{scale * entry['second']:.1f}{unit}",
        "difference": f"{scale * entry['difference']:+.1f}{points}",
        "interval": f"{low:+.1f} to {high:+.1f}",
        "outcome": outcome(name, entry),
    }


def _category(kind: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **_difference(kind, entry, is_share=True),
        "only_first": entry["only_first"],
        "only_second": entry["only_second"],
        "p": p_text(entry["p_holm"]).removeprefix("p = "),
    }
