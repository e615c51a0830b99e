"""Whatever the texts are, the checker answers, its spans lie in the summary, and a copied sentence is no error."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from clinical.facts import sentences
from demo.cases import make_cases
from fact_checking.checker import check_summary, coverage
from fact_checking.claims import FactCheck

quick = settings(deadline=None, max_examples=150, database=None, suppress_health_check=[HealthCheck.too_slow])

LANGUAGES = {
    "Arabic": "المريض يبلغ من العمر ٦٥ عامًا، ضغط الدم ١٢٠/٨٠، ولا حمى.",
    "Hebrew": 'בן 65, לחץ דם 120/80, נוטל מטפורמין 500 מ"ג פעמיים ביום.',
    "Persian": "بیمار ۴۵ ساله با تب ۳۸٫۵ درجه از ۳ روز پیش.",
    "Urdu": "مریض کی عمر ۵۰ سال ہے، بخار نہیں۔",
    "Chinese": "患者65岁,血压120/80,无发热。二甲双胍500毫克,每日两次。",
    "Japanese": "65歳男性。血圧120/80、発熱なし。メトホルミン５００ｍｇを1日2回。",
    "Korean": "65세 남성, 혈압 120/80, 발열 없음. 메트포르민 500mg 하루 두 번.",
    "Thai": "ผู้ป่วยอายุ ๖๕ ปี ความดัน ๑๒๐/๘๐ ไม่มีไข้",
    "Hindi": "मरीज की उम्र ६५ वर्ष, बुखार नहीं, ५०० मिग्रा दिन में दो बार।",
    "Bengali": "রোগীর বয়স ৬৫ বছর, জ্বর নেই।",
    "Tamil": "நோயாளிக்கு ௬௫ வயது, காய்ச்சல் இல்லை.",
    "Russian": "Пациент 65 лет, АД 120/80, лихорадки нет. Метформин 500 мг 2 раза в день.",
    "Greek": "Ασθενής 65 ετών, ΑΠ 120/80, χωρίς πυρετό· ΤΕΛΟΣ.",
    "Turkish": "İSTANBUL'da 65 yaşında, ateş yok. Iğdır, ışık.",
    "German": "65-jähriger Mann, kein Fieber; Größe 1,75 m, Gefäßstraße ẞ.",
    "French": "Patient de 65 ans, pas de fièvre ; 37,5 °C, œdème.",
    "Spanish": "¿Fiebre? No. Hombre de 65 años, 500 mg cada 12 horas.",
    "Vietnamese": "Bệnh nhân 65 tuổi, không sốt, huyết áp 120/80.",
    "Polish": "Pacjent 65 lat, bez gorączki, ciśnienie 120/80 mmHg.",
    "Amharic": "ታካሚው ፷፭ ዓመት ነው፣ ትኩሳት የለም።",
}
# "2" as a superscript, in a circle, full-width, Arabic, Devanagari, mathematical, Roman, a half and a Chinese two
DIGITS = ["²", "②", "２", "٢", "२", "𝟐", "Ⅱ", "½", "二"]
ODD = [
    "\x00\x01\x02\x7f\x80\xff",
    "\ud800 500 mg \udfff",
    "a\u0301\u0308" * 20,
    "👩‍⚕️ 500 mg 🇩🇪 👍🏽",
    "\u202e500 mg\u202c",
    "\ufeff65-year-old",
    "İ 500 mg ﬁ ß ŉ",
    "\u200b\u2028\u2029\x85\x0b\x0c",
    "[Evidence: S1,2; Conf: 0.85",
    "[Evidence: S99999999999999999999; Conf: nan]",
    "1" * 400,
    "1." * 200,
    "9" * 400 + " mg",
    "one " * 60,
    "hundred thousand million " * 20,
    "1/0 0/0 1-1/2 120/0 99/99/9999 00/00/0000",
    "Doctor: Patient: Doctor:",
    "Doctor:\n\nPatient:\n?",
]
WORDS = """No denies fever ? . : ; , / - 500 mg mcg twice daily once every 6 hours 65-year-old man woman left right knee
metformin aspirin allergic to BP 120/80 HR 88 % temp 38.5 C mother had diabetes possible ruled out started stopped
Doctor: Patient: two and a half one hundred A B C M G I S January tenth 1996 12/3/95 [Evidence: S1] seventies x-ray
surgery years old weeks for pneumonia due because of"""
FRAGMENTS = st.sampled_from([*WORDS.split(), "\n", *DIGITS, *ODD, *LANGUAGES.values()])
TEXTS = (
    st.lists(FRAGMENTS, max_size=25).map(" ".join)
    | st.text(max_size=60)
    | st.binary(max_size=60).map(lambda data: data.decode("utf-8", "surrogateescape"))
)


def checked(note: str, summary: str) -> FactCheck:
    """`check_summary`, after the spans have been held against the summary and the evidence against the note."""
    check = check_summary(note, summary)
    for claim in check.claims:
        assert 0 <= claim.start < claim.end <= len(summary)
        assert claim.text == summary[claim.start : claim.end]
        if claim.evidence is not None and claim.evidence_start is not None:
            assert note.startswith(claim.evidence, claim.evidence_start)
    return check


@quick
@given(TEXTS, TEXTS)
@example("", "")
@example("", "500 [Evidence: S1] mg")  # a citation inside a fact
@example("", "Metformin 500 mg twice daily.")
@example("Metformin 500 mg twice daily.", "")
def test_any_two_texts_are_checked_the_same_way_twice(note: str, summary: str) -> None:
    first = checked(note, summary)
    assert check_summary(note, summary) == first
    told, facts = coverage(note, summary)
    assert 0 <= told <= facts


@quick
@given(TEXTS)
def test_sentences_lie_in_their_text_in_order_and_hold_all_of_it(text: str) -> None:
    position = 0
    for start, end in sentences(text):
        assert position <= start < end <= len(text)
        assert not text[position:start].strip()
        assert text[start:end] == text[start:end].strip()
        position = end
    assert not text[position:].strip()


OTHERS = [  # what a relative does is not thereby the relative's
    "His mom noticed a temperature and gave the patient Tylenol.",
    "The patient's sister requests placement of a gastrostomy tube.",
    "She stopped taking oral contraceptives 1 year after the birth of her son.",
]
COPIED = {**LANGUAGES, **{ascii(text)[:40]: text for text in [*ODD, *DIGITS, *OTHERS]}}


@pytest.mark.parametrize("text", COPIED.values(), ids=COPIED)
def test_a_copy_of_any_text_has_no_error(text: str) -> None:
    assert not checked(text, text).errors


NOTES = [case.note for case in make_cases("test")[:80]]


def test_a_sentence_of_the_note_is_no_error() -> None:
    wrong = [
        (note[start:end], check.errors)
        for note in NOTES
        for start, end in sentences(note)
        if (check := checked(note, note[start:end])).errors
    ]
    assert wrong == []


def test_a_note_covers_itself() -> None:
    for note in NOTES:
        told, facts = coverage(note, note)
        assert told == facts > 0


LONG = {
    "words": "No fever. Lorem ipsum. " * 25_000,
    "one word": "word" * 100_000,
    "spaces": " " * 200_000,
    "lines": "\n" * 200_000,
    "brackets": "([" * 100_000,
    "marks": "a.b," * 20_000,
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_a_hundred_thousand_of_anything_is_checked(text: str) -> None:
    checked(text, "No fever. Metformin 500 mg.")
    checked("No fever. Metformin 500 mg.", text)
