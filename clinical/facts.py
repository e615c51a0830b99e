"""Extract the facts that a clinical text states, by rules: values with their subject, findings with their scope.

`extract_facts` reads a note, a dialogue or a summary. Values are normalised so that `==` compares them: "500 mg" and
"0.5 g" are both "500 mg", "14 days" and "2 weeks" both "336 hours", "BID" and "every 12 hours" both "2 per day".
Findings (conditions, symptoms, drugs, procedures, organisms) have the lexicon's name as key and value; see
`clinical.lexicons`.

Types: age sex dose frequency duration vital lab laterality condition symptom drug drug_status allergy procedure
procedure_status family_history follow_up date number organism denial topic, and the attributes of
`clinical.attributes`. The rules miss words that they do not know. They are designed to miss a fact rather than to
report a wrong one.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from functools import cache, lru_cache

from clinical import attributes, measurements, values
from clinical.body_systems import topic_facts
from clinical.lay_words import lay_findings
from clinical.layout import ALLERGIES, FAMILY, Section, section_at, sections
from clinical.lexicons import Concept, Phrase, Term, concepts, on_change, phrase_table
from clinical.occurrences import Occurrences
from clinical.plain_form import plain_form
from clinical.polarity import AFFIRMED, HISTORICAL, NEGATED, OPEN, UNCERTAIN, marked_polarity
from clinical.relatives import NamedRelatives, relatives_meant
from clinical.scope import ANSWERS, Span, Token, answer_flag, is_question, scopes, tokens_of
from clinical.text import RegularForm, Turn, dialogue_turns, lower_case, sentences
from clinical.values import FINDINGS, PROBLEMS, Fact, covered, ignoring_case

__all__ = ["Concept", "Fact", "concepts", "extract_facts", "sentences"]


_CHANGE_OF_VALUE = ignoring_case(r" (?:by|from|to) \d| to (?:about )?\d")


def _findings(text: str, tokens: Sequence[Token]) -> Iterator[Fact]:
    """Yield the longest lexicon phrase at each position. A final plural "s" is ignored."""
    phrases, longest = phrase_table()
    index = 0
    while index < len(tokens):
        word = tokens[index].word
        reach = longest.get(word) or (longest.get(word[:-1], 0) if word[-1] == "s" else 0)
        for length in range(min(reach, len(tokens) - index), 0, -1):
            term = _term(phrases, tokens[index : index + length], text)
            if term:
                start, end = tokens[index].start, tokens[index + length - 1].end
                following = tokens[index + length].word if index + length < len(tokens) else ""
                is_change = term.name == "fall" and _CHANGE_OF_VALUE.match(text, end)  # "pressure fell by 30"
                is_other = term.name == "alcohol use" and _drinks_other(text, start, end)
                if is_change or is_other or following in _NAMES_ON or (term.capitals_only and following == ":"):
                    break  # "flu vaccine" is not flu; "MS:" is a heading
                yield Fact(term.type, start, end, "", term.name, term.name)
                index += length - 1
                break
        index += 1


_EATING = ignoring_case(r"\b(?:eat(?:s|ing)?|feeding|fed|food)(?: and| &|,| \+|/| or) ?$")
_OTHER_DRINKS = ignoring_case(
    r"(?: (?:about|only|plenty of|some|more|enough|\d+|oz|ounces?|ml|cups?|of|whole|a|lot))* "
    r"(?:water|milk|fluids?|juice|tea|coffee|well|normally|soda|formula)\b"
)


def _drinks_other(text: str, start: int, end: int) -> bool:
    """Return whether a word for drinking is not about alcohol: "eating and drinking", "drinks 500 ml of milk"."""
    return bool(_EATING.search(text, max(0, start - 12), start) or _OTHER_DRINKS.match(text, end))


def _term(phrases: dict[Phrase, Term], tokens: Sequence[Token], text: str) -> Term | None:
    phrase = tuple(token.word for token in tokens)
    term = phrases.get(phrase) or phrases.get((*phrase[:-1], phrase[-1].removesuffix("s")))
    if term and term.capitals_only and not text[tokens[0].start : tokens[-1].end].isupper():
        return None
    return term


def _with_lay_words(length: int, named: Sequence[Fact], lay: Sequence[Fact]) -> list[Fact]:
    """Merge both kinds of findings. A lay phrase replaces the names inside it ("pain in my knee")."""
    starts, ends = [fact.start for fact in named], [fact.end for fact in named]
    kept = []
    for fact in lay:
        inside = named[bisect_right(ends, fact.start) : bisect_left(starts, fact.end)]
        if all(_is_part(name, fact) for name in inside):
            kept.append(fact)
    kept = _without_overlaps(length, kept)
    taken = _Taken(length, kept)
    return sorted([*(fact for fact in named if not taken.overlaps(fact)), *kept], key=lambda fact: fact.start)


def _is_part(name: Fact, lay: Fact) -> bool:
    return lay.start <= name.start and name.end <= lay.end and name.end - name.start < lay.end - lay.start


# -------------------------------------------------------------------------------------------- binding

_STATUS = ignoring_case(
    r"\b(?:(?P<started>start(?:ed|s)?(?: on)?|starting|put (?:you|him|her|them|patient|pt) on|"
    r"switch(?:ed|ing)? to|initiated?|prescribed?|treat(?:ed)? with|began|begin|begun|plan:|"
    r"adding|added|add)"
    r"|(?P<stopped>stop(?:ped|ping)?|discontinued?|"
    r"d/?c['’]?e?d(?! (?:w/|on|with|home|to)(?!\w))|discontinuing|held|hold|came off|off of|quit|withheld|"
    r"omit(?:ted)?)"
    r"|(?P<continued>continue[sd]?|continuing|cont|remains? on|unchanged)"
    r"|(?P<increased>increase[sd]?|increasing|uptitrated?|raised?)"
    r"|(?P<decreased>decrease[sd]?|decreasing|reduced?|reducing|lowered|taper(?:ed)?|downtitrated?))\b"
)
_STATUS_AFTER = ignoring_case(
    r"^(?:[^.;,\n(→]{0,40}?)\(?\b(?:(?:was|were|is|has been|have been|will be)\s+)?"
    r"(?:(?P<started>started|initiated|prescribed|begun|added)|(?P<stopped>stopped|discontinued|held|withheld|d/?c['’]?e?d)"
    r"|(?P<continued>continued|unchanged)|(?P<increased>increased|uptitrated|raised)"
    r"|(?P<decreased>decreased|reduced|lowered|tapered))\b"
)
_DOSE_CHANGE = re.compile(
    r"^[^.;,\n\d]{0,20}(?P<old>\d+(?:\.\d+)?)\s?(?:mg|mcg|units?|u|g|ml)?[^.;,\n\d]{0,12}(?:->|→|=>|\bto\b)\s?"
    r"(?P<new>\d+(?:\.\d+)?)",
    re.IGNORECASE,
)
_PROCEDURE_STATUS = ignoring_case(
    r"\b(?:(?P<planned>planned|scheduled|will (?:be|get|have|undergo|order|obtain|do)|plan:?|to be done|"
    r"ordered?|pending|recommend(?:ed)?|arrange|refer(?:red)?|is going to|schedule|consider)"
    r"|(?P<performed>performed|done|completed|underwent|undergone|showed|shows|revealed|demonstrated|"
    r"status post|s/p|had)"
    r"|(?P<removed>removed|discontinued|d/?c['’]?e?d|pulled|taken out)"
    r"|(?P<placed>placed|inserted|in place|in situ|left in))\b"
)
_THEN_REMOVED = ignoring_case(  # "placed 5/1, removed 5/3"
    r"(?:[\s\d/,]|(?:on|in|pod|and|then|later|was|since|subsequently|but)\b){1,30}"
    r"(?:removed|pulled|taken out|d/?c['’]?e?d)\b"
)
_ALLERGY = ignoring_case(
    r"\b(?:allerg(?:y|ies|ic)|nkda|nka)\b(?! (?:medic|meds|pill|shot|season|test|clinic|specialist|doctor|injection))"
    r"|\b(?:drug|medications?|medicines?) (?:intolerances?|reactions?)\b"
    r"|\b(?:reactions?|react(?:ed)?(?: \w+)?|intoleran(?:t|ces?)) to (?:(?:any|a|the|your) )*"
    r"(?:drugs?|medications?|medicines?)\b"
)
_ENDS_ALLERGIES = ignoring_case(
    r"->|→|;|\b(?:so|on|takes?|taking|started|given|received|prescribed|instead|therefore|continues?|home meds?|"
    r"meds|plan)\b"
)
_ENDS_STATUS = re.compile(r"[;→]|->|=>")  # "ramipril stopped → Entresto"
_STATUS_REACH = 300  # characters after a drug, more than either pattern above can span
REACTION = "reaction"  # value of an allergy that the text tells as a reaction to a drug
_ADVERSE = ignoring_case(r",?(?: \w+){0,2} caus(?:es|ed|ing)\b")  # "Penicillin caused a rash"
_RASH_FROM = ignoring_case(  # "gets a rash with penicillin"
    r"\b(?:rash|hives|anaphyla\w+|angioedema|urticaria|swelling|itching) (?:with|to|from|after|on) (?:oral |iv |the )?$"
)


def _is_reaction(text: str, drug: Fact) -> bool:
    """Return whether the text tells of a reaction to the drug before it or after it."""
    before = _RASH_FROM.search(text, max(0, drug.start - _NEAR_ALLERGY), drug.start)
    return before is not None or _ADVERSE.match(text, drug.end) is not None


def _is_just_before(text: str, drug: Fact, position: int) -> bool:
    """Return whether a drug before the word "allergy" belongs to it: "penicillin allergy", "codeine: allergic"."""
    return position - drug.end <= _NEAR_ALLERGY and not re.search(r"[.;]|->", text[drug.end : position])


_NEAR_ALLERGY = 30  # characters
_VACCINES = frozenset({"vaccine", "vaccines", "vaccination", "vaccinations", "immunization", "shot", "shots"})


# after such a word, a name is no finding: "flu vaccine", "depression score"
_NAMES_ON = _VACCINES | {"score", "scale", "questionnaire", "inventory", "index", "kinase", "prophylaxis", "prevention"}


class _Taken:
    """The characters that facts cover."""

    def __init__(self, length: int, facts: Iterable[Fact] = ()) -> None:
        self._characters = covered(length, facts)

    def add(self, fact: Fact) -> None:
        self._characters[fact.start : fact.end] = b"\1" * (fact.end - fact.start)

    def overlaps(self, fact: Fact) -> bool:
        return self._characters.find(1, fact.start, fact.end) >= 0


def _without_overlaps(length: int, *groups: Sequence[Fact]) -> list[Fact]:
    """Return facts that do not overlap. Earlier groups win; within a group, the earlier and then the longer fact."""
    kept: list[Fact] = []
    taken = _Taken(length)
    for group in groups:
        for fact in sorted(group, key=lambda fact: (fact.start, -fact.end)):
            if not taken.overlaps(fact):
                kept.append(fact)
                taken.add(fact)
    return kept


_TIMES_OF_DAY = frozenset({"morning", "evening", "bedtime"})  # without a drug, they say when something happened
_RATE = ignoring_case(r"\W*(?:per|an?|each|every) ")  # without a drug, "packs per day" is no frequency


def _is_told_alone(text: str, frequency: Fact) -> bool:
    """Return whether a frequency without a drug is one: "dialysis three times a week"."""
    return frequency.value not in _TIMES_OF_DAY and not _RATE.match(text, frequency.start)


def _bind_to_drugs(
    facts: Sequence[Fact], findings: Sequence[Fact], text: str, ends: Sequence[int], *, in_dialogue: bool
) -> list[Fact]:
    """Set the drug as key of each dose and frequency. In a dialogue, a frequency without a drug is dropped."""
    drugs = [fact for fact in findings if fact.type == "drug"]
    starts = [drug.start for drug in drugs]
    bound = []
    for fact in facts:
        if fact.type not in ("dose", "frequency"):
            bound.append(fact)
            continue
        index = bisect_left(starts, fact.end)
        drug = _drug_of(fact, drugs[max(0, index - 2) : index + 1], text, ends)
        if drug or fact.type == "dose" or (not in_dialogue and _is_told_alone(text, fact)):
            bound.append(replace(fact, key=drug.key) if drug else fact)
    return bound


_SEPARATE = re.compile(r"[;+&]|,(?! [a-z]+ly\b)")


def _drug_of(fact: Fact, drugs: Sequence[Fact], text: str, ends: Sequence[int]) -> Fact | None:
    """Return the drug of a dose or frequency, or None.

    In order of preference: the drug directly after a dose ("50 mg of X"), the last drug before it in the sentence,
    the next drug in the sentence, the last drug in the two sentences before (often a question).
    """
    after = next((drug for drug in drugs if drug.start >= fact.end), None)
    before = next((drug for drug in reversed(drugs) if drug.end <= fact.start), None)
    sentence = bisect_left(ends, fact.end)
    if (
        after
        and fact.type == "dose"
        and re.fullmatch(
            r"\s*(?:(?:dose|doses|tablets?|capsules?|bolus|infusion) )?(?:of )?(?:oral |iv )?",
            text[fact.end : after.start],
        )
    ):
        return after
    if before and bisect_left(ends, before.end) == sentence:
        return before
    gap = text[fact.end : after.start] if after else ""
    if after and bisect_left(ends, after.end) == sentence and len(gap) < 40 and not _SEPARATE.search(gap):
        return after
    return (
        before if before and sentence - bisect_left(ends, before.end) <= 2 and fact.start - before.end < 120 else None
    )


def _bind_durations(facts: Sequence[Fact], findings: Sequence[Fact], text: str, ends: Sequence[int]) -> list[Fact]:
    """Set the nearest condition or symptom of the sentence as key of each duration."""
    problems = [fact for fact in findings if fact.type in PROBLEMS]
    starts = [problem.start for problem in problems]
    bound = []
    for fact in facts:
        if fact.type == "duration":
            sentence = bisect_left(ends, fact.end)
            index = bisect_left(starts, fact.start)
            around = problems[max(0, index - 8) : index + 8]
            near = [item for item in around if bisect_left(ends, item.end) == sentence and _distance(fact, item) <= 40]
            nearest = min(
                near, key=lambda item: (_comma_between(text, fact, item), _distance(fact, item)), default=None
            )
            fact = replace(fact, key=nearest.key) if nearest else fact  # noqa: PLW2901
        bound.append(fact)
    return bound


def _comma_between(text: str, first: Fact, second: Fact) -> bool:
    before, after = sorted((first, second), key=lambda fact: fact.start)
    return "," in text[before.end : after.start]


def _distance(first: Fact, second: Fact) -> int:
    return max(second.start - first.end, first.start - second.end)


class _StatusWords:
    """The status words of one sentence, found once for all its drugs and procedures."""

    def __init__(self, pattern: re.Pattern[str], text: str, start: int, end: int) -> None:
        self.matches = list(pattern.finditer(text, start, end))
        self._ends = [match.end() for match in self.matches]

    def last_before(self, position: int) -> re.Match[str] | None:
        count = bisect_right(self._ends, position)
        return self.matches[count - 1] if count else None

    def nearest(self, fact: Fact) -> re.Match[str] | None:
        """Return the nearest one, the first of two at the same distance."""
        place = bisect_right(self._ends, fact.start)  # all before end in front of the fact
        last = bisect_right(self._ends, fact.end) + 1
        near = self.matches[max(place - 1, 0) : last]
        return min(near, key=lambda match: max(match.start() - fact.end, fact.start - match.end()), default=None)


def _status_facts(text: str, findings: Sequence[Fact], bounds: Sequence[Span]) -> Iterator[Fact]:
    """Yield `drug_status` (started, stopped) and `procedure_status` (performed, planned) if the text states it."""
    words_of = cache(_StatusWords)
    for fact in findings:
        start, end = bounds[fact.sentence] if fact.sentence < len(bounds) else (fact.start, fact.end)
        if fact.type == "drug":
            status = _drug_status(text, fact, end, words_of(_STATUS, text, start, end))
        elif fact.type == "procedure":
            nearest = words_of(_PROCEDURE_STATUS, text, start, end).nearest(fact)
            status = nearest.lastgroup if nearest else None
            if nearest and status == "placed" and _THEN_REMOVED.match(text, nearest.end(), end):
                yield replace(fact, type="procedure_status", value="removed")
        else:
            continue
        if status:
            yield replace(fact, type=f"{fact.type}_status", value=status)


def _drug_status(text: str, drug: Fact, end: int, words: _StatusWords) -> str | None:
    following = text[drug.end : min(end, drug.end + _STATUS_REACH)]
    if change := _DOSE_CHANGE.match(following):
        old, new = float(change["old"]), float(change["new"])
        return "increased" if new > old else "decreased" if new < old else None
    if match := _STATUS_AFTER.match(following.split(" and ")[0]):
        return match.lastgroup
    before = words.last_before(drug.start)
    if before is None or _ENDS_STATUS.search(text, before.end(), drug.start):
        return None
    return before.lastgroup


def _with_allergies(
    text: str, findings: Sequence[Fact], bounds: Sequence[Span], parts: Sequence[Section]
) -> list[Fact]:
    """Turn drugs named as allergies into facts of type `allergy`. Allergies without a drug have the value `any`.

    The reactions listed in a section on allergies are no findings of the visit, so they are left out.
    """
    inside = [section_at(parts, fact.start) == ALLERGIES for fact in findings]
    changed = [
        replace(fact, type="allergy") if is_listed and fact.type == "drug" else fact
        for fact, is_listed in zip(findings, inside, strict=True)
        if not (is_listed and fact.type in PROBLEMS)
    ]
    changed = [
        replace(fact, type="allergy", value=REACTION) if fact.type == "drug" and _is_reaction(text, fact) else fact
        for fact in changed
    ]
    drugs = [fact for fact in changed if fact.type in ("drug", "allergy")]
    others = [fact for fact in changed if fact.type not in ("drug", "allergy")]
    return sorted([*others, *_allergic(text, drugs, findings, bounds)], key=lambda fact: fact.start)


def _allergic(text: str, drugs: Sequence[Fact], findings: Sequence[Fact], bounds: Sequence[Span]) -> list[Fact]:
    """Return the drugs, of which each that an allergy mentions has the type `allergy`, and allergies without a drug.

    Mentions and drugs are in the order of the text, so that no drug is looked at for every mention.
    """
    starts, ends = [drug.start for drug in drugs], [drug.end for drug in drugs]
    stops, told, done = Occurrences(_ENDS_ALLERGIES, text), list(drugs), 0
    unnamed: list[Fact] = []
    for match in _ALLERGY.finditer(text):
        place = match.start()
        covering = bisect_right(findings, place, key=lambda fact: fact.start) - 1
        if covering >= 0 and place < findings[covering].end and findings[covering].type != "allergy":
            continue  # "allergic rhinitis"
        index = max(0, bisect_right(bounds, place, key=lambda span: span[0]) - 1)
        start, end = bounds[index]
        reach = bounds[index + 1][1] if text[end - 1] == "?" and index + 1 < len(bounds) else end
        last = bisect_left(starts, min(reach, stops.following(match.end())[1]))
        first = max(bisect_right(ends, place), bisect_left(starts, start))
        while first and starts[first - 1] >= start and _is_just_before(text, drugs[first - 1], place):
            first -= 1
        for i in range(max(first, done), last):
            told[i] = replace(drugs[i], type="allergy")
        done = max(done, last)
        is_told_again = bool(unnamed) and unnamed[-1].start >= start and _is_just_before(text, unnamed[-1], place)
        if first >= last and not is_told_again:
            unnamed.append(Fact("allergy", place, match.end(), "", "any", "any"))
    return [*told, *unnamed]


_UNNAMED_RELATIVE = ignoring_case(r"\bfamily history\b|\brelatives?\b|\bfamily members?\b|\bin the family\b")


def _family_history(
    text: str, facts: Iterable[Fact], bounds: Sequence[Span], meant: Mapping[int, str], parts: Sequence[Section]
) -> Iterator[Fact]:
    """Yield a `family_history` fact for each relative who has one of the conditions, according to its sentence.

    In a section on family history, or after these words, a condition without a relative belongs to a relative who is
    not named ("").
    """

    @cache
    def relatives(sentence: int) -> tuple[NamedRelatives, bool]:
        start, end = bounds[sentence]
        return NamedRelatives(text, start, end), _UNNAMED_RELATIVE.search(text, start, end) is not None

    for fact in facts:
        named, has_unnamed = relatives(fact.sentence)
        names = named.with_finding(fact.start)
        names = names or [meant[fact.sentence]] if fact.sentence in meant else names
        if fact.negated and (names or not has_unnamed):
            continue  # that a relative does not have it says nothing of the others
        if not names and (section_at(parts, fact.start) == FAMILY or has_unnamed):
            names = [""]
        for name in dict.fromkeys(names):
            yield replace(fact, type="family_history", value=name)


# ----------------------------------------------------------------------------------------- extraction


def extract_facts(text: str) -> list[Fact]:
    """Return all facts of `text`, sorted by start. The same text always gives the same list."""
    return list(_extract(text))


@lru_cache(maxsize=2048)
def _extract(text: str) -> tuple[Fact, ...]:
    form = plain_form(text)
    plain = form.text
    tokens, bounds, turns = tokens_of(plain), sentences(plain), dialogue_turns(plain)
    parts = [] if turns else sections(plain)
    named = list(_findings(plain, tokens))
    if turns:
        named = _with_lay_words(len(plain), named, list(lay_findings(plain)))
    findings = _with_allergies(plain, named, bounds, parts) if bounds else []
    values = _value_facts(plain, tokens, turns, findings, [end for _, end in bounds])
    if any(fact.type == "change" for fact in values):
        changes = _Taken(len(plain), [fact for fact in values if fact.type == "change"])
        findings = [
            fact for fact in findings if fact.value != "fall" or not changes.overlaps(fact)
        ]  # "creatinine fell"
    facts = [*_scoped(plain, bounds, turns, findings, parts), *_scoped(plain, bounds, turns, values, [])]
    meant = relatives_meant(plain, bounds, turns)
    facts = [replace(fact, family=True) if fact.sentence in meant else fact for fact in facts]
    facts += _status_facts(plain, [fact for fact in facts if fact.type in ("drug", "procedure")], bounds)
    familial = [fact for fact in facts if fact.family and fact.type == "condition"]
    facts += _family_history(plain, familial, bounds, meant, parts)
    facts += _denials_of_others(plain, bounds, turns)
    facts += topic_facts(plain) if turns else ()
    placed = _placed(text, form, facts) if form.changes or plain != text else facts
    return tuple(sorted(placed, key=lambda fact: (fact.start, fact.end, fact.type)))


on_change(_extract.cache_clear)


def scoped_spans(text: str, spans: Sequence[Span]) -> list[Fact]:
    """Return a fact of type `word` with scope flags for each span of `plain_form(text).text`, placed in that form."""
    plain = plain_form(text).text
    words = [Fact("word", start, end, "", word, word) for start, end in spans if (word := plain[start:end].lower())]
    turns = dialogue_turns(plain)
    return _scoped(plain, sentences(plain), turns, words, [] if turns else sections(plain))


def _placed(text: str, form: RegularForm, facts: Sequence[Fact]) -> Iterator[Fact]:
    """Yield the facts of the regular form with their positions in the original text."""
    starts = [start for start, _ in sentences(text)]
    for fact in facts:
        start, end = form.original_span(fact.start, fact.end)
        sentence = max(0, bisect_right(starts, start) - 1)
        yield replace(fact, start=start, end=end, text=text[start:end], sentence=sentence)


def _value_facts(
    text: str, tokens: Sequence[Token], turns: Sequence[Turn], findings: Sequence[Fact], ends: Sequence[int]
) -> list[Fact]:
    """Return values and attributes, sorted by start. Text that an earlier pattern has read is not read again."""
    lower = lower_case(text)
    measured = [
        *measurements.vital_facts(lower, tokens),
        *measurements.lab_facts(lower, tokens),
        *measurements.told_changes(lower, tokens),
    ]
    facts = _without_overlaps(
        len(text),
        [fact for fact in measured if fact.type != "change"],
        list(values.age_facts(lower, in_dialogue=bool(turns))),
        list(values.frequency_facts(lower)),
        [*values.dose_facts(lower), *values.duration_facts(lower)],
        list(values.date_facts(lower)),
    )
    facts = values.of_whole_numbers(lower, facts)
    changes = [fact for fact in measured if fact.type == "change"]
    inside = [fact for fact in findings if not text[fact.start : fact.end].isalpha()]
    taken = _Taken(len(text), [*facts, *inside])
    facts += [fact for fact in values.number_facts(lower) if not taken.overlaps(fact)]
    facts += values.pack_year_facts(lower)
    facts = _bind_durations(_bind_to_drugs(facts, findings, text, ends, in_dialogue=bool(turns)), findings, text, ends)
    qualifiers = attributes.attribute_facts(text, findings)
    sides = _without_overlaps(
        len(text),
        list(values.laterality_facts(lower, findings, in_dialogue=bool(turns))),
        list(values.sex_facts(text, tokens, turns)),
    )
    return sorted([*facts, *changes, *sides, *qualifiers], key=lambda fact: fact.start)


def _scoped(
    text: str, bounds: Sequence[Span], turns: Sequence[Turn], facts: Sequence[Fact], parts: Sequence[Section]
) -> list[Fact]:
    """Return the facts with their sentence number and scope flags."""
    fact_starts = [fact.start for fact in facts]
    marked = {} if turns else marked_polarity(text, facts)
    scoped: list[Fact] = []
    for index, (start, end) in enumerate(bounds):
        inside = facts[bisect_left(fact_starts, start) : bisect_left(fact_starts, end)]
        if not inside:
            continue
        sentence = text[start:end]
        flags = scopes(sentence, tuple((fact.start - start, fact.end - start) for fact in inside))
        about = _about_the_sentence(text, index, bounds, turns)
        answer = about & ANSWERS
        first = bisect_left(fact_starts, start)
        for number, (fact, flag) in enumerate(zip(inside, flags, strict=True), start=first):
            own = about - answer | {"asked"} if answer and _taken_for_granted(text, fact) else about
            said = _as_marked(flag, marked.get(number)) if fact.type in _MARKED else flag
            if fact.type == "procedure" and (_has_negative_result(text, fact) or _is_source(text, fact)):
                said = said - {"negated"}
            if fact.type in FINDINGS and _PAST_HABIT.fullmatch(text, fact.start, fact.end):
                said = said | {"historical"}
            if fact.type in FINDINGS and _is_never_habit(text, fact):
                said = said | {"negated"}
            if fact.type == "drug" and _is_avoided(text, fact):
                said = said | {"negated"}  # "avoid NSAIDs"; to avoid alcohol or dizziness says nothing of having it
            if "negated" in said and _is_denied_for_ever(text, fact):
                said = said | {"historical"}  # in the past too
            if section_at(parts, fact.start) == FAMILY:
                said = said | {"family"}
            scoped.append(_with_flags(text, fact, said | own, index))
    return scoped


_NEGATIVE_RESULT = ignoring_case(r"[^.;,\n]{0,30}?\b(?:negative|neg|normal|unremarkable|clear)\b")
_DENIED_BEFORE = ignoring_case(r"\b(?:no|not|never|without|denie[sd]|declined|refused)\b[^.;,\n]{0,30}$")


def _has_negative_result(text: str, test: Fact) -> bool:
    """Return whether a test was done with a negative result: "biopsy cores were negative"."""
    before = text[max(0, test.start - 40) : test.start]
    return _NEGATIVE_RESULT.match(text, test.end) is not None and not _DENIED_BEFORE.search(before)


_AS_SOURCE = ignoring_case(r"\b(?:on|by|during|at|after|via|from) (?:the |a |an |his |her )?(?:\w+ )?$")


def _is_source(text: str, test: Fact) -> bool:
    """Return whether the test showed what its sentence denies: "no thrombus on echocardiography"."""
    return _AS_SOURCE.search(text, max(0, test.start - 30), test.start) is not None


_MARKED = frozenset({*FINDINGS, "word"})  # types of facts whose polarity notation can mark
_PAST_HABIT = ignoring_case(r"smoked|drank|(?:ex|former)[ -]?smoker|ex[ -]?drinker|used to (?:smoke|drink)")
_HABITUAL, _NEVER = ignoring_case(r"(?:smok|drink)ers?"), ignoring_case(r"\b(?:non|never)[ -]$")
_HABIT = ignoring_case(r"(?:never )?(?:smok|drink|vap)\w*|drank|tobacco(?: use)?|cigarettes?|alcohol(?: use)?")
_EVER = ignoring_case(r"\bnever(?:[ -]\w+){0,2}[ -]$|\blife-?long (?:non|never)[ -]$")
_EVER_REACH = 30  # characters before a habit in which "never" is looked for
_FLAGS_OF_MARKS = {AFFIRMED: "", NEGATED: "negated", OPEN: "asked", UNCERTAIN: "uncertain", HISTORICAL: "historical"}


def _is_never_habit(text: str, fact: Fact) -> bool:
    """Return whether the word before denies a habit, and only that: "non-smoker, drinks beer"."""
    is_habit = _HABITUAL.fullmatch(text, fact.start, fact.end) is not None
    return is_habit and _NEVER.search(text, max(0, fact.start - 6), fact.start) is not None


def _is_denied_for_ever(text: str, fact: Fact) -> bool:
    """Return whether a habit is denied for the past too: "never smoked", not "non-smoker"."""
    if not _HABIT.fullmatch(text, fact.start, fact.end):
        return False
    return _EVER.search(text, max(0, fact.start - _EVER_REACH), fact.start) is not None


_AVOID_REACH = 60  # characters before a drug in which "avoid" is looked for
_AVOID = ignoring_case(r"\bavoid(?:s|ing)? (?:\w+[ ,/]+){0,3}$")
_AVOIDED = ignoring_case(r" (?:is|are|was|were|should|to|be|being| )*avoided\b")


def _is_avoided(text: str, drug: Fact) -> bool:
    before = _AVOID.search(text, max(0, drug.start - _AVOID_REACH), drug.start)
    return before is not None or _AVOIDED.match(text, drug.end) is not None


def _as_marked(flags: Set[str], mark: str | None) -> Set[str]:
    """Return the flags with the polarity that notation gives to the finding."""
    if mark is None:
        return flags
    own = {_FLAGS_OF_MARKS[mark]} - {""}
    return flags - ({"negated"} if mark in (AFFIRMED, NEGATED, HISTORICAL) else set()) | own


def _with_flags(text: str, fact: Fact, flags: Set[str], sentence: int) -> Fact:
    said, true = text[fact.start : fact.end], dict.fromkeys(flags, True)
    # `replace` takes twice as long, and this runs for every fact
    return Fact(fact.type, fact.start, fact.end, said, fact.key, fact.value, sentence=sentence, **true)


_OWNER = ignoring_case(
    r"\b(?:patient|pt|he|she|his|her|him|i|i'm|i've|my|me|you|your|we|mr|mrs|ms|miss|sir|ma'am|old|y/?o|male|"
    r"female|man"
    r"|woman|lady|gentleman|boy|girl|child|baby|infant|son|daughter|husband|wife)\b"
)


def _about_the_sentence(text: str, index: int, bounds: Sequence[Span], turns: Sequence[Turn]) -> Set[str]:
    """Return the flags of all facts of a sentence: the answer to a question, `spoken`, `ownerless`."""
    start, end = bounds[index]
    about = {"spoken"} if turns else set()
    if not _OWNER.search(text, start, end):
        about.add("ownerless")
    if is_question(text[start:end], bool(turns)):
        following = bounds[index + 1] if index + 1 < len(bounds) else None
        answer = answer_flag(text, (start, end), following, turns)
        if answer:
            about.add(answer)
    return about


_OTHERS_DENIED = ignoring_case(
    r"\bno(?:thing)? (?:other|else)\b(?! than)|\bno other (?:symptoms?|complaints?|problems?|issues?|concerns?)\b"
    r"|\beverything else (?:is|was|seems?|looks?|has been) (?:\w+ )?(?:fine|good|normal|ok|okay|negative|great)\b"
    r"|\bnothing (?:like that|at all)\b|\bnone of (?:that|those|them|these)\b"
    r"|\b(?:all|any) other (?:systems|symptoms)\b[^.?!\n]{0,30}\bnegative\b|\botherwise (?:negative|unremarkable)\b"
)
_OTHERS_ASKED = ignoring_case(
    r"\b(?:any|anything|something) (?:other|else)\b"
    r"|\bany (?:new |recent )?(?:symptoms?|complaints?|issues?|concerns?)\b"
    r"|\bother (?:symptoms?|complaints?|problems?|issues?|concerns?)\b|\banything (?:like that|at all)\b"
)

# in a question with such a list, only the listed findings are denied
_LISTS = ignoring_case(r"\b(?:such as|like (?!that|this)|including|for example)\b")


def _denials_of_others(text: str, bounds: Sequence[Span], turns: Sequence[Turn]) -> Iterator[Fact]:
    """Yield a fact of type `denial` if all findings not named are denied: "Anything else?" "No."."""
    for index, (start, end) in enumerate(bounds):
        asked = _OTHERS_ASKED.search(text, start, end)
        match = _OTHERS_DENIED.search(text, start, end)
        if (
            not match
            and asked
            and is_question(text[start:end], bool(turns))
            and not _LISTS.search(text, asked.end(), end)
        ):
            following = bounds[index + 1] if index + 1 < len(bounds) else None
            match = asked if answer_flag(text, (start, end), following, turns) == "negated" else None
        if match:
            yield Fact("denial", match.start(), match.end(), "", "", "others", negated=True, sentence=index)


_PRESUPPOSED = ignoring_case(
    r"\b(?:complications?|problems?|issues?|trouble|side effects?|changes?|concerns?|questions?) (?:\w+ )?"
    r"(?:with|from|during|after|to|about|for|in) (?:your|his|her|the|that) (?:\w+ )?$"
    r"|\b(?:besides|other than|apart from|aside from|in addition to|except for) (?:\w+ ){0,3}$"
)


def _taken_for_granted(text: str, fact: Fact) -> bool:
    """Return whether a question presupposes the fact: the asthma in "any problems with your asthma?"."""
    return fact.type in FINDINGS and _PRESUPPOSED.search(text, max(0, fact.start - 60), fact.start) is not None
