"""Say in words what a comparison of two evaluations shows, at what price, and why it may mislead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.paired import Pair
from evaluation.stats import p_text
from judging.pair_makers import model_of_judge

COMPARED_SETTINGS = ("judge", "lexicons", "temperature", "max_new_tokens")
SHORTER = 0.9  # ratio of the mean words below which fewer errors may be due to the length alone
NO_DIFFERENCE = "no difference shown"
# measure -> what a lower value of the second model is, and a higher one
_DIRECTIONS = {
    "hallucination_rate": ("better", "worse"),
    "claim_error_rate": ("better", "worse"),
    "coverage": ("worse", "better"),
    "citation_accuracy": ("worse", "better"),
    "summary_words": ("shorter", "longer"),
}


def outcome(name: str, entry: Mapping[str, Any] | None) -> str:
    """Return what the difference of a measure, or of the share of a kind of error, says of the second model."""
    if entry is None:
        return "not measured"
    lower, higher = _DIRECTIONS.get(name, ("fewer", "more"))
    return (lower if entry["difference"] < 0 else higher) if entry["holds"] else NO_DIFFERENCE


def names_of(result: Mapping[str, Any]) -> tuple[str, str]:
    """Return the names of the two models of a comparison."""
    return result["first"]["name"], result["second"]["name"]


def p_of(result: Mapping[str, Any]) -> str:
    """Return McNemar's p-value, adjusted if there are several pairs of models: `p = 0.0312, adjusted`."""
    test = result["mcnemar"]
    return f"{p_text(test['p_holm'])}, adjusted by Holm's method" if "p_holm" in test else p_text(test["p"])


def conclusion(result: Mapping[str, Any]) -> str:
    """Return whether the difference in hallucinated summaries holds, and whether the better model says less."""
    first, second = names_of(result)
    before, after = (side["rate"] for side in result["hallucination_rate"])
    rates = f"{before:.1%} of the summaries by {first} and {after:.1%} of the summaries by {second} hallucinate"
    rates += f" ({result['n']} notes, McNemar {p_of(result)})"
    if not result["differences"]["hallucination_rate"]["holds"]:
        return f"No difference is shown: {rates}."
    direction = "fewer" if after < before else "more"
    opening = f"The difference holds: {second} hallucinates in {direction} summaries than {first}."
    return f"{opening} {rates}.{_price(result)}"


def _price(result: Mapping[str, Any]) -> str:
    """Return a sentence if the model with the lower rate says less, else an empty text."""
    better = 0 if result["hallucination_rate"][0]["count"] < result["hallucination_rate"][1]["count"] else 1
    return "".join(f" But {text}." for side, text in says_less(result) if side == better)


def says_less(result: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Return (0 for the first or 1 for the second model, a text) if the model's coverage or length is lower."""
    coverage, words = (result["differences"][name] for name in ("coverage", "summary_words"))
    found = []
    if coverage and coverage["holds"]:
        text = "the summaries by {} state less: their coverage is {:.1%}, while {} has {:.1%}"
        found.append(_less(result, coverage, text))
    if words["holds"] and min(words["first"], words["second"]) < SHORTER * max(words["first"], words["second"]):
        text = "the summaries by {} are shorter: {:.1f} words on average, while {} has {:.1f}"
        found.append(_less(result, words, text))
    return found


def _less(result: Mapping[str, Any], entry: Mapping[str, Any], text: str) -> tuple[int, str]:
    side, names = int(entry["difference"] < 0), names_of(result)
    values = (entry["first"], entry["second"])
    return side, text.format(names[side], values[side], names[1 - side], values[1 - side])


def warnings_of(summaries: Sequence[Mapping[str, Any]], pairs: Sequence[Pair], result: Mapping[str, Any]) -> list[str]:
    """Return the reasons why the comparison may mislead."""
    first, second = summaries
    found = [
        f"{name} differs: {first.get(name)} and {second.get(name)}"
        for name in COMPARED_SETTINGS
        if first.get(name) != second.get(name)
    ]
    references = sum(a["reference_summary"] != b["reference_summary"] for a, b in pairs)
    if references:
        found.append(f"{references} notes have different references; their coverage cannot be compared")
    for name, summary in zip(names_of(result), summaries, strict=True):
        if summary.get("judge_made_training_pairs"):
            found.append(
                f"the judge {model_of_judge(summary['judge'])} made the pairs that {name} was trained on, so it "
                "rates this model better than other judges do; compare by another judge as well"
            )
    return found + [text for _, text in says_less(result) if text not in result["conclusion"]]
