"""Expand abbreviations by the table `lexicons/abbreviations.csv` and the words around them.

"RA" after a percentage is room air, elsewhere rheumatoid arthritis. An abbreviation whose meaning the text does not
settle is left as it is, and `possible_meanings` returns all of its meanings.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import lru_cache

from clinical.lexicons import Abbreviation, abbreviations, concepts, on_change, phrase_table
from clinical.text import Rewrite, lower_case

_TOKEN = re.compile(r"(?<![\w/&])(?:[A-Za-z]|\d(?=[A-Za-z/]))[\w/&+'’]*(?:[.-][\w/&+]+)*")
_PART = re.compile(r"[^/\-+&]+")
_REACH = 24  # characters before and after an abbreviation that can settle its meaning
_UNIT = r"(?:mg|mcg|[µμ]g|g|ml|l|units?|meq|mmol)"
PARTS_OF_BODY = (
    "abdomen|abdominal|achilles|acl|ankle|ant|anterior|arm|armpit|arms|axilla|axillary|back|basal|base|bases|basilar|"
    "big toe|biceps|breast|buttock|calf|carotid|cheek|chest|common|distal|ear|ears|elbow|eye|eyes|face|facial|femoral|"
    "femur|fibula|finger|fingers|flank|foot|forearm|frontal|great toe|groin|hand|heel|hemi|hemiparesis|hip|humerus|"
    "index|inguinal|internal|jaw|kidney|knee|knees|lateral|leg|legs|lower|lung|lobe|mca|medial|middle|mid|neck|nostril|"
    "occipital|otitis|ovary|ovarian|parietal|parotid|patella|pelvis|pinky|pleural|post|posterior|proximal|radius|"
    "renal|rib|ribs|rotator|scapula|shin|shoulder|sided|side|sfa|tm|subclavian|temporal|testicle|testis|thigh|thumb|"
    "tibia|toe|tonsil|ulna|upper|ventricle|ventricular|vocal|wrist|aom|hydronephrosis|pneumothorax|weakness|sided|"
    "ij|dvt|hemisphere|optic|retina|thr|tkr|thyroid|adrenal|maxillary|mandibular|molar|nasal|ureter|ureteral|cva"
)
_CLASSES = {
    "<percent>": r"\d[\d.]*\s?%",
    "<number>": r"[<>≤≥~=:]?\s?\d[\d.,/]*",
    "<dose>": rf"\d[\d.,]*\s?{_UNIT}\b",
    "<degree>": r"(?:mild|moderate|severe|trace|critical|mod|minimal|significant|[1-4]\+|mild-mod|mild-to-moderate)",
    "<body part>": rf"(?:{PARTS_OF_BODY})\b",
    "<acuity>": r"20/\d+|6/\d+|cf\b|hm\b|lp\b",
    "<age>": r"\d{1,3}[ -]?(?:y|yo|y/o|year|years|yrs?)(?:[ -]old)?",
}


def abbreviation_rewrites(text: str) -> Iterator[Rewrite]:
    """Yield the expansion of each abbreviation that has one meaning where it is."""
    for start, end, meanings in _abbreviations_in(text):
        is_written_out = lower_case(text[start : start + len(meanings[0])]) == meanings[0].lower()  # "COVID-19"
        if len(meanings) == 1 and not is_written_out:
            yield start, end, meanings[0]


def possible_meanings(text: str) -> list[tuple[int, int, tuple[str, ...]]]:
    """Return (start, end, expansions) of each abbreviation whose meaning the text does not settle."""
    return [found for found in _abbreviations_in(text) if len(found[2]) > 1]


def _abbreviations_in(text: str) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    table = abbreviations()
    for match in _TOKEN.finditer(text):
        word = match[0].lower()
        if word in table and _is_in_a_name(text, match):
            continue
        if found := _meanings(text, match.start(), match.end(), table.get(word, ())):
            yield match.start(), match.end(), found
            continue
        if drug := _clipped_drug(word, text, match.end()):
            yield match.start(), match.end(), (drug,)
            continue
        for part in _PART.finditer(match[0]) if len(match[0]) > 1 else ():  # "HTN/DM2", "post-MI"
            start, end = match.start() + part.start(), match.start() + part.end()
            if part[0] != match[0] and (found := _meanings(text, start, end, table.get(part[0].lower(), ()))):
                yield start, end, found


_LEAST_CLIPPED, _LEAST_CUT = 5, 2  # letters that a clipped name has, and lacks, at least
_LEAST_DOSED = 4  # letters that it has at least if a dose follows ("biso 2.5")
_BEFORE_DOSE = re.compile(r" ?\d")
# words that begin as a drug does, or whose own beginning is meant: "creat 311" is creatinine, not creatine
_NOT_CLIPPED = frozenset(
    "bend clot code coli defer done drop fine form line rise tape test mini perm zone vera".split()
)
_OTHERS_CLIPPED = (
    "albumin beta bicarbonate cholecystectomy cholecystitis cholesterol creatinine d-dimer dimer fever finger glucose "
    "glycosylated immunology lactate levels nitrogen parity statin stimulating sugars troponin vitamin"
).split()


def _clipped_drug(word: str, text: str, end: int) -> str | None:
    """Return the only drug whose name begins so: "amlod", "clonaz"; None if there is none, or several."""
    least = _LEAST_DOSED if _BEFORE_DOSE.match(text, end) else _LEAST_CLIPPED
    return _only_drug(word) if len(word) >= least else None


@lru_cache(maxsize=4096)
def _only_drug(beginning: str) -> str | None:
    phrases = phrase_table()[0]
    if (beginning,) in phrases or (beginning.removesuffix("s"),) in phrases or beginning in _NOT_CLIPPED:
        return None
    if any(other.startswith(beginning) for other in _OTHERS_CLIPPED):
        return None
    names, first = _drug_names(), bisect_left(_drug_names(), beginning)
    found = [name for name in names[first : first + 2] if name.startswith(beginning)]
    return found[0] if len(found) == 1 and len(found[0]) >= len(beginning) + _LEAST_CUT else None


@lru_cache(maxsize=1)
def _drug_names() -> list[str]:
    """Return the generic names of one word, sorted."""
    return sorted(name for name in concepts("drug") if name.isalpha())


on_change(_only_drug.cache_clear)
on_change(_drug_names.cache_clear)


_WORD_BEFORE, _WORD_AFTER = re.compile(r"([A-Za-z]+)[ -]$"), re.compile(r"[ -]([A-Za-z]+)")


def _is_in_a_name(text: str, match: re.Match[str]) -> bool:
    """Return whether the lexicon has a name of two words that holds the abbreviation here: "insulin NPH"."""
    phrases, word = phrase_table()[0], match[0].lower()
    before = _WORD_BEFORE.search(text, max(0, match.start() - _REACH), match.start())
    after = _WORD_AFTER.match(text, match.end())
    return bool(before and (before[1].lower(), word) in phrases) or bool(after and (word, after[1].lower()) in phrases)


def _meanings(text: str, start: int, end: int, rows: Sequence[Abbreviation]) -> tuple[str, ...]:
    """Return the expansions that fit: of the rows whose context is there, else of all rows without a context."""
    fitting = [row for row in rows if not row.exact or text[start:end] == row.written]
    in_context = [row for row in fitting if (row.before or row.after) and _has_context(text, start, end, row)]
    chosen = in_context[:1] or [row for row in fitting if not (row.before or row.after)]
    return tuple(dict.fromkeys(row.expansion for row in chosen))


def _has_context(text: str, start: int, end: int, row: Abbreviation) -> bool:
    """Return whether one of the words before and one of the words after, where the row names any, are there."""
    if row.before:
        line_before = text[max(0, start - _REACH) : start]
        if not any(_follows(context, line_before) for context in row.before):
            return False
    return not row.after or any(_precedes(context, text, start, end) for context in row.after)


def _follows(context: str, before: str) -> bool:
    return re.search(rf"(?:^|(?<!\w)){_pattern(context)}[\s,:(-]{{0,2}}$", before, re.IGNORECASE) is not None


def _precedes(context: str, text: str, start: int, end: int) -> bool:
    if context == "<eye note>":
        return _has_eyes(text)
    if context == "<heading>":
        line = text[text.rfind("\n", 0, start) + 1 : start]
        opens = not line.strip(" \t-*#•") or line.rstrip().endswith((".", ";"))
        return opens and text[end : end + 1] == ":"
    return re.match(rf"[\s(-]{{0,2}}{_pattern(context)}(?!\w)", text[end : end + 2 * _REACH], re.IGNORECASE) is not None


_EYES = re.compile(
    r"(?<!\w)(?:VA|BCVA|UCVA|UVA|IOPs?|OS|OU|POAG|AMD|CRAO|CRVO|BRVO|phaco|IOL|RAPD|eyes?|eyelids?|vision|visual|cataracts?|"
    r"glaucoma|uveitis|iritis|conjunctiva\w*|cornea\w*|retina\w*|macula\w*|optic|fundus|ophth\w*|intravitreal)(?!\w)"
)


@lru_cache(maxsize=64)
def _has_eyes(text: str) -> bool:
    """Return whether a note is about the eyes, where OD, OS, RE and LE are sides."""
    return _EYES.search(text) is not None


@lru_cache(maxsize=4096)
def _pattern(context: str) -> str:
    """Return the pattern of a context; `<drug>` and other unknown classes never match."""
    if context.startswith("<"):
        return f"(?:{_CLASSES.get(context, '(?!)')})"
    return re.escape(context)


on_change(_pattern.cache_clear)
