"""Editor of negation: a denied finding is stated as present, or a present finding is denied."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from clinical.facts import Fact, concepts
from clinical.occurrences import right_before
from clinical.values import PROBLEMS
from negatives.case import (
    NOT_NOUNS,
    Candidate,
    Case,
    capital_like,
    one_replacement,
    rewordings,
    rule,
    rules,
    shuffled,
)

_ONE_FINDING = (
    r"(?=(?!had|been|an?|some|no|not|known|to|any|also|the|other|further|since)[a-z]+(?: [a-z]+){0,2}(?:[.;\n]|$))"
)
# "man with a cough for 3 days": the time would be denied too
_FOR_SOME_TIME = re.compile(r"[a-z ]{2} for \d", re.IGNORECASE), re.compile(r"[^a-z ]", re.IGNORECASE)
_NEGATIONS = rules(
    (r"\bdenies(?= )(?! (?:any|having|other|use|all|the use)\b)", "reports", "endorses"),
    (r"\bdenied(?= )(?! (?:any|having|other|use|all|the use)\b)", "reported", "endorsed"),
    (r"\bdenies any (?=[a-z])", "reports ", "endorses ", "has "),
    (r"\bdenied any (?=[a-z])", "reported ", "endorsed ", "had "),
    (r"\bdenies having (?:any )?(?=[a-z])", "reports having "),
    (r"\b(?:reports|complains of|endorses)(?= (?!that|being|having|he|she|no\b))", "denies"),
    (r"\b(?:reported|complained of)(?= (?!that|being|having|he|she|no\b))", "denied"),
    (r"\bdoes not have\b(?: any)?", "has"),
    (r"\bdid not have\b(?: any)?", "had"),
    (r"\bdo not have\b(?: any)?", "have"),
    (r"\bhas no (?=history of)", "has a "),
    (r"\bhas (?:a )?(?:past )?(?:medical )?(?=history of)", "has no "),
    (r"\bwith (?:a )?(?:past )?(?:medical )?(?=history of [a-z]+(?: [a-z]+){0,2}(?:[.;,]| who))", "with no "),
    (r"\bhas no (?!known|other|further|significant|history|past|prior|previous|difficulty|problems?|trouble)", "has "),
    (r"\bhad no (?!known|other|further|significant|history|past|prior|previous|difficulty|problems?|trouble)", "had "),
    (rf"\bhas {_ONE_FINDING}", "does not have ", "has no "),
    (rf"\bhad {_ONE_FINDING}", "did not have ", "had no "),
    (r"\bno (?=history of)", "a "),
    (rf"(?:^|(?<=[.;:\n] )|(?<=\n))History of {_ONE_FINDING}", "No history of "),
    (rf"(?:^|(?<=[.;:\n] )|(?<=\n))positive for {_ONE_FINDING}", "negative for "),
    (r"\bno evidence of\b", "evidence of"),
    (r"\b(?<!no )evidence of\b", "no evidence of"),
    (r"\b(?<=there )is no\b(?: evidence of| sign of)?", "is"),
    (r"\b(?<=there )was no\b(?: evidence of| sign of)?", "was"),
    (rf"\b(?<=there )is {_ONE_FINDING}", "is no "),
    (r"\bnegative for\b", "positive for"),
    (r"\bpositive for\b", "negative for"),
    (r"\b(?:significant|remarkable|notable) for(?= [a-z])", "negative for"),
    (rf"\bwithout {_ONE_FINDING}", "with "),
    rule(r"(?<=man |ale |boy )with(?= )", "without", unless=_FOR_SOME_TIME),
    rule(r"(?<=girl )with(?= )", "without", unless=_FOR_SOME_TIME),
    (rf"\bassociated with {_ONE_FINDING}", "not associated with "),
    (r"\bpresenting with(?= )", "presenting without"),
    (r"\bpresents with(?= )", "presents without"),
    (r"(?:(?<=\. )|(?<=; )|^)Symptoms include\b", "Symptoms do not include"),
    (rf"(?:(?<=[.:;,] )|(?<=\n)|^)no {_ONE_FINDING}", ""),
    (r"\bruled out\b", "confirmed"),
    (r"\b(?:is |was )confirmed\b", "was ruled out"),
    (r"\bis not (?=pregnant|diabetic|depressed|obese|anemic|a smoker|suicidal)", "is "),
    (r"\bis (?=pregnant|diabetic|depressed|obese|anemic|a smoker|suicidal)", "is not "),
    (r"\bnever had\b", "had"),
    (r"\bdoes not (?P<first>smoke|drink) or (?P<last>smoke|drink)\b", r"\g<first>s but does not \g<last>"),
    (r"\bdoes not (?P<first>smoke|drink) or (?P<last>smoke|drink)\b", r"does not \g<first> but \g<last>s"),
    (r"\bdoes not smoke\b", "smokes"),
    (r"\bsmokes\b(?=[.;])", "does not smoke"),
    (r"\bdoes not drink\b(?: any)?", "drinks"),
    (r"\bdoes not (?:currently )?use\b(?: any)?", "uses"),
    (r"\bdoes not consume\b(?: any)?", "consumes"),
    (r"\buses (?=alcohol|tobacco|drugs|marijuana|cocaine)", "does not use "),
    (r"\ba (?:nonsmoker|non-smoker)\b", "a smoker"),
    (r"\b(?:nonsmoker|non-smoker)\b", "smoker"),
    (r"(?<!non)(?<!non-)(?<!ex-)(?<!former )\bsmoker\b", "nonsmoker"),
    (r"\bdrinks alcohol\b", "does not drink alcohol"),
    (r"\bnever smoked\b", "smoked"),
    (rf"\bdiagnosed with {_ONE_FINDING}", "not diagnosed with "),
    (rf"\bdeveloped {_ONE_FINDING}", "did not develop "),
    (rf"\bcomplaining of {_ONE_FINDING}", "not complaining of "),
)
_JOINS = re.compile(r",|/|\b(?:and|or|nor|as well as)\b")
_GOVERNS_WORDS_BEFORE = ("confirmed", "ruled out")


_DENIES = re.compile(r"\b(?:no|not|never|den(?:ies|ied|ying)|without|negative)\b", re.IGNORECASE)
_ONLY_DENIED = re.compile(
    r"\b(?:any|ever|at all|yet|either|nor|otherwise)\b", re.IGNORECASE
)  # "had any fever" is not a statement


def edit_negation(case: Case, rng: random.Random) -> Iterator[Candidate]:
    for candidate in shuffled([*_of_one_finding(case, rng), *_in_lists(case), *_denied_outright(case)], rng):
        (change,) = candidate.replacements
        if _DENIES.search(case.text[change.start : change.end]) and case.follows(_ONLY_DENIED, change.end):
            continue
        if change.new:
            yield candidate
        else:  # "No fever." -> "Fever."
            first = case.text[change.end]
            new = capital_like(case.text[change.start], first)
            yield one_replacement(change.start, change.end + 1, new)


def _of_one_finding(case: Case, rng: random.Random) -> Iterator[Candidate]:
    """Yield rewordings that change one finding. In a list, all findings would change, known to the parser or not."""
    for candidate in rewordings(case, rng, _NEGATIONS):
        (change,) = candidate.replacements
        if change.new.endswith(_GOVERNS_WORDS_BEFORE) or not case.follows(_JOINS, change.end):
            yield candidate


_OPENS_STATEMENT = re.compile(r"(?:^|[.;:\n])\s*(?:\d+[.)]\s*|[-•]\s*)?$")


def _denied_outright(case: Case) -> Iterator[Candidate]:
    """Yield denials of findings that are a statement of their own: "Abdominal pain." -> "No abdominal pain."."""
    for fact in case.of_type(*PROBLEMS):
        if fact.text.lower() in NOT_NOUNS:
            continue
        if (
            not fact.negated
            and _LAST.match(case.text, fact.end)
            and right_before(_OPENS_STATEMENT, case.text, fact.start)
        ):
            capital = fact.text[:1].isupper()
            rest = case.text[fact.start : fact.start + 1]
            keeps_case = fact.text[1:2].isupper() or not fact.text[1:2].isalpha() or _is_proper(fact)
            new = ("No " if capital else "no ") + (rest if keeps_case else rest.lower())
            yield one_replacement(fact.start, fact.start + 1, new)


def _is_proper(fact: Fact) -> bool:
    """Return whether the lexicon writes the name with a capital."""
    return concepts(fact.type)[fact.key].name[:1].isupper()


# --------------------------------------------------------------------------------------- lists

_ADJECTIVE = r"(?:(?:significant|excessive|heavy|recreational|other) )?"
_BETWEEN = re.compile(rf"/|,? (?:(?:and|or|nor) )?(?:any )?{_ADJECTIVE}")
_LAST = re.compile(r"\s*(?:[.;\n]|$)")
_JOINED_LAST = re.compile(rf",? (?P<word>or|and|nor) (?:any )?{_ADJECTIVE}$")
_OPPOSED = {  # word that governs a list -> (opposite before one finding, same meaning for the rest)
    "denies": ("reports", "denies"),
    "denied": ("reported", "denied"),
    "denying": ("reporting", "denying"),
    "reports": ("denies", "reports"),
    "reported": ("denied", "reported"),
    "complains of": ("denies", "complains of"),
    "endorses": ("denies", "endorses"),
    "negative for": ("positive for", "negative for"),
    "positive for": ("negative for", "positive for"),
    "no evidence of": ("evidence of", "no evidence of"),
    "no history of": ("history of", "no history of"),
    "no h/o": ("h/o", "no h/o"),
    "no known": ("known", "no known"),
    "does not report": ("reports", "does not report"),
    "does not use": ("uses", "does not use"),
    "does not have": ("has", "does not have"),
    "has no": ("has", "no"),
    "had no": ("had", "no"),
    "is no": ("is", "no"),
    "was no": ("was", "no"),
    "without": ("with", "without"),
    "no": ("", "no"),
    "presents with": ("no", "with"),
    "presented with": ("no", "with"),
    "presenting with": ("no", "with"),
    "includes": ("no", ""),
    "include": ("no", ""),
    "significant for": ("no", ""),
    "has": ("no", ""),
    "had": ("no", ""),
    "with": ("no", ""),
}
_GOVERNS = re.compile(
    r"\b(?P<word>" + "|".join(sorted(_OPPOSED, key=len, reverse=True)) + rf")(?: any)? {_ADJECTIVE}$", re.IGNORECASE
)


def _in_lists(case: Case) -> Iterator[Candidate]:
    """Yield lists in which one item is negated or asserted.

    It is the last item ("Denies A or B" -> "Denies A but reports B") or the first ("Denies A or B" -> "Reports A but
    denies B").
    """
    problems = [fact for fact in case.of_type(*PROBLEMS) if fact.text.lower() not in NOT_NOUNS]
    for first, items in _runs(case.text, problems):
        governor = right_before(_GOVERNS, case.text, first.start)
        if governor and len(items) >= 2:
            yield from _turned(case.text, governor, items)
        elif len(items) >= 2 and not any(item.negated or item.uncertain for item in items):
            yield from _without_last(case.text, items)


def _runs(text: str, findings: list[Fact]) -> Iterator[tuple[Fact, list[Fact]]]:
    """Yield (first finding, all findings) of the lists at the end of a clause, joined by commas and conjunctions."""
    run: list[Fact] = []
    for fact in findings:
        if run and not _BETWEEN.fullmatch(text, run[-1].end, fact.start):
            run = []
        run.append(fact)
        if _LAST.match(text, fact.end):
            yield run[0], run


_JOINTS = (" but", " and", ";")  # all are used, so that none of them marks rejected texts


def _without_last(text: str, items: list[Fact]) -> Iterator[Candidate]:
    """Yield lists with the last item denied: "A and B" -> "A but no B", "A, B, and C" -> "A and B but no C"."""
    for joint in _JOINTS:
        yield from _last_turned(text, items, f"{joint} no ")


def _turned(text: str, governor: re.Match[str], items: list[Fact]) -> Iterator[Candidate]:
    """Yield a governed list with its last or first item turned into its opposite."""
    word = governor["word"].lower()
    opposite, same = _OPPOSED[word]
    for joint in _JOINTS:
        turned = opposite or ("has" if word == "no" else "")
        yield from _last_turned(text, items, f"{joint} {turned} ".replace("  ", " "))
        if same:  # "Denies A or B" -> "Reports A but denies B", "No A or B" -> "A but no B"
            first = text[items[0].start : items[0].end]
            lead = capital_like(governor["word"], f"{opposite} {first}" if opposite else first)
            rest, kept = items[1], ""
            if len(items) == 3 and (joined := right_before(_JOINED_LAST, text, items[2].start)):  # two need no comma
                rest, kept = items[2], f"{text[items[1].start : items[1].end]} {joined['word']} "
            yield one_replacement(governor.start(), rest.start, f"{lead}{joint} {same} {kept}")


def _last_turned(text: str, items: list[Fact], joint: str) -> Iterator[Candidate]:
    """Replace the words before the last item of "A or B" or "A, B, or C" by `joint`."""
    joined = right_before(_JOINED_LAST, text, items[-1].start)
    if joined and len(items) == 2:
        yield one_replacement(joined.start(), items[-1].start, joint)
    elif joined:
        middle = text[items[-2].start : items[-2].end]
        yield one_replacement(items[-3].end, items[-1].start, f" {joined['word']} {middle}{joint}")
