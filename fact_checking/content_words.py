"""Find the words of a summary in a note: the same word, its family ("surgery", "surgical"), spelling or meaning."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property, lru_cache
from typing import Any

from clinical.plain_form import plain_form

_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|['’](?=[^\W\d_]))+")
_HEADING = re.compile(r"(?:^|(?<=[.;:]))[ \t]*[A-Z][\w/&-]*(?: [A-Za-z][\w/&-]*){0,3}:", re.MULTILINE)
# letters; in shorter words one missing letter makes another word, and a replaced letter is accepted from 10 on
_SHORTEST_MISSPELT, _SHORTEST_REPLACED = 6, 10
_POSSESSIVE = re.compile(r"['’]s$")
_LONGEST = 40  # letters; a longer string is not a word
_SHORTEST_ROOT = 4
# function words, and words that any clinical summary may use
_STOP_WORDS = frozenset(
    """a about above after again against all along also although am an and another any anything are around as at be
    because been before being below between both but by can cannot could did do does doing done down during each
    either else etc even ever every few fairly far for from further had has have having he her here hers herself him
    himself his how however i if in into is it its itself just least less lot many may me might mine more moreover
    most mostly much must my myself near nearly neither never no non nor not nothing now of off often on once one
    only onto or other others otherwise our out over own per perhaps please plus quite rather re really same several
    shall she should since so some somewhat soon still such than that the their them then there therefore these they
    thing things this those though through throughout thus to together too two under unless until up upon us usually
    very via was we well were what when whenever where whereas whether which while who whom whose why will with
    within without would yes yet you your yours zero three four five six seven eight nine ten eleven twelve twenty
    thirty forty fifty sixty seventy eighty ninety hundred thousand half first second third actually additionally
    almost apparently approximately basically currently essentially especially finally formerly generally initially
    instead likely mainly maybe namely occasionally originally particularly possibly presently previously primarily
    probably recently regarding relatively reportedly respectively similar similarly subsequently typically
    ultimately unfortunately patient patients pt client presents presented presenting presentation present reports
    reported reporting report states stated stating state complains complained complaining complaint complaints
    complain denies denied denying deny notes noted noting notable note significant significantly history diagnosed
    diagnosis suspected suspicion possible confirmed treated treatment started began begins taking takes taken take
    medication medications current follow followed following follows followup plan review reviewed includes
    including include included associated related according consistent concerning evidence known unknown year years
    old age aged ages month months week weeks day days hour hours minute minutes time times daily mr mrs ms miss dr
    doctor md admits endorses negative positive recent today yesterday ago past prior previous last next describes
    described mentions mentioned revealed reveals shows showed show found finding findings exam examination examined
    good come comes came coming brought seen see seems seem appears appeared felt feels feel feeling underwent
    undergo undergone performed received receives given give gives got get gets getting obtained went going go goes
    due secondary status symptoms symptom problem problems issues issue condition conditions use uses used using
    usage multiple various none male female man woman gentleman lady says said say told tells asked answered
    discussed discusses explained indicates indicated believes believe thinks thought experiencing experienced
    experiences experience continues continued continue continuing developed develops noticed notices remains
    remained returns returned return returning becomes become became sustained occurred occurs occur happened
    referred evaluated evaluation evaluate recommended advised instructed planned total type types nature degree
    area region aspect level amount period course onset duration episode episodes point reason terms factors fact
    details bit little couple able unable try trying tried help helps additional addition overall general regular
    full complete date available systems system chart medical
    placed except members later post""".split()
)
# each line: words with the same meaning; with a colon, any word after it means the words before it
_SAME_MEANING = """
mother mom mommy momma mum
father dad daddy
grandmother grandma
grandfather grandpa
maternal: mother mom
paternal: father dad
parents: mother father mom dad
siblings: brother brothers sister sisters
child children kid kids: son daughter baby
spouse married: husband wife
alone: nobody
physician doctor clinician practitioner
drug drugs medication medications medicine medicines meds pill pills
allergy allergies allergic intolerance intolerances
surgery operation operated surgical procedure
hospital hospitalized admitted: hospital hospitalized admitted er emergency
emergency er
clinic office practice
died passed deceased dead death
home house
elevated high higher raised increased: elevated high higher raised increased up
decreased low lower reduced: decreased low lower reduced down lost
worse worsened worsening worsens exacerbated aggravated
improved improving improvement improves better
resolved: gone away
relief relieve relieved relieves alleviated: relief relieve relieved alleviated better helps help
discontinued stopped quit stop
visual vision seeing sight: vision see seeing sight eyes
hearing auditory: hear ears hearing
abdomen abdominal belly stomach tummy gastric
cardiac heart
renal kidney kidneys
hepatic liver
pulmonary lung lungs
respiratory: breath breathing lungs
dyspnea: breath breathing
urinary urine urinate urinating urination pee peeing
bowel bowels stool stools poop
menses menstrual period periods menstruation
extremity extremities limb: leg legs arm arms hand hands foot feet
upper: arm arms hand hands
lower: leg legs foot feet
skin dermatologic
psychiatric psychological: mental psychiatrist psychologist
tobacco smoke smoker smoking cigarette cigarettes
nonsmoker: smoke smoking smoked cigarettes tobacco
alcohol drink drinks drinking drinker ethanol etoh
alcohol: beer wine liquor
nondrinker: drink drinking drinks alcohol
illicit recreational street
injury injured hurt
painful pain hurts hurting sore ache
tender tenderness sore
nauseous nauseated nausea
emesis vomit vomiting throwing threw
fatigue tired exhausted
chronic: longstanding ongoing years
severe: bad badly terrible worst intense
mild: slight slightly little
intermittent intermittently occasional: sometimes occasionally occasional
frequent frequently often
difficulty difficult hard trouble: difficulty difficult hard trouble cannot can't
ambulate ambulation ambulating walk walking walks
gait: walk walking
employed employment: works working job work
unemployed occupation: work job
pregnancy pregnant
delivery: delivered born birth
infant baby newborn
bilateral bilaterally: both
oral orally: mouth
injection shot injected
physical: checkup
normal: fine okay ok
weakness weak
numbness numb
swelling swollen edema
sleep asleep sleeping slept
appetite: eat eating
obese obesity overweight
"""
# endings within a family of words; endings that make another clinical term (-itis, -ectomy) are not among them
_ENDINGS = tuple(
    """s es ed d ing e y ies ied ic ical ically al ally ly er ers or ors ist ists ion ions ation ations ition ive ment
    ments ness ity ous able ible ance ence ant ent ary ery ory eon eons ia ian ician ure ures""".split()
)


@lru_cache(maxsize=1)
def _stemmer() -> Any:
    # imported here because nltk loads scikit-learn and pandas, which takes a second that `--help` must not take
    from nltk.stem.porter import PorterStemmer  # type: ignore[import-untyped]

    return PorterStemmer()


@lru_cache(maxsize=50_000)
def _stem(word: str) -> str:
    stem: str = _stemmer().stem(word)
    return stem


def content_words(text: str) -> list[tuple[int, str]]:
    """Return (start, word) of each content word, as written. Headings ("GI:") have no content."""
    text = _HEADING.sub(lambda match: " " * len(match[0]), text)
    return [(start, word) for start, word in _words(text) if word.lower() not in _STOP_WORDS]


def is_content_word(word: str) -> bool:
    """Return whether a word in lower case has content, as `content_words` decides."""
    return word not in _STOP_WORDS and len(word) > 1


def _words(text: str) -> Iterator[tuple[int, str]]:
    for match in _WORD.finditer(text):
        yield match.start(), _POSSESSIVE.sub("", match[0])


@lru_cache(maxsize=50_000)
def family(word: str) -> frozenset[str]:
    """Return the word, its stem, and the word without each of the endings."""
    if len(word) > _LONGEST:
        return frozenset([word])
    roots = {word.removesuffix(ending) for ending in _ENDINGS if len(word) - len(ending) >= _SHORTEST_ROOT}
    return frozenset({word, _stem(word), *roots})


@lru_cache(maxsize=1)
def _meanings() -> dict[str, frozenset[str]]:
    """Return {stem: stems of the other words with this meaning}."""
    meanings: dict[str, set[str]] = {}
    for line in _SAME_MEANING.strip().splitlines():
        words, _, others = line.partition(":")
        synonyms = set(map(_stem, (others or words).split()))
        for stem in map(_stem, words.split()):
            meanings.setdefault(stem, set()).update(synonyms - {stem})
    return {stem: frozenset(others) for stem, others in meanings.items()}


def _spellings(word: str) -> Iterator[str]:
    """Yield the keys that near spellings of a word share: the word, and the word without one letter.

    The first letter is kept, or "symptomatic" would match "asymptomatic".
    """
    if _SHORTEST_MISSPELT <= len(word) <= _LONGEST:
        yield word
        yield from (word[:i] + word[i + 1 :] for i in range(1, len(word)))


class WordSupport:
    """The words of one note."""

    def __init__(self, note: str) -> None:
        self._words = {word.lower() for text in (note, plain_form(note).text) for _, word in _words(text)}
        self._stems = {_stem(word) for word in self._words}
        self._content = self._words - _STOP_WORDS

    def has(self, word: str) -> bool:
        """Return whether the note has the word, a word of its family or a near spelling."""
        word = word.lower()
        return (
            word in self._words
            or not self._roots.isdisjoint(family(word))
            or (len(word) >= _SHORTEST_MISSPELT and self._is_misspelt(word))
        )

    def means(self, word: str) -> bool:
        """Return whether the note has the word or a word with the same meaning."""
        return self.has(word) or not self._stems.isdisjoint(_meanings().get(_stem(word.lower()), ()))

    def completes(self, fragment: str) -> bool:
        """Return whether a word of the note begins with `fragment`, the last word of a summary that was cut off."""
        return any(word.startswith(fragment.lower()) for word in self._words)

    def _is_misspelt(self, word: str) -> bool:
        if word in self._misspellings:
            return True
        shorter = set(_spellings(word)) - {word}
        return not shorter.isdisjoint(self._words) or (
            len(word) >= _SHORTEST_REPLACED and not shorter.isdisjoint(self._misspellings)
        )

    @cached_property
    def _roots(self) -> set[str]:
        return {root for word in self._content for root in family(word)}

    @cached_property
    def _misspellings(self) -> set[str]:
        return {spelling for word in self._words for spelling in _spellings(word)}
