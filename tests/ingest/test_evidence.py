"""Citations that `--annotate_evidence` writes, checked as evaluation/evaluate_model.py checks them."""

from pathlib import Path

import pytest

from fact_checking.citations import check_citations
from fact_checking.claims import FactCheck, SentenceDoubt
from ingest.evidence import annotate, annotated_records, without_old_citations
from ingest.records import Record
from script_io.csv_files import read_csv

DEMO = Path(__file__).resolve().parents[2] / "phase1_data" / "sft" / "test_set_processed.csv"
NOTE = "A 54-year-old woman with chest pain. Denies fever. Started apixaban 10 mg twice daily. Heart rate 98 bpm."


def test_a_sentence_cites_the_sentences_that_support_it() -> None:
    result = annotate(NOTE, "54-year-old woman with chest pain. Apixaban 10 mg twice daily; no fever.")
    assert result.summary == (
        "54-year-old woman with chest pain [Evidence: S1; Conf: 1.00]. "
        "Apixaban 10 mg twice daily; no fever [Evidence: S2,3; Conf: 1.00]."
    )
    assert (result.sentences, result.cited) == (2, 2)


def test_a_sentence_that_the_note_does_not_support_has_no_citation() -> None:
    result = annotate(NOTE, "54-year-old woman with chest pain. Apixaban 20 mg twice daily.")
    assert result.summary.endswith("Apixaban 20 mg twice daily.")
    assert result.cited == 1
    unsupported = [proposal for proposal in result.proposals if proposal.supported is not True]
    assert [proposal.confidence for proposal in unsupported] != [1.0]


def test_old_citations_are_replaced() -> None:
    old = "Denies fever [Evidence: S4; Conf: 0.10]."
    assert without_old_citations(old) == "Denies fever."
    assert annotate(NOTE, old).summary == "Denies fever [Evidence: S2; Conf: 1.00]."


def test_a_judge_that_grades_sentences_gives_the_confidence() -> None:
    check = annotate_check("Denies fever.", 0.25)
    assert annotate(NOTE, "Denies fever.", check).summary == "Denies fever [Evidence: S2; Conf: 0.75]."


def annotate_check(summary: str, doubt: float) -> FactCheck:
    from fact_checking.checker import check_summary

    claims = check_summary(NOTE, summary).claims
    return FactCheck(claims, sentences=(SentenceDoubt(0, len(summary), doubt),))


def test_labels_follow_the_citations_and_hallucinated_rows_have_none() -> None:
    texts = [("Denies fever.", "factual"), ("Denies cough.", "factual"), ("Fever [Evidence: S1].", "hallucinated")]
    records = [Record("p", str(i), NOTE, text, label) for i, (text, label) in enumerate(texts)]
    found, results = annotated_records(records, [None] * 3)
    assert [record.label for record in found] == ["factual_with_evidence", "factual", "hallucinated"]
    assert found[2].summary == "Fever."
    assert len(results) == 2


@pytest.fixture(scope="module")
def demo() -> list[tuple[str, str]]:
    rows = [row for _, row in read_csv(DEMO, ()) if row["label"] != "hallucinated"][:40]
    return [(row["clinical_note"], annotate(row["clinical_note"], row["model_summary"]).summary) for row in rows]


def test_at_least_95_percent_of_the_citations_on_the_demo_are_right(demo: list[tuple[str, str]]) -> None:
    found = [citation for note, summary in demo for citation in check_citations(note, summary)]
    assert len(found) >= 100
    assert sum(citation.supported is True for citation in found) >= 0.95 * len(found)
    assert all(citation.exists and citation.confidence is not None for citation in found)


def test_citing_another_sentence_is_not_right(demo: list[tuple[str, str]]) -> None:
    # the figure above can fail: the same summaries with the citations of the next summary's note
    shifted = [(demo[(i + 1) % len(demo)][0], summary) for i, (_, summary) in enumerate(demo)]
    found = [citation for note, summary in shifted for citation in check_citations(note, summary)]
    assert sum(citation.supported is True for citation in found) < 0.5 * len(found)
