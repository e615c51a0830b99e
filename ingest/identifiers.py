"""Patterns of identifiers: of HIPAA's safe-harbour list (45 CFR 164.514(b)(2)), the kinds that have a written form.

Each pattern may mark with the group `id` the part that is replaced; without it, the whole match is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from clinical.text import MONTHS

DATE, PHONE, EMAIL, RECORD, NAME, ADDRESS, AGE = "DATE", "PHONE", "EMAIL", "RECORD", "NAME", "ADDRESS", "AGE"
KINDS = (DATE, PHONE, EMAIL, RECORD, NAME, ADDRESS, AGE)

_DAY, _MONTH_NUMBER = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])"
_YEAR = r"(?:(?:19|20)\d\d)"
_MONTH = rf"(?:{'|'.join(MONTHS)}|(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b\.?)"
_SPOKEN_DAY = (
    r"(?:(?:twenty|thirty)[ -])?(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth"
    r"|thirteenth|fourteenth|fifteenth|sixteenth|seventeenth|eighteenth|nineteenth|twentieth|thirtieth)"
)
_DAY_OF_MONTH = rf"(?:{_DAY}(?:st|nd|rd|th)?|{_SPOKEN_DAY})"
# A month alone is a date where words of time come before it; "may" and "march" are verbs elsewhere.
_BEFORE_A_DATE = (
    r"(?:[Ii]n|[Ss]ince|[Uu]ntil|[Bb]y|[Ff]rom|[Ll]ast|[Nn]ext|[Tt]his|[Ee]arly|[Ll]ate|[Mm]id|[Oo]f|[Dd]uring|[Oo]n)"
)
_CAPITAL = r"[A-ZÀ-ÖØ-Þ]"
_NAME_WORD = (
    rf"(?:(?:Mc|Mac|De|Di|La|Le|Van|O['’]|D['’]){_CAPITAL}[a-zà-öø-ÿ]+|{_CAPITAL}[a-zà-öø-ÿ]+|{_CAPITAL}{{2,}})"
)
_PARTICLE = r"(?:(?:de|la|van|von|der|den|del|di|da|bin|al)[ -])"
# words that begin the next statement rather than continue a name
_NO_NAME = (
    r"(?!(?:The|He|She|They|It|This|That|His|Her|Is|Was|Has|Had|Will|And|Or|With|In|On|At|For|To|No|Not|Patient|Denies"
    r"|Reports|States|Presents|Here|Today|Please|Plan|Follow|Phone|Tel|Fax|MRN|Date|DOB|Address|Doctor|MD|DO|RN|PhD|Dr"
    r"|Mr|Mrs|Ms)\b)"
)
_FULL_NAME = rf"{_PARTICLE}?{_PARTICLE}?{_NO_NAME}{_NAME_WORD}(?:-{_NAME_WORD})?"
_NAMES = rf"{_FULL_NAME}(?:[ ](?:{_CAPITAL}\.(?=[ ]))?[ ]?{_FULL_NAME}){{0,2}}"
_STREET_TYPE = (
    r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Terrace|Ter|Circle|Cir|Parkway"
    r"|Pkwy|Highway|Hwy|Square|Sq|Trail|Trl|Way)\b\.?"
)
_STATE = (
    r"(?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[AT]"
    r"|W[AIVY])"
)
_CITY = rf"{_CAPITAL}[a-z]+(?:[ ]{_CAPITAL}[a-z]+){{0,2}}"
_ZIP = r"\d{5}(?:-\d{4})?"
_NUMBER_WORD = r"(?:number|num|no\.?|nr\.?|id|ID|#)"
_CODE = r"(?=[A-Z-]*\d)[A-Z0-9][A-Z0-9-]{3,}"
_OLD = r"(?:9\d|1[0-2]\d)"
_SPOKEN_OLD = (
    r"(?:ninety(?:[ -](?:one|two|three|four|five|six|seven|eight|nine))?"
    r"|(?:a |one )?hundred(?:(?:[ -]and)?[ -](?:one|two|three|four|five|six|seven|eight|nine|ten))?)"
)

PATTERNS: dict[str, Sequence[str]] = {
    # the look-behind keeps a long run of such characters from being searched again from each of them
    EMAIL: (r"(?<![\w.+-])[.+-]*(?P<id>\w[\w.+-]*@[\w-]+(?:\.[\w-]+)+)\b",),
    DATE: (
        rf"(?<![\d/.-]){_MONTH_NUMBER}(?P<s1>[/.-]){_DAY}(?P=s1)(?:{_YEAR}|\d\d)(?![\d/-]|\.\d)",
        rf"(?<![\d/.-]){_DAY}(?P<s2>[/.-]){_MONTH_NUMBER}(?P=s2)(?:{_YEAR}|\d\d)(?![\d/-]|\.\d)",
        rf"(?<![\d/.-]){_YEAR}(?P<s3>[/.-]){_MONTH_NUMBER}(?P=s3){_DAY}(?!\d)",
        rf"\b(?i:{_MONTH} (?:the )?{_DAY_OF_MONTH})\b(?!\s?(?:mg|mcg|mL|%))(?:,? {_YEAR})?",
        rf"\b(?i:{_DAY_OF_MONTH}(?: day)?(?: of)?[ -]{_MONTH})(?!\w)(?:,?[ -]{_YEAR})?",
        rf"\b(?i:{_MONTH})(?: of)?,? {_YEAR}\b",
        rf"\b{_BEFORE_A_DATE}[ -](?P<id>{_MONTH})(?!\w)",
        rf"\b(?:[Oo]n|[Ss]ince|[Uu]ntil|[Ff]rom|[Dd]ated?:?|DOB:?) (?P<id>{_MONTH_NUMBER}/{_DAY})(?![\d/%]|\.\d| of\b)",
    ),
    RECORD: (
        rf"\b(?i:MRN|medical record)(?:[ ]{_NUMBER_WORD})?(?:[ ](?:is|of))?[ ]?[:#]?[ ]?(?P<id>{_CODE})\b",
        r"\b(?i:account|acct\.?|chart|case|visit|encounter|accession|patient|member|policy|insurance|claim|specimen"
        r"|license|licence|health plan|record|DEA|NPI|serial)"
        rf"[ ]?(?:{_NUMBER_WORD}[ ]?(?:is[ ])?[:#]?|[:#])[ ]?(?P<id>{_CODE})\b",
        r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])",  # social security number
        r"\b(?i:SSN|social security(?: number)?)(?: is)?[:#]?[ ]?(?P<id>\d{9})\b",
    ),
    PHONE: (
        r"(?<![\d-])(?:\+?1[ .-]?)?(?:\(\d{3}\)[ ]?|\d{3}[ .-])\d{3}[ .-]\d{4}"
        r"(?:[ ]?(?:x|ext\.?|extension)[ ]?\d{1,5})?(?!\d)",
        r"(?<!\w)\+\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,5}(?!\d)",
        r"\b(?i:phone|telephone|tel\.?|cell|mobile|fax|pager|beeper|call|callback|ext\.?|extension)"
        r"(?:[ ](?:number|no\.?|is|at|me|us|her|him)){0,3}[ ]?[:#]?[ ]?"
        r"(?P<id>\d{10}|\d{3}[ .-]\d{4}|\d{4,6})(?![\d-])",
    ),
    ADDRESS: (
        rf"\b\d{{1,5}}[ ](?:[NSEW]\.?[ ])?(?:(?:\d+(?:st|nd|rd|th)|{_CAPITAL}[a-z]+)[ ]){{1,3}}{_STREET_TYPE}"
        rf"(?:,?[ ](?:Apt|Apartment|Suite|Ste|Unit|#)\.?[ ]?#?[ ]?\w+)?(?:,[ ]{_CITY})?"
        rf"(?:,?[ ]{_STATE})?(?:,?[ ]{_ZIP})?",
        rf"\b(?i:P\.?[ ]?O\.?[ ]Box)[ ]\d+(?:,[ ]{_CITY})?(?:,?[ ]{_STATE})?(?:,?[ ]{_ZIP})?",
        rf"\b{_CITY},[ ]{_STATE}(?:,?[ ]{_ZIP})\b",
        rf"\b(?i:zip(?: ?code)?)(?: is)?:?[ ](?P<id>{_ZIP})\b",
    ),
    NAME: (
        rf"\b(?:Dr|Mr|Mrs|Ms|Prof)\b\.?[ ](?P<id>{_NAMES})",
        rf"\b(?:DR|MR|MRS)\b\.?[ ](?P<id>{_CAPITAL}{{2,}}(?:[ ]{_CAPITAL}{{2,}})?)\b",
        rf"\b(?:Doctor|Miss|Professor|Mister|Nurse)[ ](?P<id>{_NO_NAME}(?!Practitioner|Manager){_CAPITAL}[a-z]+)\b",
        rf"\b(?i:(?:patient(?:['’]s)?|full|last|first|sur) ?name|name of patient|dictated by|signed by|referred by)"
        rf"(?: is)?:?[ ](?P<id>{_NAMES})",
        rf"\b(?P<id>{_NAME_WORD}[ ](?:{_CAPITAL}\.[ ])?{_NAME_WORD}),[ ](?:M\.?D|D\.?O|R\.?N|Ph\.?D|N\.?P|P\.?A)\b",
    ),
    AGE: (
        rf"\b(?P<id>{_OLD})(?=[ -]?(?:years?|yrs?|y)[ -]?(?:/o|o\b|old|of age))",
        rf"\b(?i:aged?|age of|age is|age:)[ ](?P<id>{_OLD})\b(?![.%/]\d)",
        rf"\b(?i:(?P<id>{_SPOKEN_OLD})(?=[ -]years?[ -](?:old|of age)))",
        r"\b(?i:(?:in|into) (?:his|her|their|the) (?:mid |early |late |mid-|early-|late-)?)(?P<id>90['’]?s|nineties)\b",
    ),
}
COMPILED = {kind: [re.compile(pattern) for pattern in patterns] for kind, patterns in PATTERNS.items()}
YEAR_IN_DATE = re.compile(rf"(?<!\d){_YEAR}(?!\d)")
