"""Types that the editors share: the parsed summary, proposed replacements, and the word counts of the corpus."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple, TypeVar

from clinical.facts import Fact, concepts, extract_facts, sentences
from clinical.occurrences import Occurrences, Span
from clinical.plain_form import plain_form
from clinical.values import PROBLEMS, parsed_number, plain_number
from fact_checking.claims import CITATION, without_citations

NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
MAX_DETAIL_WORDS = 10
CLAUSE_END = re.compile(r"[.;\n]")
_LINE_END = re.compile(r"\n")
HABITS = "substance habit"  # lexicon group of smoking, drinking and drug use
# types of fact with clinical content
SUBSTANCE = (*PROBLEMS, "drug", "dose", "vital", "lab", "procedure", "allergy", "follow_up")


# adjectives and verbs of the lexicons: a noun in their place is not grammatical
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
    """A replacement of `chosen[start:end]` by `new`. An insertion has `start == end`."""

    start: int
    end: int
    new: str


@dataclass(frozen=True)
class Candidate:
    """A proposed change of one fact: one replacement, or several if pronouns must change too."""

    replacements: tuple[Replacement, ...]


def one_replacement(start: int, end: int, new: str) -> Candidate:
    return Candidate((Replacement(start, end, new),))


# ----------------------------------------------------------------------------------------- the corpus


@dataclass(frozen=True)
class Detail:
    """A statement of a factual summary, to be added to the summary of another note."""

    source: str  # the note of the factual summary
    text: str
    topics: frozenset[str] = frozenset()  # see `topics_of`
    sexes: frozenset[str] = frozenset()  # of its nouns and pronouns


@dataclass(frozen=True)
class Corpus:
    """Statements of the summaries of a data set, and how often each value occurs.

    Replacements are drawn in proportion to `uses`, so that rejected texts have the same words as chosen texts. A rare
    drug that occurs only in rejected texts would give them away.
    """

    details: tuple[Detail, ...] = ()
    uses: Mapping[str, Counter[str]] = field(default_factory=dict)  # type of fact -> name or number -> count

    @staticmethod
    def from_summaries(pairs: Iterable[tuple[str, str]]) -> Corpus:
        """Build the corpus from (note, factual summary) pairs. A sample of a thousand is enough."""
        details: list[Detail] = []
        uses: dict[str, Counter[str]] = {}
        for note, summary in pairs:
            details += details_of(note, summary)
            for fact in extract_facts(without_citations(summary)):
                uses.setdefault(fact.type, Counter())[form_of(fact)] += 1
        return Corpus(tuple(details), uses)

    def in_proportion(self, fact_type: str, forms: Iterable[str], rng: random.Random) -> Iterator[str]:
        """Yield all `forms` in random order, weighted by their use in the corpus. Unused forms come last."""
        counts = self.uses.get(fact_type, Counter())
        used = {form: counts[form.lower()] for form in forms}
        yield from _drawn({form: uses for form, uses in used.items() if uses}, rng)
        yield from _drawn({form: 1 for form, uses in used.items() if not uses}, rng)


def _drawn(weights: dict[str, int], rng: random.Random) -> Iterator[str]:
    """Yield all keys, drawn without replacement with probabilities in proportion to their weights."""
    while weights:
        drawn = rng.randrange(sum(weights.values()))  # integers: the same draws on every platform
        form = next(form for form, end in zip(weights, accumulate(weights.values()), strict=True) if drawn < end)
        del weights[form]
        yield form


def form_of(fact: Fact) -> str:
    """Return the part of a fact that is replaced: the lexicon's name, else the number, else the text in lower case."""
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
    """Return the statements of a summary that have one or two facts of `SUBSTANCE` and are clear on their own."""
    text = CITATION.sub("", summary)
    found = []
    for start, end in sentences(text):
        for clause in re.split(r";\s+", text[start:end]):
            statement = clause.strip().rstrip(".")
            facts = [fact for fact in extract_facts(statement) if fact.type in SUBSTANCE]
            if any(fact.negated for fact in facts):  # a denied finding is rarely wrong
                continue
            if style_of(statement) == "fragment" and (len(facts) != 1 or facts[0].type not in PROBLEMS):
                continue  # "C-section and D&C." is not clear on its own
            if 1 <= len(facts) <= 2 and 2 <= len(statement.split()) <= MAX_DETAIL_WORDS and _is_clear_alone(statement):
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
    """Return `sentence` (with a subject), `clipped` (without: "Denies fever.") or `fragment` ("Back pain.")."""
    if not _VERB.search(statement):
        return "fragment"
    return "sentence" if _SUBJECT.match(statement) else "clipped"


def topics_of(facts: Iterable[Fact]) -> frozenset[str]:
    """Return the types of the facts of `SUBSTANCE`. Habits have the type `habit`, not `condition`."""
    known = concepts("condition")
    return frozenset(
        "habit" if fact.key in known and known[fact.key].group == HABITS else fact.type
        for fact in facts
        if fact.type in SUBSTANCE
    )


