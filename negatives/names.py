"""Editors that replace one name by another: drugs, diagnoses, symptoms, procedures, organisms, allergies, causes."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache

from clinical.facts import Fact, concepts
from clinical.lexicons import sound_alikes
from clinical.occurrences import end_of_words_before, right_before
from negatives.case import (
    HABITS,
    NOT_NOUNS,
    Candidate,
    Case,
    capital_like,
    cased_like,
    one_replacement,
    rewordings,
    rules,
    shuffled,
)

# text after a finding that allows another finding in its place
_READS_ON = re.compile(
    r"\s*(?:$|[.,;:)/\n]|\d|\b(?:and|or|but|for|since|who|which|that|was|is|were|are|has|have|had|after|"
    r"before|today|discontinued|ruled|on|in|at|as|to|by|from|when|while|due|secondary|associated|however|"
    r"versus|vs|status|therapy|started|stopped|daily|once|twice|per|every|bid|tid|b\.i\.d|t\.i\.d|q\w*)\b)",
    re.IGNORECASE,
)
# text before a finding that allows another finding in its place
_OPENS = re.compile(
    r"(?:^|[.;:,(/\n]|\d\.?|\b(?:of|with|for|has|had|have|having|and|or|nor|denies|denied|denying|reports|reported|"
    r"suspected|possible|likely|probable|confirmed|no|not|without|including|include|includes|included|to|on|as|takes|"
    r"take|took|taking|started|start|starting|continue|continued|continues|her|his|their|my|stopped|stop|discontinue|"
    r"discontinued|plus|from|any|both|prescribed|given|received|receives|receiving|recent|chronic|acute|severe|mild|"
    r"moderate|significant|than|used|uses|using|some|occasional|intermittent|positive|negative|"
    r"known|prior|previous|past|underwent|undergone|undergo|mg|mcg|the|this|experienced|experiencing|develop|"
    r"developed|suffers|contracted|remote|about|except|also|iv|po|oral|home|increasing|persistent|grew|grows|"
    r"growing|showed|shows|revealed|treat|treated|treating|by))\s*$",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"\b(?:an?|another|one) $", re.IGNORECASE)
_VERB_OF_ONE = re.compile(r"\s+(?:is|was|has)\b")
_VERB_OF_MANY = re.compile(r"\s+(?:are|were|have)\b")
# groups that are never exchanged: too general, or an unlikely error (tobacco for caffeine)
NEVER = frozenset({"general", "general drug class", HABITS})
_COUNTABLE, _PLURAL = ", countable", ", plural"  # endings of groups whose names take an article, or are plural


def edit_drug(case: Case, rng: random.Random) -> Iterator[Candidate]:
    yield from _swaps(case, rng, "drug")


def edit_condition(case: Case, rng: random.Random) -> Iterator[Candidate]:
    yield from _swaps(case, rng, "condition")


def edit_symptom(case: Case, rng: random.Random) -> Iterator[Candidate]:
    yield from _swaps(case, rng, "symptom")


def edit_procedure(case: Case, rng: random.Random) -> Iterator[Candidate]:
    yield from _swaps(case, rng, "procedure")


def edit_organism(case: Case, rng: random.Random) -> Iterator[Candidate]:
    yield from _swaps(case, rng, "organism")


def _swaps(case: Case, rng: random.Random, fact_type: str) -> Iterator[Candidate]:
    """Replace each finding by other names of its group that neither text has, if the sentence stays grammatical.

    Denied findings are skipped, because another finding is usually absent too.
    """
    told, named = f"{case.note}\n{case.text}".lower(), "\n".join(case.named)

    @cache
    def untold(group: str) -> list[tuple[str, str]]:
        """Return (key, name) of each name of a group that is not part of the texts or of a name in them."""
        own = [] if group in NEVER else [item for item in concepts(fact_type).items() if item[1].group == group]
        return [(key, concept.name) for key, concept in own if key not in told and key not in named]

    for fact in shuffled([fact for fact in case.of_type(fact_type) if not fact.negated], rng):
        group = _group(fact_type, fact)
        if _is_replaceable(case.text, fact, group):
            # a name that contains the old name is only more specific
            names = [name for key, name in untold(group) if fact.key not in key and (fact.key, key) not in _IMPLIES]
            write = _writing(case, fact)
            for name in case.corpus.in_proportion(fact_type, names, rng):
                if not (name.endswith("s") and not fact.key.endswith("s") and _VERB_OF_ONE.match(case.text, fact.end)):
                    yield one_replacement(fact.start, fact.end, write(name))


_IMPLIES = frozenset({("vomiting", "nausea"), ("penicillin", "amoxicillin"), ("penicillin", "ampicillin")})


def _group(fact_type: str, fact: Fact) -> str:
    known = concepts(fact_type)
    return known[fact.key].group if fact.key in known else "general"


def _is_replaceable(text: str, fact: Fact, group: str) -> bool:
    """Return whether the sentence stays grammatical with another name of the group instead of the fact."""
    if fact.text.lower() in NOT_NOUNS:
        return False
    before, is_plural = text[max(0, fact.start - 30) : fact.start], fact.text.lower().endswith("s")
    if not _READS_ON.match(text, fact.end) or (group.endswith(_PLURAL) and not is_plural):
        return False
    if group.endswith(_COUNTABLE):
        is_plural = is_plural and not fact.key.endswith("s")
        return not is_plural and bool(_OPENS.search(before) or _ARTICLE.search(before))
    return bool(_OPENS.search(before)) and not _VERB_OF_MANY.match(text, fact.end)


_OPENS_ITEM = re.compile(r"(?:^|[.;:\n])\s*(?:\d+[.)])?$|(?:,|and)$")


def _writing(case: Case, fact: Fact) -> Callable[[str], str]:
    """Return how a name is written in place of the fact.

    It is in capitals in a line of capitals, and has a first capital at the start of a sentence or list item.
    """
    if case.in_capitals(fact.start, fact.end):
        return str.upper
    listed = right_before(_OPENS_ITEM, case.text, end_of_words_before(case.text, fact.start))
    opens = fact.text[:1].isupper() and not fact.text.isupper() and listed
    return lambda name: name[:1].upper() + name[1:] if opens else name


def edit_sound_alike(case: Case, rng: random.Random) -> Iterator[Candidate]:
    for fact in shuffled(case.of_type("drug"), rng):
        alike = sound_alikes().get(fact.text.lower()) or sound_alikes().get(fact.key, ())
        others = [name for name in alike if name.lower() not in case.named]
        if _is_replaceable(case.text, fact, "drug"):
            write = _writing(case, fact)
            for name in case.corpus.in_proportion("drug", others, rng):
                yield one_replacement(fact.start, fact.end, write(name))


# ------------------------------------------------------------------------------------------- allergies

_ALLERGENS = ("penicillin", "sulfa", "codeine", "aspirin", "morphine", "amoxicillin", "ibuprofen")
_NO_ALLERGIES = (
    r"\bno known (?:drug |medication |medicine |medical |food )?allergies\b|\bno (?:drug |medication )?allergies\b|"
    r"\bNKDA\b|\bNKA\b"
)


def edit_allergy(case: Case, rng: random.Random) -> Iterator[Candidate]:
    others = [concepts("drug")[form].name for form in case.corpus.uses.get("allergy", ()) if form in concepts("drug")]
    allergens = [name for name in dict.fromkeys([*others, *_ALLERGENS]) if name.lower() not in case.named]
    yield from _allergies_for_none(case, allergens, rng)
    for fact in shuffled(case.of_type("allergy"), rng):
        if (
            fact.key in concepts("drug")
            and not fact.negated
            and right_before(_ALLERGIC_TO, case.text, fact.start)
            and _is_replaceable(case.text, fact, "allergen")
        ):
            others = [name for name in allergens if (fact.key, name.lower()) not in _IMPLIES]
            write = _writing(case, fact)
            for name in case.corpus.in_proportion("allergy", others, rng):
                yield one_replacement(fact.start, fact.end, write(name))
    yield from rewordings(case, rng, _DENIED_ALLERGY)


def _allergies_for_none(case: Case, allergens: Iterable[str], rng: random.Random) -> Iterator[Candidate]:
    """Change "No known drug allergies" to "Allergy to penicillin", "has no allergies" to "has an allergy to ..."."""
    names = list(case.corpus.in_proportion("allergy", allergens, rng))
    for match in re.finditer(rf"(?<!are )(?<!were )(?:{_NO_ALLERGIES})", case.text, re.IGNORECASE):
        article = "an " if right_before(_HAS, case.text, match.start()) else ""
        for name in names:
            yield one_replacement(match.start(), match.end(), capital_like(match[0], f"{article}allergy to {name}"))


_HAS = re.compile(r"\b(?:has|have|had|with) $")
_ALLERGIC_TO = re.compile(r"\ballerg(?:y|ies|ic)\b(?! rhinitis| conjunctivitis| reaction)[^.;\n]{0,60}$", re.IGNORECASE)
_DENIED_ALLERGY = rules(
    (r"\bis allergic to [a-z]+(?=[.;\n]|$)", "has no known drug allergies"),
    (r"\b(?:an )?(?:allergic|allergy|allergies) to [a-z]+(?=[.;\n]|$)", "no known drug allergies"),
    (r"\bis allergic to (?=[a-z]+[.;]|[a-z]+$)", "is not allergic to "),
    (r"\bis not allergic to (?=[a-z]+[.;]|[a-z]+$)", "is allergic to "),
)


# ---------------------------------------------------------------------------------------------- causes


def edit_cause(case: Case, rng: random.Random) -> Iterator[Candidate]:
    """Replace a cause by another condition of the note or the summary."""
    told, known = [*case.note_facts, *case.facts], concepts("condition")
    causes = {(fact.key, fact.value) for fact in told if fact.type == "cause"}
    present = {
        fact.key
        for fact in told
        if fact.type == "condition"
        and fact.key in known
        and not fact.negated
        and not fact.uncertain
        and not fact.family
    }
    keys_of: dict[int, set[str]] = {}  # by sentence
    for fact in case.facts:
        keys_of.setdefault(fact.sentence, set()).add(fact.key)
    for fact in shuffled(case.of_type("cause"), rng):
        if right_before(_ARTICLE, case.text, fact.start):
            continue
        own = set(f"{fact.value} {fact.key}".split())
        others = [
            known[key].name
            for key in sorted(present - keys_of[fact.sentence])
            if not set(key.split()) & own and (fact.key, key) not in causes
        ]
        for name in case.corpus.in_proportion("condition", others, rng):
            yield one_replacement(fact.start, fact.end, cased_like(fact.text, name) if fact.text.isupper() else name)
