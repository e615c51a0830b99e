"""What the editors work on: a parsed case, the replacements they propose, and how often the corpus uses a word."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TypeVar

from clinical.facts import Fact, concepts, extract_facts, sentences
from clinical.text import regular_form
from clinical.values import plain_number

CITATION = re.compile(r"\s*\[Evidence:[^\]]*\]")
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
MAX_DETAIL_WORDS = 10
HABITS = "substance habit"  # the group of smoking, drinking and drugs
SUBSTANCE = ("condition", "symptom", "drug", "dose", "vital", "lab", "procedure", "allergy", "follow_up")


# words of the lexicons that are adjectives or verbs: no noun reads as well in their place
NOT_NOUNS = frozenset(
    """
fractured sprained hypertensive hypotensive diabetic obese overweight asthmatic septic hypoglycemic
hyperglycemic hypothyroid hyperthyroid dehydrated malnourished anemic delirious depressed bipolar
autistic schizophrenic psychotic alcoholic smoke smokes smoked smoker drink drinks drinker intoxicated
infertile menopausal postmenopausal perimenopausal pregnant gravid breastfeeding nearsighted farsighted
infected arthritic immunocompromised comatose tachycardic bradycardic winded coughs coughed wheezes
wheezy fainted faint lightheaded dizzy febrile feverish diaphoretic sweaty tired exhausted fatigued
lethargic confused disoriented forgetful paranoid drowsy sleepy somnolent foggy unresponsive obtunded
unconscious weak numb shaky paralyzed clumsy limping anxious worrier hopeless irritable agitated restless
tearful suicidal homicidal congested hoarse snores snore nauseous nauseated queasy vomit vomited vomits
bloated constipated icteric itchy pruritic erythematous cyanotic hypoxic hyperventilating fell painful
swollen tender stiff circumcised amputated intubated reintubated reassured biopsied
""".split()
)


@dataclass(frozen=True)
class Replacement:
    """Replace `chosen[start:end]` by `new`; an insertion has `start == end`."""

    start: int
    end: int
    new: str


@dataclass(frozen=True)
class Candidate:
    """One change, of one fact: a single replacement, or several where pronouns must follow."""

    replacements: tuple[Replacement, ...]


def one_replacement(start: int, end: int, new: str) -> Candidate:
    return Candidate((Replacement(start, end, new),))


def without_citations(text: str) -> str:
    """`text` with evidence citations blanked, so that every offset stays."""
    return CITATION.sub(lambda match: " " * len(match[0]), text)


# ----------------------------------------------------------------------------------------- the corpus


@dataclass(frozen=True)
class Detail:
    """A statement of another note's factual summary."""

    source: str  # the note it was made about
    text: str
    topics: frozenset[str] = frozenset()  # what it states things of; see `topics_of`
    sexes: frozenset[str] = frozenset()  # told by a noun or a pronoun


@dataclass(frozen=True)
class Corpus:
    """What the summaries of a data set say: statements that can stand alone, and how often each value occurs.

    Replacements are drawn in proportion to `uses`, so that a wrong text has the words of the right ones: a rare drug
    that only ever stands in rejected texts would give them away.
    """

    details: tuple[Detail, ...] = ()
    uses: Mapping[str, Counter[str]] = field(default_factory=dict)  # type of fact -> name or number -> how often

    @staticmethod
    def from_summaries(pairs: Iterable[tuple[str, str]]) -> Corpus:
        """The corpus of (note, factual summary) pairs; a sample of a thousand is enough."""
        details: list[Detail] = []
        uses: dict[str, Counter[str]] = {}
        for note, summary in pairs:
            details += details_of(note, summary)
            for fact in extract_facts(without_citations(summary)):
                uses.setdefault(fact.type, Counter())[form_of(fact)] += 1
        return Corpus(tuple(details), uses)

    def in_proportion(self, fact_type: str, forms: Iterable[str], rng: random.Random) -> Iterator[str]:
        """All `forms` in random order: the earlier the more often the corpus uses them, the unused ones last."""
        counts = self.uses.get(fact_type, Counter())
        used = {form: counts[form.lower()] for form in forms}
        yield from _drawn({form: uses for form, uses in used.items() if uses}, rng)
        yield from _drawn({form: 1 for form, uses in used.items() if not uses}, rng)


def _drawn(weights: dict[str, int], rng: random.Random) -> Iterator[str]:
    """All keys in an order drawn by their weights."""
    while weights:
        drawn = rng.randrange(sum(weights.values()))  # whole numbers: the same on every platform
        form = next(form for form, end in zip(weights, accumulate(weights.values()), strict=True) if drawn < end)
        del weights[form]
        yield form


def form_of(fact: Fact) -> str:
    """What of a fact a replacement would replace: the lexicon's name of a finding, else the words in lower case."""
    if fact.value == fact.key:
        return fact.key
    number = NUMBER.search(fact.text)
    return number[0] if number else fact.text.lower()


_REFERS_BACK = re.compile(
    r"^(?:subsequently|additionally|later|otherwise|meanwhile|again|still|this|that|these|those|it|they|however|then|"
    r"also|there|other|which|and|but|his|her|he was|she was|\d)|"
    r"\b(?:above|this|that|these|both|mr|mrs|ms|dr|it|also|as noted|as mentioned|had \w+ \w+ died)\b",
    re.IGNORECASE,
)