def _is_clear_alone(statement: str) -> bool:
    plain_end = statement[-1].isalnum() or statement[-1] in "%)"
    plain = plain_end and statement[0].isalpha() and not {"\n", ":"} & set(statement)
    return plain and not _REFERS_BACK.search(statement) and not _BROKEN.search(statement)


# ------------------------------------------------------------------------------------------- the case


@dataclass
class Case:
    """A factual summary and its note, both parsed once."""

    note: str
    chosen: str
    corpus: Corpus = field(default_factory=Corpus)
    text: str = field(init=False)  # `chosen` with citations replaced by spaces
    note_facts: list[Fact] = field(init=False)
    note_numbers: frozenset[str] = field(init=False)
    facts: list[Fact] = field(init=False)
    named: frozenset[str] = field(init=False)  # the keys of all facts of both texts
    _occurrences: dict[re.Pattern[str], Occurrences] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    _in_capitals: dict[Span, bool] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.text = without_citations(self.chosen)
        self.note_facts = extract_facts(self.note)
        numbers = NUMBER.findall(plain_form(self.note).text)
        self.note_numbers = frozenset(plain_number(parsed_number(number)) for number in numbers)
        self.facts = extract_facts(self.text)
        self.named = frozenset(fact.key for fact in [*self.note_facts, *self.facts])

    def of_type(self, *types: str) -> list[Fact]:
        return [fact for fact in self.facts if fact.type in types]

    def has_number(self, number: str) -> bool:
        """Return whether the note contains this number anywhere."""
        return plain_number(parsed_number(number)) in self.note_numbers

    def occurrences(self, pattern: re.Pattern[str]) -> Occurrences:
        """Return the matches of a pattern in `text`."""
        if pattern not in self._occurrences:
            self._occurrences[pattern] = Occurrences(pattern, self.text)
        return self._occurrences[pattern]

    def follows(self, pattern: re.Pattern[str], place: int, stop: re.Pattern[str] = CLAUSE_END) -> bool:
        """Return whether a pattern matches after a place and before the next match of `stop`."""
        return self.occurrences(pattern).following(place)[0] < self.occurrences(stop).following(place)[0]

    def in_capitals(self, start: int, end: int) -> bool:
        """Return whether the line of a span of `text` is in capitals."""
        lines = self.occurrences(_LINE_END)
        line = lines.last_end(start), lines.following(end)[0]
        if line not in self._in_capitals:
            self._in_capitals[line] = self.text[slice(*line)].isupper()
        return self._in_capitals[line]


Item = TypeVar("Item")


def shuffled(items: Sequence[Item], rng: random.Random) -> list[Item]:
    return rng.sample(items, len(items))


def only_number(fact: Fact) -> re.Match[str] | None:
    """Return the match of a fact's number, or None unless the fact has exactly one number in digits."""
    numbers = list(NUMBER.finditer(fact.text))
    return numbers[0] if len(numbers) == 1 else None


# ----------------------------------------------------------------------------------------- rewordings


def cased_like(old: str, new: str) -> str:
    """Return `new` in capitals if `old` is, or with a first capital if `old` has one."""
    if old.isupper() and len(old) > 1:
        return new.upper()
    return new[:1].upper() + new[1:] if old[:1].isupper() else new


def capital_like(old: str, new: str) -> str:
    """Return `new` with a first capital if `old` has one."""
    return new[:1].upper() + new[1:] if old[:1].isupper() else new


class Rule(NamedTuple):
    """Replacements of what a pattern matches, unless the first pattern of `unless` follows before the second."""

    pattern: re.Pattern[str]
    others: tuple[str, ...]
    unless: tuple[re.Pattern[str], re.Pattern[str]] | None = None


def rule(expression: str, *others: str, unless: tuple[re.Pattern[str], re.Pattern[str]] | None = None) -> Rule:
    """Compile a rule. The syntax of the replacements is that of `re.sub`; case is ignored."""
    return Rule(re.compile(expression, re.IGNORECASE), others, unless)


def rules(*lines: tuple[str, ...] | Rule) -> tuple[Rule, ...]:
    """Compile lines of (expression, replacement, other replacement, ...)."""
    return tuple(line if isinstance(line, Rule) else rule(*line) for line in lines)


def rewordings(case: Case, rng: random.Random, table: Iterable[Rule]) -> Iterator[Candidate]:
    """Yield a candidate for every match of every rule and every replacement of the rule, in random order."""
    found = [
        (match, new)
        for pattern, others, unless in table
        for match in pattern.finditer(case.text)
        if not (unless and case.follows(unless[0], match.end(), unless[1]))
        for new in others
    ]
    for match, new in shuffled(found, rng):
        yield one_replacement(match.start(), match.end(), capital_like(match[0], match.expand(new)))
