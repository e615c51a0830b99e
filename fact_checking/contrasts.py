"""Say what summary and note say differently: "azithromycin: summary every 12 hours; note every morning"."""

from __future__ import annotations

from clinical.facts import Fact
from clinical.values import FINDINGS, UNNAMED_PART
from fact_checking.claims import CONTRADICTED, Contrast
from fact_checking.comparison import STATUSES, Comparison

# kind of error -> what the words "yes" and "no" to the flag of a fact are
_FLAGS = {
    "negation": ("negated", "denied", "stated"),
    "certainty": ("uncertain", "possible", "certain"),
    "attribution": ("family", "of a relative", "of the patient"),
}
_PAST = ("past", "present")


def contrast_of(fact: Fact, comparison: Comparison) -> Contrast | None:
    """Return what the summary's fact and the note's fact that contradicts it say, or None without a contradiction."""
    told = comparison.note_fact
    if comparison.verdict != CONTRADICTED or told is None:
        return None
    subject, summary, note = _said(fact, told, comparison.error_type)
    return Contrast(subject, summary, note, told.start, told.end)


def _said(fact: Fact, told: Fact, error_type: str) -> tuple[str, str, str]:
    """Return the subject and what each side says of it, in words that differ."""
    if error_type in _FLAGS and fact.type in (*FINDINGS, "family_history"):
        return fact.key or _words(fact), *_flag_words(fact, told, error_type)
    if "allergy" in (fact.type, told.type):
        return "", _allergy_words(fact), _allergy_words(told)
    if fact.type in STATUSES or _words(fact).lower() == _words(told).lower():
        return fact.key, _bound_value(fact, told), _bound_value(told, fact)
    unnamed = fact.type == "sex" or fact.key == UNNAMED_PART
    return "" if unnamed else fact.key, _words(fact), _words(told)


def _flag_words(fact: Fact, told: Fact, error_type: str) -> tuple[str, str]:
    name, yes, no = _FLAGS[error_type]
    summary, note = (yes if getattr(each, name) else no for each in (fact, told))
    if summary == note and fact.historical != told.historical:
        summary, note = (_PAST[not each.historical] for each in (fact, told))
    return summary, note


def _allergy_words(fact: Fact) -> str:
    if fact.type != "allergy":
        return f"{_words(fact)} taken"
    denied, name = "no " * fact.negated, "allergies" if fact.key == "any" else f"allergy to {fact.key}"
    return denied + name


def _bound_value(fact: Fact, other: Fact) -> str:
    """Return the value of a status, the relative, or the words with their subject if only the subject differs."""
    if fact.value != other.value:
        return fact.value
    return f"{_words(fact)} ({fact.key})" if fact.key else _words(fact)


def _words(fact: Fact) -> str:
    return " ".join(fact.text.split())
