"""Find summaries with something that could be made wrong, by simple patterns that the generator does not use.

A summary that matches a pattern should yield a negative. The lists are short on purpose and independent of the
lexicons and the parser, so they show what lexicons and parser miss.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.stats import wilson_interval

_DRUGS = (
    "aspirin tylenol acetaminophen ibuprofen advil motrin naproxen aleve lisinopril metformin insulin lantus "
    "coumadin warfarin plavix lasix furosemide prednisone albuterol advair singulair synthroid levothyroxine "
    "zoloft prozac lexapro xanax ativan ambien neurontin gabapentin lyrica percocet vicodin oxycodone hydrocodone "
    "morphine codeine tramadol ultram flexeril lipitor zocor crestor norvasc amlodipine digoxin nexium prilosec "
    "protonix zantac pepcid benadryl claritin zyrtec allegra bactrim keflex zithromax levaquin cipro flagyl "
    "nitroglycerin heparin lovenox potassium iron calcium multivitamin methotrexate humira celebrex fosamax "
    "toradol zofran"
).split()
_DRUG_ENDINGS = (
    "pril olol statin cillin sartan azole mycin floxacin cycline prazole dipine oxetine azepam zosin".split()
)
_DIAGNOSES = (
    "hypertension diabetes asthma copd cancer stroke seizure seizures gout obesity depression anxiety pneumonia "
    "gerd reflux ulcer hepatitis fracture hernia infection angina infarction tuberculosis migraine migraines "
    "cataract cataracts glaucoma psoriasis eczema sinusitis dementia alzheimer's parkinson's epilepsy "
    "osteoporosis scoliosis stenosis fibrillation cad chf dvt uti hiv aids embolism thrombosis neuropathy "
    "hypothyroidism hyperlipidemia hypercholesterolemia cirrhosis pancreatitis appendicitis diverticulosis "
    "hemorrhoids allergies croup mumps measles chickenpox bipolar schizophrenia tumor mass cyst abscess "
    "cellulitis"
).split()
_DIAGNOSIS_ENDINGS = "itis osis oma emia opathy iasis plegia".split()
_NUMBER = r"(?<![\w.])\d+(?:[.,]\d+)?"


def _words(names: Sequence[str], endings: Sequence[str]) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, names))}|[a-z]{{3,}}(?:{'|'.join(endings)}))\b", re.IGNORECASE)


TRIGGERS: dict[str, re.Pattern[str]] = {
    "dose": re.compile(rf"{_NUMBER}[ -]?(?:mg|mcg|µg|g|grams?|milligrams?|ml|cc|units?|meq|tablets?|puffs?)\b", re.I),
    "number with unit": re.compile(
        rf"{_NUMBER}\s?-?(?:%|°|/\d+|(?:mmhg|bpm|kg|lbs?|pounds?|cm|mm|inches|feet|degrees|mg/dl|g/dl|liters?|percent|"
        r"packs?|years?[ -]old|yo|y/o)\b)",
        re.I,
    ),
    # a word must follow: "None." and "Negative." alone answer a question of the note and name nothing to make wrong
    "negation": re.compile(r"\b(?:no|not|denies|denied|denying|without|negative for|never) [a-z]", re.I),
    "side": re.compile(r"\b(?:left|right|bilateral|bilaterally)\b", re.I),
    "duration": re.compile(
        r"\b(?:\d+|one|two|three|four|five|six|seven|eight|nine|ten|several|few|couple of)[ -]+"
        r"(?:minutes?|hours?|days?|weeks?|months?|years?)\b(?![ -]old)",
        re.I,
    ),
    "drug": _words(_DRUGS, _DRUG_ENDINGS),
    "diagnosis": _words(_DIAGNOSES, _DIAGNOSIS_ENDINGS),
}


@dataclass(frozen=True)
class Summary:
    """A factual summary of Phase 1; `key` is (split, id)."""

    key: tuple[str, str]
    text: str


def triggers_of(text: str) -> frozenset[str]:
    """Return the names of the patterns that match."""
    return frozenset(name for name, pattern in TRIGGERS.items() if pattern.search(text))


def measure(
    summaries: Sequence[Summary], with_negative: Collection[tuple[str, str]], unsound: Collection[tuple[str, str]]
) -> dict[str, Any]:
    """Return the share of summaries with a trigger that yield a negative: of all, of sound ones, and by trigger."""
    fired = {summary.key: triggers_of(summary.text) for summary in summaries}
    keys = [key for key, names in fired.items() if names]
    by_trigger = {
        name: _rates([key for key in keys if name in fired[key]], with_negative, unsound) for name in TRIGGERS
    }
    return {
        "factual_summaries": len(summaries),
        "with_trigger": _rates(keys, with_negative, unsound),
        "by_trigger": by_trigger,
        "without_trigger": _rates([key for key, names in fired.items() if not names], with_negative, unsound),
    }


def _rates(
    keys: Sequence[tuple[str, str]], with_negative: Collection[tuple[str, str]], unsound: Collection[tuple[str, str]]
) -> dict[str, Any]:
    sound = [key for key in keys if key not in unsound]
    return {"all": _rate(keys, with_negative), "sound": _rate(sound, with_negative)}


def _rate(keys: Sequence[tuple[str, str]], with_negative: Collection[tuple[str, str]]) -> dict[str, Any]:
    count = sum(key in with_negative for key in keys)
    low, high = wilson_interval(count, len(keys))
    share = round(count / len(keys), 4) if keys else None
    return {"n": len(keys), "with_negative": count, "share": share, "ci95": [round(low, 4), round(high, 4)]}


def report(figures: Mapping[str, Any]) -> list[str]:
    """Return the lines to print."""
    rows = {"any trigger": figures["with_trigger"], **figures["by_trigger"], "no trigger": figures["without_trigger"]}
    lines = [f"Yield: of {figures['factual_summaries']} factual summaries, those that yield a negative"]
    return lines + [f"  {name:18} {_text(row['all'])}   sound only {_text(row['sound'])}" for name, row in rows.items()]


def _text(rate: Mapping[str, Any]) -> str:
    if not rate["n"]:
        return "none"
    return f"{rate['with_negative']:5} of {rate['n']:5} = {rate['share']:6.1%}"
