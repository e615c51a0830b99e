"""Whether a note has the words of a summary: by stem, by spelling, or as the usual short or long form."""

from __future__ import annotations

import re
from functools import lru_cache

from nltk.stem.porter import PorterStemmer  # type: ignore[import-untyped]
from rapidfuzz import fuzz, process

_WORD = re.compile(r"[A-Za-z][A-Za-z'’]*[A-Za-z]")
# percentage of likeness of two spellings: "hemorrhoid" and "haemorrhoid" have it, "hypertension", "hypotension" not
_MIN_SIMILARITY = 92
_SHORTEST_FUZZY = 6  # letters; below it one letter makes another word
# function words, and the verbs and nouns with which any clinical summary is built
_STOP_WORDS = frozenset(
    """a about above after again against all also although an and any are as at be because been before being below
    between both but by can could did do does doing down during each either else ever every few for from further
    had has have having he her here hers herself him himself his how however i if in into is it its itself just
    may me might more most much must my myself neither nor not now of off on once one only or other our out over
    own per please she should since so some still such than that the their them then there these they this those
    through to too two under until up upon very via was we were what when where whether which while who whom whose
    why will with within without would yes you your
    patient patients pt presents presented presenting presentation reports reported reporting states stated stating
    complains complained complaint complaints denies denied denying notes noted notable significant history
    diagnosed diagnosis suspected suspicion likely possible confirmed treated treatment started taking takes taken
    take medication medications current currently follow followup up plan review includes including include
    associated evidence known year years old month months week weeks day days hour hours time times daily mr mrs
    ms dr doctor admits endorses negative positive recently recent today ago past prior previous previously
    describes described mentions mentioned revealed shows showed findings exam examination well good come came
    underwent performed given got get getting seen went going go due secondary status symptoms symptom problem
    problems issues issue use uses used using multiple several various otherwise none unremarkable noncontributory
    male female man woman gentleman lady apparently approximately around""".split()
)
_stem = lru_cache(maxsize=50_000)(PorterStemmer().stem)


def content_words(text: str) -> list[tuple[int, str]]:
    """(start, word) of each word that carries content, as it is written."""
    return [(match.start(), match[0]) for match in _WORD.finditer(text) if match[0].lower() not in _STOP_WORDS]


class WordSupport:
    """The words of one note."""

    def __init__(self, note: str) -> None:
        words = {match[0].lower() for match in _WORD.finditer(note)}
        self._stems = {_stem(word) for word in words}
        self._long_words = sorted(word for word in words if len(word) >= _SHORTEST_FUZZY)

    def has(self, word: str) -> bool:
        """The word itself, its stem, or a near spelling of it stands in the note."""
        word = word.lower()
        if _stem(word) in self._stems:
            return True
        if len(word) < _SHORTEST_FUZZY:
            return False
        return process.extractOne(word, self._long_words, scorer=fuzz.ratio, score_cutoff=_MIN_SIMILARITY) is not None
