"""Blind readings: the draw and its key, the ratings, and the figures, worked out by hand or by complete enumeration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assessment.ratings import HALLUCINATED, NOT_HALLUCINATED, Rating, RatingBook, SummaryError
from benchmarks.blind_reading import main, parse_args
from benchmarks.reading_figures import (
    agreement_figures,
    crossed_interval,
    density_figure,
    difference_figures,
    judge_figures,
    mean_figure,
    reading_figures,
    sign_flip_figures,
)
from benchmarks.reading_ratings import MEASURES, Reader, load_readers
from benchmarks.reading_sample import Results, Sample, draw, load_sample
from evaluation.stats import mcnemar_p, percentile_interval, wilson_interval
from script_io.csv_files import read_csv, write_csv
from script_io.errors import InputError
from script_io.files import read_json, read_jsonl, write_jsonl

COLUMNS = ("example_id", "clinical_note", "reference_summary", "generated_summary", "has_hallucination")
NAN = float("nan")


def write_results(folder: Path, summaries: Sequence[str], flags: str = "") -> Path:
    """One row for each summary; note and reference depend on its number alone."""
    cells = [
        (f"case-{i}", f"note {i}", f"reference of note {i}", text, flags[i : i + 1]) for i, text in enumerate(summaries)
    ]
    write_csv(folder / "evaluation_results.csv", COLUMNS, [dict(zip(COLUMNS, row, strict=True)) for row in cells])
    return folder


@pytest.fixture
def results(tmp_path: Path) -> list[Results]:
    """Two models on four notes; on notes 0 and 1 they write the same."""
    texts = {"sft": ["same 0", "same 1", "a 2", "a b 3"], "dpo": ["same 0", "same 1", "x 2", "x 3"]}
    flags = {"sft": "1010", "dpo": "1001"}
    return [Results.parse(f"{name}={write_results(tmp_path / name, texts[name], flags[name])}") for name in texts]


# ------------------------------------------------------------------------------------------------------- draw


def test_a_draw_hides_the_models_and_the_key_finds_them(results: list[Results], tmp_path: Path) -> None:
    folder = tmp_path / "reading"
    assert draw(results, 4, 42, folder) == 6  # 8 summaries, of which 2 pairs are equal
    shown = "".join(path.read_text() for path in (folder / "texts").iterdir())
    for hidden in ("sft", "dpo", "case-", "reference", "has_hallucination"):
        assert hidden not in shown
    rows = [row for _, row in read_jsonl(folder / "texts" / "texts.jsonl", ())]
    assert [set(row) for row in rows] == [{"id", "clinical_note", "generated_summary"}] * 6
    for_tool = [row for _, row in read_csv(folder / "texts" / "evaluation_results.csv", ("example_id",))]
    assert [tuple(row.values()) for row in for_tool] == [tuple(row.values()) for row in rows]

    sample = load_sample(folder)
    assert (sample.models, sample.seeds) == (["sft", "dpo"], [""])
    written = {
        (model, rows[text]["clinical_note"], rows[text]["generated_summary"])
        for model, texts in zip(sample.models, sample.index, strict=True)
        for text in texts[0]
    }
    expected = {
        (each.model, row["clinical_note"], row["generated_summary"])
        for each in results
        for _, row in read_csv(each.path, COLUMNS)
    }
    assert written == expected
    words = {rows[i]["generated_summary"]: count for i, count in enumerate(sample.words)}
    assert (words["same 0"], words["a b 3"]) == (2, 3)
    assert sample.reference_words.tolist() == [4] * 4  # "reference of note 0"
    flagged = {
        (rows[text]["generated_summary"], verdict)
        for text, verdict in zip(sample.index.ravel(), sample.flagged.ravel(), strict=True)
    }
    assert flagged == {("same 0", 1), ("same 1", 0), ("a 2", 1), ("a b 3", 0), ("x 2", 0), ("x 3", 1)}


def test_the_draw_depends_on_the_seed_alone(results: list[Results], tmp_path: Path) -> None:
    def drawn(name: str, order: list[Results], seed: int, n: int = 2) -> str:
        draw(order, n, seed, tmp_path / name)
        return (tmp_path / name / "texts" / "texts.jsonl").read_text()

    first = drawn("1", results, 7)
    rows = [row for _, row in read_csv(results[0].path, COLUMNS)]
    write_csv(results[0].path, COLUMNS, rows[::-1])
    assert drawn("2", results[::-1], 7) == first
    others = {drawn(f"seed {seed}", results, seed) for seed in range(20)}
    assert len(others) > 6  # there are 6 sets of two notes, and many orders


def test_several_seeds_share_their_notes(tmp_path: Path) -> None:
    results = [
        Results.parse(f"{model}@{seed}={write_results(tmp_path / f'{model}{seed}', [f'{model} {seed}'] * 5)}")
        for seed in (1, 2, 3)
        for model in ("sft", "dpo")
    ]
    draw(results, 3, 42, tmp_path / "reading")
    sample = load_sample(tmp_path / "reading")
    assert (sample.models, sample.seeds, sample.index.shape) == (["sft", "dpo"], ["1", "2", "3"], (2, 3, 3))
    summaries = np.array(sample.summaries)[sample.index]
    assert (summaries == np.array([["sft 1", "sft 2", "sft 3"], ["dpo 1", "dpo 2", "dpo 3"]])[:, :, None]).all()
    assert np.isnan(sample.flagged).all()


def test_draws_that_are_refused(results: list[Results], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--n 5: the results share 4 dialogues"):
        draw(results, 5, 42, tmp_path / "reading")
    unequal = [Results(model, seed, results[0].path) for model, seed in (("sft", "1"), ("sft", "2"), ("dpo", "1"))]
    with pytest.raises(InputError, match="--results: dpo@2 is given 0 times"):
        draw(unequal, 1, 42, tmp_path / "reading")
    with pytest.raises(InputError, match="--results: sft is given 2 times"):
        draw([results[0], results[0]], 1, 42, tmp_path / "reading")
    draw(results, 2, 42, tmp_path / "reading")
    with pytest.raises(InputError, match=r"key\.json: exists, and ratings may depend on it"):
        draw(results, 2, 42, tmp_path / "reading")


def test_a_text_that_was_changed_after_the_draw_is_refused(results: list[Results], tmp_path: Path) -> None:
    draw(results, 4, 42, tmp_path / "reading")
    path = tmp_path / "reading" / "texts" / "texts.jsonl"
    path.write_text(path.read_text().replace("a b 3", "a c 3"))
    with pytest.raises(InputError, match=r"texts\.jsonl: has other texts than key\.json"):
        load_sample(tmp_path / "reading")


# ---------------------------------------------------------------------------------------------------- ratings


@pytest.fixture
def reading(results: list[Results], tmp_path: Path) -> Path:
    draw(results, 4, 42, tmp_path / "reading")
    return tmp_path / "reading"


def rating(name: str, hallucinated: int = 0, major: int = 0, completeness: int = 2, **more: Any) -> dict[str, Any]:
    return {"id": name, "hallucinated": hallucinated, "major": major, "completeness": completeness, **more}


def test_ratings_of_a_jsonl_file(reading: Path) -> None:
    sample = load_sample(reading)
    rows = [rating(name, int(i < 2), int(i < 1), i % 4) for i, name in enumerate(sample.ids)]
    rows[0]["unsupported"] = [sample.summaries[0].upper(), "not in it"]
    write_jsonl(reading / "KM.jsonl", rows[::-1])
    (reader,) = load_readers([reading / "KM.jsonl"], sample, allow_missing=False)
    assert (reader.name, reader.missing, reader.misquoted) == ("KM", 0, 1)
    statements = reader.values["statements"].tolist()
    assert statements == pytest.approx([2, NAN, 0, 0, 0, 0], nan_ok=True)  # the second has none marked
    assert {name: reader.values[name].tolist() for name in MEASURES} == {
        "hallucinated": [1, 1, 0, 0, 0, 0],
        "major": [1, 0, 0, 0, 0, 0],
        "completeness": [0, 1, 2, 3, 0, 1],
    }


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (rating("text-9"), "id 'text-9' is no text of this reading"),
        (rating("text-1"), "id text-1 is rated a second time"),
        (rating("text-2", 2), "hallucinated is 2; write 0 or 1"),
        (rating("text-2", completeness=4), "completeness is 4; write 0, 1, 2 or 3"),
        (rating("text-2", completeness=-1), "completeness is -1; write 0, 1, 2 or 3"),
        (rating("text-2") | {"completeness": 1.5}, "completeness is 1.5"),
        (rating("text-2") | {"hallucinated": True}, "hallucinated is True; write 0 or 1"),
        (rating("text-2") | {"major": "1"}, "major is '1'; write 0 or 1"),
        (rating("text-2", 0, 1), "major is 1 but hallucinated is 0"),
        (rating("text-2", 1, unsupported="a"), "unsupported is 'a'; write a list of texts"),
        (rating("text-2", 0, unsupported=["a"]), "unsupported has words but hallucinated is 0"),
    ],
)
def test_ratings_that_are_refused(reading: Path, row: dict[str, Any], words: str) -> None:
    write_jsonl(reading / "KM.jsonl", [rating("text-1"), row])
    with pytest.raises(InputError) as caught:
        load_readers([reading / "KM.jsonl"], load_sample(reading), allow_missing=True)
    assert str(caught.value).startswith(f"{reading / 'KM.jsonl'}, line 2: ")
    assert words in str(caught.value)


def test_missing_ratings_are_counted_and_refused_unless_allowed(reading: Path) -> None:
    sample = load_sample(reading)
    write_jsonl(reading / "KM.jsonl", [rating("text-1"), rating("text-3")])
    with pytest.raises(InputError, match="KM lacks ratings of 4 of 6 texts"):
        load_readers([reading / "KM.jsonl"], sample, allow_missing=False)
    (reader,) = load_readers([reading / "KM.jsonl"], sample, allow_missing=True)
    assert reader.missing == 4
    assert np.isnan(reader.values["major"]).tolist() == [False, True, False, True, True, True]


def test_two_readers_of_one_name_are_refused(reading: Path, tmp_path: Path) -> None:
    for folder in (reading, tmp_path / "other"):
        write_jsonl(folder / "KM.jsonl", [rating("text-1")])
    with pytest.raises(InputError, match="two readers are named KM"):
        load_readers([reading / "KM.jsonl", tmp_path / "other" / "KM.jsonl"], load_sample(reading), allow_missing=True)


def test_ratings_of_the_tool(reading: Path) -> None:
    sample = load_sample(reading)
    book = RatingBook(reading / "manual_assessment.json")

    def rate(assessor: str, text: int, verdict: str | None, *severities: str, blind: bool = True, **more: Any) -> None:
        errors = [SummaryError("contradiction", severity) for severity in severities]
        book.save(Rating(assessor, sample.text_sha256[text], "", verdict, errors, blind=blind, **more))

    rate("KM", 0, HALLUCINATED, "minor", "major", completeness=1)
    rate("KM", 1, HALLUCINATED, "minor", completeness=0)
    rate("KM", 2, NOT_HALLUCINATED, completeness=3)
    rate("KM", 3, HALLUCINATED, "", completeness=2)  # the session ended before the severity
    rate("KM", 4, "skipped")
    rate("KM", 5, NOT_HALLUCINATED, blind=False)
    rate("JS", 0, NOT_HALLUCINATED)
    book.save(Rating("JS", "0" * 64, "of another evaluation", HALLUCINATED, blind=True))
    km, js = sorted(load_readers([book.path], sample, allow_missing=True), key=lambda reader: reader.name)[::-1]
    assert (km.name, km.missing, km.other_texts) == ("KM", 3, 1)
    assert (js.name, js.missing, js.other_texts) == ("JS", 6, 1)  # completeness was not asked
    values = {name: found.tolist() for name, found in km.values.items()}
    assert values["hallucinated"] == pytest.approx([1, 1, 0, 1, NAN, NAN], nan_ok=True)
    assert values["major"] == pytest.approx([1, 0, 0, NAN, NAN, NAN], nan_ok=True)
    assert values["completeness"] == pytest.approx([1, 0, 3, 2, NAN, NAN], nan_ok=True)
    assert values["statements"] == pytest.approx([2, 1, 0, 1, NAN, NAN], nan_ok=True)
    assert js.values["hallucinated"].tolist() == pytest.approx([0] + [NAN] * 5, nan_ok=True)


def test_files_of_the_tool_without_a_usable_rating(reading: Path) -> None:
    sample = load_sample(reading)
    with pytest.raises(InputError, match=r"none\.json: no such file"):
        load_readers([reading / "none.json"], sample, allow_missing=True)
    RatingBook(reading / "m.json").save(Rating("KM", sample.text_sha256[0], "", HALLUCINATED))  # not blind
    with pytest.raises(InputError, match=r"m\.json: has no blind rating of a text of this reading"):
        load_readers([reading / "m.json"], sample, allow_missing=True)


# ---------------------------------------------------------------------------------------------------- figures


def every_resample(values: np.ndarray) -> np.ndarray:
    """The means of all S^S * N^N equally likely draws of seeds and notes."""
    seeds, notes = values.shape
    means = [
        np.nanmean(values[np.ix_(rows, columns)])
        for rows in product(range(seeds), repeat=seeds)
        for columns in product(range(notes), repeat=notes)
        if not np.isnan(values[np.ix_(rows, columns)]).all()
    ]
    return np.array(means)


@pytest.mark.parametrize(
    "values",
    [
        [[0.0, 1.0, 4.0, 9.0, 2.0]],
        [[0.0, 1.0, 4.0], [3.0, 2.0, 8.0]],
        [[0.0, NAN, 4.0], [3.0, 2.0, 8.0], [5.0, 5.0, NAN]],
    ],
)
def test_the_bootstrap_equals_all_resamples(values: list[list[float]]) -> None:
    array = np.array(values)
    found = crossed_interval(array, seed=1, resamples=200_000)
    assert found == pytest.approx(percentile_interval(every_resample(array)), abs=0.05)


def test_one_seed_more_of_the_same_notes_is_no_second_sample_of_notes() -> None:
    one = np.array([[0.0, 1.0, 4.0, 9.0, 2.0, 6.0]])
    assert crossed_interval(np.repeat(one, 3, axis=0), seed=1) == pytest.approx(crossed_interval(one, seed=2), abs=0.2)


def test_a_share_of_one_seed_has_wilson_s_interval() -> None:
    found = mean_figure(np.array([[1, 0, 0, 1, NAN]]), "hallucinated", seed=1)
    assert found == {"mean": 0.5, "n": 4, "ci95": wilson_interval(2, 4), "by_seed": [0.5]}


def test_figures_without_spread_or_without_ratings() -> None:
    # no error in 3 notes by 2 seeds: six summaries, but three notes
    none = mean_figure(np.zeros((2, 3)), "major", seed=1)
    assert (none["mean"], none["n"], none["ci95"]) == (0, 6, wilson_interval(0, 3))
    assert mean_figure(np.full((1, 3), 2.0), "completeness", seed=1)["ci95"] is None
    assert mean_figure(np.full((2, 3), NAN), "completeness", seed=1) == {
        **{"mean": None, "n": 0, "ci95": None, "by_seed": [None, None]}
    }


def columns(**values: list[list[float]]) -> dict[str, np.ndarray]:
    return {name: np.array(found, float) for name, found in values.items()}


def test_paired_differences_by_hand() -> None:
    first = columns(
        hallucinated=[[1, 1, 1, 0, NAN]],
        major=[[1, 0, 1, 0, NAN]],
        completeness=[[1, 1, 2, 3, NAN]],
        words=[[9, 9, 9, 9, 9]],
        new_words=[[9, 9, 9, 9, 9]],
        statements=[[2, 1, 1, 0, NAN]],
    )
    second = columns(
        hallucinated=[[0, 0, 1, 1, 0]],
        major=[[0, 0, 1, 0, 0]],
        completeness=[[2, 1, 3, NAN, 0]],
        words=[[4, 5, 6, 9, 99]],
        new_words=[[4, 4, 6, 9, 99]],
        statements=[[0, 0, 1, 1, 0]],
    )
    found = difference_figures(first, second, seed=1)
    # over the four notes that both have: 2/4 - 3/4
    assert {name: found["hallucinated"][name] for name in ("difference", "n", "only_first", "only_second")} == {
        **{"difference": -0.25, "n": 4, "only_first": 2, "only_second": 1}
    }
    assert found["hallucinated"]["p"] == 1  # 2 : 1
    assert found["major"]["p"] == 1  # 1 : 0
    assert found["major"]["difference"] == -0.25
    assert (found["completeness"]["difference"], found["completeness"]["n"]) == (pytest.approx(2 / 3), 3)
    assert (found["words"]["difference"], found["words"]["n"]) == ((-5 - 4 - 3 + 0) / 4, 4)
    assert (found["new_words"]["difference"], found["new_words"]["n"]) == ((-5 - 5 - 3 + 0) / 4, 4)
    density = found["statements_per_100_new_words"]
    assert (density["difference"], density["n"]) == (pytest.approx(100 * 2 / 23 - 100 * 4 / 36), 4)
    changes = np.array([[-1.0, -1.0, 0.0, 1.0]])
    assert found["hallucinated"]["ci95"] == pytest.approx(percentile_interval(every_resample(changes)), abs=1e-9)


def test_pairs_that_all_differ_alike_have_the_interval_of_bonett_and_price() -> None:
    first, second = (
        columns(
            hallucinated=[[v] * 10],
            major=[[0] * 10],
            completeness=[[1] * 10],
            words=[[5] * 10],
            new_words=[[5] * 10],
            statements=[[v] * 10],
        )
        for v in (1, 0)
    )
    found = difference_figures(first, second, seed=1)
    # 1/12 - 11/12 = -0.8333; 1.96 sqrt((1 - 0.6944) / 12) = 0.3128
    assert found["hallucinated"]["ci95"] == pytest.approx((-1, -0.5206), abs=1e-4)
    assert found["hallucinated"]["p"] == pytest.approx(2 / 2**10)
    # 1/12 - 1/12; 1.96 sqrt((2/12) / 12) = 0.2310
    assert found["major"]["ci95"] == pytest.approx((-0.2310, 0.2310), abs=1e-4)
    assert found["completeness"]["ci95"] is None
    assert found["statements_per_100_new_words"] == {"difference": -20, "n": 10, "ci95": None}


def test_unsupported_statements_per_100_new_words() -> None:
    """A ratio of sums; its interval is that of all resamples of the dialogues, and it is unknown without marks."""
    texts = columns(hallucinated=[[1, 0, 1]], statements=[[3, 0, 1]], new_words=[[30, 50, 20]])
    found = density_figure(texts, seed=1)
    assert (found["mean"], found["n"]) == (4, 3)
    draws = [list(drawn) for drawn in product(range(3), repeat=3)]
    exact = [100 * texts["statements"][0][d].sum() / texts["new_words"][0][d].sum() for d in draws]
    assert found["ci95"] == pytest.approx(percentile_interval(np.repeat(exact, 1000)), abs=1e-9)
    unmarked = texts | columns(statements=[[NAN, 0, 1]])
    assert density_figure(unmarked, seed=1) == {"mean": None, "n": 0, "ci95": None}
    unrated = columns(hallucinated=[[NAN, 0, 1]], statements=[[NAN, 0, 1]], new_words=[[30, 50, 20]])
    assert density_figure(unrated, seed=1)["mean"] == pytest.approx(100 / 70)


def test_the_test_over_seeds_keeps_its_level() -> None:
    """400 readings of two equal models, 40 dialogues and three seeds that agree, as nearly all seeds of a dialogue do.

    A test that takes the 120 pairs for independent rejects in far more than 5% of them.
    """
    rng = np.random.default_rng(1)
    rejected = pooled = 0
    for _ in range(400):
        first, second = (np.repeat(rng.integers(0, 2, (1, 40)), 3, axis=0).astype(float) for _ in range(2))
        found = sign_flip_figures(first, second)
        rejected += found["p"] < 0.05
        pooled += mcnemar_p(found["only_first"], found["only_second"]) < 0.05
    assert rejected / 400 <= 0.05 + 2 * (0.05 * 0.95 / 400) ** 0.5
    assert pooled / 400 > 0.15


def test_the_exact_test_over_all_seeds_and_for_each() -> None:
    """The dialogues change by -2, -1, -2 and +1 over both seeds, a sum of -4.

    Of the 16 sums of 2, 1, 2 and 1 with any signs, one is 6 and two are 4 (either 1 flipped), and as many below zero.
    """
    first, second = np.array([[1, 1, 1, 0], [1, 1, 1, 0.0]]), np.array([[0, 0, 0, 0], [0, 1, 0, 1.0]])
    found = sign_flip_figures(first, second)
    assert (found["only_first"], found["only_second"]) == (5, 1)
    assert found["p"] == pytest.approx(2 * (1 + 2) / 2**4)
    assert [(row["only_first"], row["only_second"]) for row in found["by_seed"]] == [(3, 0), (2, 1)]
    assert [row["p"] for row in found["by_seed"]] == pytest.approx([0.25, 1])
    assert sign_flip_figures(first / 2, second) == {}  # means of readers


def sample_of(index: list[list[list[int]]], flagged: list[list[list[float]]], texts: int) -> Sample:
    notes = len(index[0][0])
    return Sample(
        models=[f"model {i}" for i in range(len(index))],
        seeds=[str(i) for i in range(len(index[0]))],
        ids=[f"text-{i}" for i in range(texts)],
        summaries=["one two three [Evidence: S1; Conf: 0.9]" if i == 0 else "one two" for i in range(texts)],
        text_sha256=[str(i) for i in range(texts)],
        index=np.array(index),
        flagged=np.array(flagged, float),
        reference_words=np.array([8, 6, *[NAN] * (notes - 2)]),
    )


def test_words_of_sentences_that_repeat_none() -> None:
    sample = sample_of([[[0]]], [[[0]]], texts=1)
    text = "He smokes a pack a day. He takes metformin. He smokes a pack a day. He smokes"
    repeating = replace(sample, summaries=[f"{text} [Evidence: S1; Conf: 0.9]"])
    assert (repeating.words.tolist(), repeating.new_words.tolist()) == ([17], [11])


def reader(name: str, hallucinated: list[float], major: list[float], completeness: list[float]) -> Reader:
    values = {"hallucinated": hallucinated, "major": major, "completeness": completeness, "statements": hallucinated}
    return Reader(name, {key: np.array(found, float) for key, found in values.items()}, missing=0)


def test_the_judge_against_the_readers_by_hand() -> None:
    # model 0 wrote texts 0 1 2 3, model 1 texts 0 4 5 6; text 0 counts for both
    sample = sample_of([[[0, 1, 2, 3]], [[0, 4, 5, 6]]], [[[1, 0, 0, 1]], [[1, 1, NAN, 0]]], texts=7)
    found = judge_figures(sample, np.array([1, 1, 0, 0, 1, 1, 0.0]), seed=1)
    assert [found[name]["n"] for name in found] == [4, 3, 7]
    # model 0: hallucinated 0 and 1, flagged 0; others 2 and 3, flagged 3
    assert [found["model 0"][name]["share"] for name in ("sensitivity", "specificity")] == [0.5, 0.5]
    # model 1: hallucinated 0 and 4, both flagged; the verdict on 5 is unknown; 6 is not flagged
    assert [found["model 1"][name]["share"] for name in ("sensitivity", "specificity")] == [1, 1]
    assert found["model 1"]["sensitivity"]["ci95"] == wilson_interval(2, 2)
    assert [found["all models"][name]["share"] for name in ("sensitivity", "specificity")] == [0.75, 2 / 3]
    assert found["model 0"]["flagged"] == 0.5
    # two readers who disagree on text 1 give it half a weight: 1 of 1.5
    halves = judge_figures(sample, np.array([1, 0.5, 0, 0, 1, 1, 0]), seed=1)
    assert halves["model 0"]["sensitivity"]["share"] == pytest.approx(1 / 1.5)
    assert halves["model 0"]["specificity"]["share"] == pytest.approx(1.5 / 2.5)


def test_agreement_of_readers_by_hand() -> None:
    first = reader("a", [1, 1, 1, 0, 0, NAN], [0] * 6, [0, 1, 2, 3, NAN, 1])
    second = reader("b", [1, 1, 0, 0, 0, 1], [0] * 6, [0, 1, 1, 3, 2, NAN])
    found = agreement_figures(first, second)
    assert found["readers"] == ["a", "b"]
    # agree on 4/5; chance (3*2 + 2*3) / 25 = 12/25; kappa (20 - 12) / (25 - 12)
    assert (found["hallucinated"]["agreed"], found["hallucinated"]["n"]) == (4, 5)
    assert found["hallucinated"]["kappa"] == pytest.approx(8 / 13)
    assert found["major"]["kappa"] is None
    assert found["completeness"] == {"n": 4, "agreed": 3, "share": 0.75}


def test_each_reader_and_the_mean_of_all() -> None:
    sample = sample_of([[[0, 1, 2]], [[0, 3, 4]]], [[[1, 0, 0]], [[1, 1, 0]]], texts=5)
    first = reader("a", [1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [3, 2, 1, 0, 1])
    second = reader("b", [1, 0, 0, 0, NAN], [0, 0, 0, 0, NAN], [1, 2, 1, 2, NAN])
    found = reading_figures(sample, [first, second], seed=1)
    by_reader = {name: figures["models"] for name, figures in found["by_reader"].items()}
    assert [by_reader[name]["model 0"]["hallucinated"]["mean"] for name in "ab"] == pytest.approx([2 / 3, 1 / 3])
    assert [by_reader[name]["model 1"]["hallucinated"]["n"] for name in "ab"] == [3, 2]
    mean = found["mean_of_readers"]["models"]
    assert mean["model 0"]["hallucinated"]["mean"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert mean["model 1"]["completeness"]["mean"] == pytest.approx((2 + 1 + 1) / 3)  # reader b left text 4 out
    assert mean["model 0"]["words"]["mean"] == pytest.approx((3 + 2 + 2) / 3)  # without the citation
    (difference,) = found["mean_of_readers"]["differences"]
    assert (difference["first"], difference["second"]) == ("model 0", "model 1")
    assert difference["hallucinated"]["difference"] == pytest.approx((0 - 0.5 + 0) / 3)
    assert "p" not in difference["hallucinated"]
    assert found["by_reader"]["a"]["differences"][0]["hallucinated"]["only_first"] == 1
    assert mean["model 0"]["new_words"] == mean["model 0"]["words"]
    density = mean["model 0"]["statements_per_100_new_words"]["mean"]
    assert density == pytest.approx(100 * (1 + 0.5 + 0) / (3 + 2 + 2))  # one statement in what a reader called false
    assert found["mean_reference_words"] == 7
    assert reading_figures(sample, [first], seed=1)["mean_of_readers"] is None


# ----------------------------------------------------------------------------------------------------- script


def run(*words: object) -> int:
    return main(parse_args([str(word) for word in words]))


@pytest.mark.parametrize(
    ("kind", "said"), [("language model", "language models, no clinician"), ("clinician", "clinicians")]
)
def test_from_evaluations_to_tables(
    results: list[Results], tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, said: str
) -> None:
    folder = tmp_path / "reading"
    named = [f"{each.model}={each.path.parent}" for each in results]
    assert run("--results", *named, "--n", 4, "--output_dir", folder) == 0
    assert "4 notes, 8 summaries, 6 different texts" in capsys.readouterr().out
    texts = [row for _, row in read_jsonl(folder / "texts" / "texts.jsonl", ())]
    for name, wrong in (("KM", "a"), ("JS", "x")):
        rows = [rating(row["id"], int(wrong in row["generated_summary"].split())) for row in texts]
        write_jsonl(folder / f"{name}.jsonl", rows[1:] if name == "JS" else rows)
    ratings = ("--ratings", folder / "KM.jsonl", folder / "JS.jsonl", "--reader_kind", kind, "--output_dir", folder)
    with pytest.raises(InputError, match="JS lacks ratings of 1 of 6 texts"):
        run(*ratings)
    assert run(*ratings, "--allow_missing") == 0
    printed = capsys.readouterr().out
    assert "JS: 1 texts lack a rating" in printed
    page = (folder / "blind_reading.md").read_text()
    assert page in printed
    lines = page.splitlines()
    heads = [line for line, below in pairwise(lines) if below.startswith("| ---")]
    assert len(heads) == 10  # three tables each for the mean and two readers, and the agreement
    assert all(("no clinician" in head) == (kind == "language model") for head in heads)
    assert all(kind in head for head in heads)
    assert f"Readers: 2 {said}." in page
    figures = read_json(folder / "blind_reading.json")
    assert figures["reader_kind"] == kind
    assert figures["by_reader"]["KM"]["models"]["sft"]["hallucinated"]["mean"] == 0.5
    assert figures["missing_ratings"] == {"KM": 0, "JS": 1}
    assert "| sft | 4 | 50.0% [15.0%, 85.0%] |" in page
    assert "| dpo less sft | 4 | -50.0 [-100.0, +0.0] | 2 : 0 (p = 0.5000) |" in page
    assert json.dumps(figures, allow_nan=False)
