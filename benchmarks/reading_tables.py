"""Write the figures of a blind reading as Markdown. Every table says who the readers were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.reading_figures import DENSITY
from evaluation.stats import p_text

KINDS = {"clinician": "clinicians", "language model": "language models, no clinician"}
Figures = Mapping[str, Any]
DASH = "-"


def reading_page(figures: Figures) -> str:
    """Return the whole page: the mean of the readers first, then each reader, then their agreement."""
    who = f"{len(figures['by_reader'])} {KINDS[figures['reader_kind']]}"
    lines = ["# Blind reading", "", *_introduction(figures)]
    if figures["mean_of_readers"]:
        lines += ["", "## Mean of all readers", ""]
        lines += _section(figures["mean_of_readers"], f"mean of {who}", figures)
    for name, found in figures["by_reader"].items():
        lines += ["", f"## Reader {name}", ""]
        lines += _section(found, f"reader {name}: {figures['reader_kind']}{_no_clinician(figures)}", figures)
    if figures["agreement"]:
        lines += ["", "## Agreement of the readers", "", *_agreement_table(figures["agreement"], who)]
    return "\n".join(lines) + "\n"


def _no_clinician(figures: Figures) -> str:
    return "" if figures["reader_kind"] == "clinician" else ", no clinician"


def _introduction(figures: Figures) -> list[str]:
    seeds = len(figures["seeds"])
    of_seeds = f" for each of {seeds} seeds" if seeds > 1 else ""
    draws = "dialogues and seeds" if seeds > 1 else "dialogues"
    test = "McNemar's exact test"
    if seeds > 1:
        test = (
            "the exact sign-flip test of whole dialogues with all their seeds, which is about these training runs alone"
        )
    return [
        f"{figures['dialogues']} dialogues, one summary of each by every model{of_seeds}; {figures['texts']} different "
        f"texts. Readers: {len(figures['by_reader'])} {KINDS[figures['reader_kind']]}.",
        "",
        f"95% intervals in brackets: the bootstrap over {draws}; Wilson's for the shares of one reader and one seed, "
        "and for shares of 0% and 100%; over dialogues for the automatic judge. "
        f"Differences are paired, the second model minus the first; p is {test}, not adjusted for the "
        "number of tests. Completeness: 0 none of the important facts, 1 a few, 2 most, 3 all. "
        "New words: without sentences that repeat an earlier one. False statements: those that the readers marked, "
        "per 100 new words, which a model does not lower by saying less.",
    ]


def _section(found: Figures, who: str, figures: Figures) -> list[str]:
    lines = _model_table(found["models"], who, figures["mean_reference_words"])
    if found["differences"]:
        lines += ["", *_difference_table(found["differences"], who)]
    return [*lines, "", *_judge_table(found["automatic_judge"], who)]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [list(header), ["---"] * len(header), *map(list, rows)]
    return [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines]


def _model_table(models: Figures, who: str, reference_words: float | None) -> list[str]:
    rows = [
        [
            model,
            str(row["hallucinated"]["n"]),
            _percent(row["hallucinated"]),
            _percent(row["major"]),
            _number(row["completeness"], ".2f"),
            _number(row["words"], ".1f"),
            _number(row["new_words"], ".1f"),
            _number(row[DENSITY], ".1f"),
        ]
        for model, row in models.items()
    ]
    if reference_words is not None:
        rows.append(["references", *[DASH] * 4, f"{reference_words:.1f}", DASH, DASH])
    header = [f"model ({who})", "n", "hallucinated", "major", "completeness, 0 to 3", "words", "new words"]
    return _table([*header, "false statements per 100 new words"], rows)


def _difference_table(differences: Sequence[Figures], who: str) -> list[str]:
    rows = [
        [
            f"{row['second']} less {row['first']}",
            str(row["hallucinated"]["n"]),
            _points(row["hallucinated"]),
            _discordant(row["hallucinated"]),
            _points(row["major"]),
            _discordant(row["major"]),
            _number(row["completeness"], "+.2f"),
            _number(row["words"], "+.1f"),
            _number(row["new_words"], "+.1f"),
            _number(row[DENSITY], "+.1f"),
        ]
        for row in differences
    ]
    header = [f"difference ({who})", "pairs", "hallucinated, points", "better : worse", "major, points"]
    return _table([*header, "better : worse", "completeness", "words", "new words", "per 100 new words"], rows)


def _judge_table(judge: Figures, who: str) -> list[str]:
    rows = [
        [
            name,
            str(row["n"]),
            DASH if row["flagged"] is None else f"{row['flagged']:.1%}",
            _share(row["sensitivity"]),
            _share(row["specificity"]),
        ]
        for name, row in judge.items()
    ]
    header = [f"automatic judge ({who})", "n", "flagged", "of the hallucinated, flagged (sensitivity)"]
    return _table([*header, "of the others, not flagged (specificity)"], rows)


def _agreement_table(pairs: Sequence[Figures], who: str) -> list[str]:
    rows = []
    for pair in pairs:
        for name in ("hallucinated", "major", "completeness"):
            row = pair[name]
            share = DASH if row["share"] is None else f"{row['agreed']} of {row['n']} ({row['share']:.1%})"
            rows.append([" and ".join(pair["readers"]), name, share, _kappa(row)])
    return _table([f"readers ({who})", "question", "agree on", "Cohen's kappa"], rows)


# --------------------------------------------------------------------------------------------------- cells


def _percent(figure: Figures) -> str:
    return _cell(figure["mean"], figure["ci95"], ".1%")


def _share(figure: Figures) -> str:
    return _cell(figure["share"], figure["ci95"], ".1%")


def _number(figure: Figures, form: str) -> str:
    return _cell(figure["difference"] if "difference" in figure else figure["mean"], figure["ci95"], form)


def _points(figure: Figures) -> str:
    """Return a difference of shares in percentage points."""
    value, interval = figure["difference"], figure["ci95"]
    scaled = None if interval is None else [100 * end for end in interval]
    return _cell(None if value is None else 100 * value, scaled, "+.1f")


def _cell(value: float | None, interval: Sequence[float] | None, form: str) -> str:
    if value is None:
        return DASH
    if interval is None:
        return f"{value:{form}}"
    low, high = interval
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def _discordant(figure: Figures) -> str:
    """Return `34 : 2 (p < 0.0001)`: the pairs in which only the first, and only the second model is wrong."""
    if "p" not in figure:
        return DASH
    return f"{figure['only_first']} : {figure['only_second']} ({p_text(figure['p'])})"


def _kappa(row: Figures) -> str:
    if row.get("kappa") is None:
        return DASH
    return _cell(row["kappa"], row["kappa_ci95"], ".2f")