def details_of(source: str, summary: str) -> list[Detail]:
    """The statements of a summary that say one or two things of substance and can stand alone."""
    text = CITATION.sub("", summary)
    found = []
    for start, end in sentences(text):
        for clause in re.split(r";\s+", text[start:end]):
            statement = clause.strip().rstrip(".")
            facts = [fact for fact in extract_facts(statement) if fact.type in SUBSTANCE]
            if any(fact.negated for fact in facts):  # what is denied is hardly wrong
                continue
            if style_of(statement) == "fragment" and (len(facts) != 1 or facts[0].type not in ("condition", "symptom")):
                continue  # "C-section and D&C." says nothing by itself
            if 1 <= len(facts) <= 2 and 2 <= len(statement.split()) <= MAX_DETAIL_WORDS and _stands_alone(statement):
                sexes = frozenset(fact.value for fact in extract_facts(statement) if fact.type == "sex")
                whole = f"{statement[0].upper()}{statement[1:]}."
                found.append(Detail(source, whole, topics_of(facts), sexes))
    return found


_BROKEN = re.compile(r"^[^,]+, (?:or|and) |^listed as|\bthe (?!patient|left|right|past|last)", re.IGNORECASE)
_VERB = re.compile(
    r"\b(?:is|was|are|were|has|had|have|denies|denied|reports|reported|takes|took|does|did|will|lives|smokes|smoked|"
    r"uses|used|presents|presented|started|continues|complains|states|stated|notes|noted|underwent|works|drinks|quit|"
    r"came|comes|died|developed|received|admits|appears|remains|can|could|may|might|should|would|\w{3,}ed)\b",
    re.IGNORECASE,
)


_SUBJECT = re.compile(
    r"(?:he|she|they|i|we|there|the|patient|his|her|an?|mother|father|brother|sister|grand\w+|mr\.?|ms\.?|mrs\.?)\b",
    re.IGNORECASE,
)


def style_of(statement: str) -> str:
    """`sentence` with a subject, `clipped` without ("Denies fever."), or `fragment` ("Back pain.")."""
    if not _VERB.search(statement):
        return "fragment"
    return "sentence" if _SUBJECT.match(statement) else "clipped"


def topics_of(facts: Iterable[Fact]) -> frozenset[str]:
    """The types of fact of substance; habits apart from other conditions."""
    known = concepts("condition")
    return frozenset(
        "habit" if fact.key in known and known[fact.key].group == HABITS else fact.type
        for fact in facts
        if fact.type in SUBSTANCE
    )


def _stands_alone(statement: str) -> bool:
    plain_end = statement[-1].isalnum() or statement[-1] in "%)"
    plain = plain_end and statement[0].isalpha() and not {"\n", ":"} & set(statement)
    return plain and not _REFERS_BACK.search(statement) and not _BROKEN.search(statement)


# ------------------------------------------------------------------------------------------- the case


@dataclass
class Case:
    """One factual summary with its note, parsed once."""

    note: str
    chosen: str
    corpus: Corpus = field(default_factory=Corpus)
    text: str = field(init=False)  # the chosen summary with citations blanked
    note_facts: list[Fact] = field(init=False)
    note_numbers: frozenset[str] = field(init=False)
    facts: list[Fact] = field(init=False)
    named: frozenset[str] = field(init=False)  # the keys of all facts of both texts

    def __post_init__(self) -> None:
        self.text = without_citations(self.chosen)
        self.note_facts = extract_facts(self.note)
        self.note_numbers = frozenset(plain_number(value_of(n)) for n in NUMBER.findall(regular_form(self.note).text))
        self.facts = extract_facts(self.text)
        self.named = frozenset(fact.key for fact in [*self.note_facts, *self.facts])

    def of_type(self, *types: str) -> list[Fact]:
        return [fact for fact in self.facts if fact.type in types]

    def has_number(self, number: str) -> bool:
        """Whether the note names this number, of whatever it may be."""
        return plain_number(value_of(number)) in self.note_numbers


def value_of(number: str) -> float:
    """`1,500.5` -> 1500.5"""
    return float(number.replace(",", ""))


Item = TypeVar("Item")


def shuffled(items: Sequence[Item], rng: random.Random) -> list[Item]:
    return rng.sample(items, len(items))


def only_number(fact: Fact) -> re.Match[str] | None:
    """The number of a fact that holds one only, in digits."""
    numbers = list(NUMBER.finditer(fact.text))
    return numbers[0] if len(numbers) == 1 else None


# ------------------------------------------------------------------------------------- words for words


def cased_like(old: str, new: str) -> str:
    """`new` in capitals or with a capital where `old` is."""
    if old.isupper() and len(old) > 1:
        return new.upper()
    return new[:1].upper() + new[1:] if old[:1].isupper() else new


def capital_like(old: str, new: str) -> str:
    """`new` with a capital where `old` begins with one."""
    return new[:1].upper() + new[1:] if old[:1].isupper() else new


Rules = tuple[tuple[re.Pattern[str], tuple[str, ...]], ...]


def rules(*lines: tuple[str, ...]) -> Rules:
    """(expression, replacement, another replacement, ...) in the manner of `re.sub`, ignoring case."""
    return tuple((re.compile(line[0], re.IGNORECASE), line[1:]) for line in lines)


def rewordings(case: Case, rng: random.Random, table: Rules) -> Iterator[Candidate]:
    """Each match of each rule in random order, with each of its replacements in random order."""
    found = [(match, new) for pattern, others in table for match in pattern.finditer(case.text) for new in others]
    for match, new in shuffled(found, rng):
        yield one_replacement(match.start(), match.end(), capital_like(match[0], match.expand(new)))
