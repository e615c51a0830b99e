"""Find the body systems that a conversation mentions, and the body systems of a finding.

A clinician's summary may name a finding that the patient described in other words: "threw up after every meal" becomes
reflux disease. Such a finding is plausible only if the conversation mentions its body system.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from clinical.values import Fact, ignoring_case

_SYSTEMS: tuple[tuple[str, str, str], ...] = (  # name, pattern for conversations, pattern for lexicon groups
    (
        "heart and vessels",
        "heart|cardi|chest|pulse|rhythm|blood pressure|pacemaker|circulation|vein|arter|clot|cholesterol|stroke|bypass",
        "heart|cardi|angina|arrhythm|arter|venous|vein|ischemic|lipid|blood pressure|shock|clotting|vascul",
    ),
    (
        "lungs",
        "lung|breath|cough|wheez|chest|oxygen|sputum|phlegm|inhal|asthma|pneumon|respirat|smok",
        "lung|respirat|pneumonia|obstructive|restrictive|sleep|airway|oxygen|breathing",
    ),
    (
        "head and neck",
        "nose|nasal|sinus|throat|ears?\\b|hear(?:ing|d|s)?\\b|mouth|tooth|teeth|tongue|congest|cold|swallow|tonsil|voice|neck|face|snor",
        "nose|throat|ear |mouth|upper respiratory|neck|hearing|sleep",
    ),
    (
        "digestion",
        "stomach|belly|abdom|tummy|bowel|stool|vomit|throw|threw|nause|heartburn|reflux|acid|diarrh|constipat|swallow|"
        "gastr|liver|gall|pancrea|eat|appetite|colon|rect|digest|yellow|weight",
        "stomach|bowel|esophag|gallbladder|digestive|abdom|anorectal|gastro|liver|hernia|eating|appetite|jaundice",
    ),
    (
        "urinary tract and male organs",
        "urin|pee|bladder|kidney|prostat|renal|creatinine|dialysis|void|flank|stone|testic|penis|scrot|libido|bathroom",
        "urin|kidney|glomerular|renal|bladder|male|stone",
    ),
    (
        "female organs and birth",
        "period|menstru|pregnan|vagin|ovar|uter|cervi|pap\\b|birth|born|deliver|bab|breast|menopaus|sex|cycle",
        "gynecolog|ovarian|uterine|pregnan|labor|reproductive|vaginal|breast|neonatal|sexual|female|delivery|hormon",
    ),
    (
        "nerves",
        "head|brain|seizure|stroke|numb|tingl|weak|memory|dizz|balanc|walk|nerve|neuro|conscious|faint|passed out|"
        "confus|trem|shak|speech|talk|spin|gait|droop|tired|sleep",
        "headache|conscious|seizure|stroke|intracranial|brain|dementia|movement|demyel|nerve|spin|disc|nervous|gait|"
        "weak",
    ),
    (
        "mind and habits",
        "mood|depress|anx|sad|stress|sleep|suicid|psych|mental|panic|worr|drug|alcohol|drink|smok|substance|cigar",
        "mood|stress|anxiety|psychotic|personality|somatic|development|addiction|drug|substance|intoxic|suicid|mental|sleep",
    ),
    (
        "glands and metabolism",
        "thyroid|sugar|diabet|insulin|glucose|hormon|weight|a1c|calcium|vitamin|osteo|iron|diet|cholesterol|electrolyt",
        "thyroid|diabet|adrenal|parathyroid|bone mineral|electrolyte|nutrition|metabolic|lipid|weight|hormon|risk",
    ),
    (
        "blood",
        "blood|anemi|iron|bleed|bruis|platelet|clot|transfus|hemoglobin",
        "blood|anemia|platelet|lymphoma|bleeding",
    ),
    (
        "bones and joints",
        "bone|joint|knee|hips?\\b|shoulder|ankle|wrist|hand|foot|feet|arms?\\b|legs?\\b|finger|toe|elbow|back\\b|neck|arthr|"
        "fractur|broke|muscle|swell|fell|fall|injur|tendon|accident|crash|spine|ribs?\\b",
        "fracture|sprain|tear|dislocation|tendon|knee|foot|arthritis|joint|connective|spin|disc|muscle|injury|limb|orthop|"
        "arm|leg",
    ),
    (
        "skin",
        "skin|rash|itch|spot|mole|lesion|wound|cut|burn|sore|ulcer|scar|hives|bump|scratch|bite|bitten|sting|stung|swell|splinter",
        "skin|wound|rash|blister|fungal|infest",
    ),
    ("eyes", "eye|vision|seeing\\b|sight|blur|glasses", "eye|retinal|refractive"),
    (
        "infection and immunity",
        "infect|fever|antibiot|virus|bacteri|hiv|h i v|flu\\b|sick|culture|immun|allerg|pneumon|septic",
        "infection|sexually|tropical|tick|zoonosis|immun|systemic|parasit",
    ),
    (
        "growths",
        "cancer|tumor|mass(?:es)?\\b|lump|chemo|radiat|oncolog|growth|biops|malign|polyp|spot",
        "cancer|tumor|mass|growth",
    ),
)
_SPOKEN = tuple((name, ignoring_case(rf"\b(?:{words})")) for name, words, _ in _SYSTEMS)
_GROUPS = tuple((name, re.compile(rf"\b(?:{words})")) for name, _, words in _SYSTEMS)


def topic_facts(text: str) -> Iterator[Fact]:
    """Yield one fact of type `topic` for each body system that a conversation mentions, at the first mention."""
    for name, pattern in _SPOKEN:
        if match := pattern.search(text):
            yield Fact("topic", match.start(), match.end(), "", "", name, spoken=True)


@lru_cache(maxsize=1000)
def systems_of(group: str) -> frozenset[str]:
    """Return the body systems of a lexicon group, empty if the group's name does not show any."""
    return frozenset(name for name, pattern in _GROUPS if pattern.search(group))
