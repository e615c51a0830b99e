"""The word lists: what they hold, what agrees between them, and how a user's folder goes before them."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from clinical import lexicons, measurements
from clinical.facts import extract_facts
from clinical.lexicons import (
    Abbreviation,
    Concept,
    Range,
    abbreviations,
    add_lexicon_dir,
    concepts,
    on_change,
    phrase_table,
    reference_ranges,
    remove_lexicon_dir,
    sound_alikes,
    units,
)
from script_io.errors import InputError

LEXICONS = Path(lexicons.__file__).parents[1] / "lexicons"
NAMES = "name,group,synonyms\n"
SHORT = "abbreviation,expansion,case,before,after\n"
RANGES = "name,low,high,unit,plausible_low,plausible_high,decimals\n"


@pytest.fixture
def folder(tmp_path):
    """A user's folder; what a test adds of it is taken back afterwards."""
    yield tmp_path
    remove_lexicon_dir(tmp_path)


def rows(name):
    with open(LEXICONS / name, encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def drugs_in(text):
    return [fact.key for fact in extract_facts(text) if fact.type in ("drug", "allergy")]


def test_every_type_of_name_has_its_list():
    assert concepts("drug")["metformin"] == Concept("metformin", "oral diabetes drug")
    for fact_type, fewest in {"drug": 800, "condition": 100, "symptom": 50, "procedure": 50, "organism": 10}.items():
        assert len(concepts(fact_type)) >= fewest
    assert concepts("planet") == {}


def test_no_drug_is_listed_twice_and_no_phrase_stands_for_two():
    names = Counter(row["name"].lower() for row in rows("drugs.csv"))
    phrases = Counter(
        synonym.lower().replace("-", " ")
        for row in rows("drugs.csv")
        for synonym in [row["name"], *filter(None, row["synonyms"].split(";"))]
    )
    assert not [name for name, count in names.items() if count > 1]
    assert not [phrase for phrase, count in phrases.items() if count > 1]


def test_groups_of_drugs_offer_a_neighbour():
    sizes = Counter(row["group"] for row in rows("drugs.csv") if not row["group"].startswith("general"))
    assert not [group for group, size in sizes.items() if not 3 <= size <= 25]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("She takes Glucophage and Lasix.", ["metformin", "furosemide"]),
        ("He was given Z-Pak, then Augmentin.", ["azithromycin", "amoxicillin/clavulanate"]),
        ("Start a beta blocker and an NSAID.", ["beta blockers", "nsaids"]),
        ("Continue Humulin 70/30 and Lantus.", ["insulin 70/30", "insulin glargine"]),
        ("Keytruda was held.", ["pembrolizumab"]),
        ("He felt a bit numb when he had a nap, today at last, in the yard.", []),
    ],
)
def test_drugs_are_read_by_any_of_their_names(text, names):
    assert drugs_in(text) == names


def test_every_sound_alike_is_read_as_a_drug():
    for name, others in sound_alikes().items():
        (drug,) = drugs_in(f"She takes {name}.")
        for other in others:
            assert len(set(drugs_in(f"She takes {other}.")) - {drug}) == 1, (name, other)


def test_sound_alikes_hold_both_ways_and_keep_their_spelling():
    assert "hydroxyzine" in sound_alikes()["hydralazine"]
    assert "hydralazine" in sound_alikes()["hydroxyzine"]
    assert "Celexa" in sound_alikes()["celebrex"]
    assert "Celexa" not in sound_alikes().get("celecoxib", ())


def test_every_pair_of_the_list_counts():
    pairs = rows("sound_alikes.csv")
    assert len(pairs) >= 150
    for row in pairs:
        assert row["confused_with"] in sound_alikes()[row["name"].lower()]
        assert row["name"] in sound_alikes()[row["confused_with"].lower()]


def test_tall_man_letters_spell_the_pair():
    for row in rows("sound_alikes.csv"):
        if row["tall_man"]:
            assert row["tall_man"].lower() == f"{row['name']}/{row['confused_with']}".lower()


def test_every_measurement_of_the_parser_has_limits():
    read = {name for name, *_ in (*measurements._VITAL_NAMES, *measurements._LAB_NAMES)}
    without = {"weight", "pain score"}  # no limit of their own
    assert read - without == set(reference_ranges()) - {"systolic blood pressure", "diastolic blood pressure"}
    assert reference_ranges()["potassium"] == Range(3.5, 5.0, "mEq/L", 2.2, 7.5, 1)


def test_limits_lie_within_what_is_plausible():
    for limits in reference_ranges().values():
        ends = [limits.plausible_low, limits.low, limits.high, limits.plausible_high]
        given = [end for end in ends if end is not None]
        assert given == sorted(given)
        assert limits.low is not None or limits.high is not None


@pytest.mark.parametrize(
    ("name", "text", "is_normal"),
    [
        ("temperature", "Temperature 98.6 F.", True),  # 37.0 °C
        ("temperature", "Temperature 102.2 F.", False),  # 39.0 °C
        ("hemoglobin", "Hemoglobin 140 g/L.", True),  # 14.0 g/dL
        ("creatinine", "Creatinine 265 umol/L.", False),  # 265 / 88.4 = 3.0 mg/dL
        ("glucose", "Glucose 5 mmol/L.", True),  # 5 x 18 = 90 mg/dL
        ("white cell count", "WBC 18000.", False),  # 18.0 thousand
        ("platelets", "Platelets 250000.", True),  # 250 thousand
        ("oxygen saturation", "Oxygen saturation 88%.", False),
    ],
)
def test_limits_are_in_the_unit_of_the_parser(name, text, is_normal):
    value = next(float(fact.value) for fact in extract_facts(text) if fact.key == name)
    limits = reference_ranges()[name]
    within = (limits.low is None or limits.low <= value) and (limits.high is None or value <= limits.high)
    assert within == is_normal
    assert limits.plausible_low <= value <= limits.plausible_high


@pytest.mark.parametrize(
    ("spelling", "amount", "base", "unit"),
    [
        ("mg", 500, 500, "mg"),
        ("gram", 0.5, 500, "mg"),
        ("mcg", 250, 0.25, "mg"),
        ("μg", 250, 0.25, "mg"),
        ("cc", 30, 30, "mL"),
        ("liter", 2, 2000, "mL"),
        ("iu", 100, 100, "units"),
        ("meq", 20, 20, "mEq"),
    ],
)
def test_units_convert_by_hand(spelling, amount, base, unit):
    factor, base_unit = units()[spelling]
    assert (amount * factor, base_unit) == (pytest.approx(base), unit)


def test_the_parser_reads_every_unit():
    for spelling, (factor, base_unit) in units().items():
        (dose,) = [fact.value for fact in extract_facts(f"He takes aspirin 4 {spelling} daily.") if fact.type == "dose"]
        amount, unit = dose.split()
        assert (float(amount), unit) == (pytest.approx(4 * factor), base_unit), spelling


# ------------------------------------------------------------------------------------- abbreviations


def meanings(written):
    return [row.expansion for row in abbreviations()[written.lower()]]


def plain_meanings(written):
    """Return the meanings without a context that apply to these capitals."""
    rows = abbreviations().get(written.lower(), ())
    return {row.expansion for row in rows if not row.has_context and (not row.exact or row.written == written)}


@pytest.mark.parametrize(
    ("written", "expansion"),
    [
        ("SOB", "shortness of breath"),
        ("htn", "hypertension"),
        ("s/p", "status post"),
        ("n/v/d", "nausea, vomiting, diarrhea"),
        ("f/c", "fevers, chills"),
        ("NKDA", "no known drug allergies"),
        ("RLL", "right lower lobe"),
        ("tds", "3 times daily"),
    ],
)
def test_an_abbreviation_has_its_meaning(written, expansion):
    assert plain_meanings(written) == {expansion}


def test_meanings_with_a_context_come_first():
    rows = abbreviations()["ra"]
    assert next(row.expansion for row in rows if row.has_context) == "room air"
    assert rows[0].before[0] == "<percent>"
    assert rows[-1] == Abbreviation("RA", "rheumatoid arthritis", True, (), ())


@pytest.mark.parametrize("written", ["BS", "AS", "ED", "d/c", "levo"])
def test_an_ambiguous_abbreviation_keeps_its_meanings(written):
    assert len(plain_meanings(written)) > 1


def test_words_of_plain_english_have_their_meaning_in_capitals_only():
    """In lower case these are words: no row without a context may rewrite them."""
    words = "as all am an and at be cap do for from had has he her his if in is it me no not of on or pet so the to us"
    assert {word for word in words.split() if plain_meanings(word)} <= {"cap"}


def test_every_abbreviated_finding_is_read_as_the_finding():
    for written, name in {"HLD": "hyperlipidemia", "CKD": "chronic kidney disease", "DM2": "type 2 diabetes"}.items():
        (expansion,) = plain_meanings(written)
        assert name in [fact.value for fact in extract_facts(f"He has {expansion}.")], written


def test_no_meaning_is_listed_twice():
    for key, rows_of_key in abbreviations().items():
        assert len(set(rows_of_key)) == len(rows_of_key), key


# ----------------------------------------------------------------------------------- a user's folder


def test_a_users_names_are_read_and_taken_back(folder):
    (folder / "drugs.csv").write_text(NAMES + "zorbaxil,statin,Zorb\n")
    assert drugs_in("She takes Zorb.") == []
    calls = []
    on_change(lambda: calls.append(1))
    assert add_lexicon_dir(folder) == ["drugs.csv"]
    assert phrase_table()[0][("zorb",)].name == "zorbaxil"
    assert drugs_in("Now she takes Zorb.") == ["zorbaxil"]
    assert next(iter(concepts("drug"))) == "zorbaxil"
    assert add_lexicon_dir(folder) == ["drugs.csv"]  # a second time changes nothing
    assert calls == [1]
    remove_lexicon_dir(folder)
    assert "zorbaxil" not in concepts("drug")


def test_a_users_unit_is_read(folder):
    (folder / "units.csv").write_text("spelling,factor,base_unit\nspoonful,5,mL\n")
    add_lexicon_dir(folder)
    facts = extract_facts("He takes guaifenesin 2 spoonfuls daily.")
    assert [fact.value for fact in facts if fact.type == "dose"] == ["10 mL"]


def test_a_users_row_goes_before_a_built_in_one(folder):
    (folder / "symptoms.csv").write_text(NAMES + "metformin belly,stomach,metformin\n")
    (folder / "drugs.csv").write_text(NAMES + "lisinopril,my group,\n")
    (folder / "units.csv").write_text("spelling,factor,base_unit\nMg,2,doses\n")
    (folder / "reference_ranges.csv").write_text(RANGES + "Potassium,4,,mmol/L,2,8,2\n")
    (folder / "sound_alikes.csv").write_text("name,confused_with\nlisinopril,warfarin\n")
    add_lexicon_dir(folder)
    assert phrase_table()[0][("metformin",)].type == "symptom"
    assert concepts("drug")["lisinopril"].group == "my group"
    assert units()["mg"] == (2.0, "doses")
    assert reference_ranges()["potassium"] == Range(4.0, None, "mmol/L", 2.0, 8.0, 2)
    assert sound_alikes()["lisinopril"][0] == "warfarin"
    assert "metformin" not in sound_alikes()  # the built-in pair gives way


def test_a_users_abbreviation_replaces_the_built_in_meaning_but_not_its_contexts(folder):
    (folder / "abbreviations.csv").write_text(SHORT + "RA,refractory anemia,exact,,\nRA,renal artery,exact,,stent\n")
    built_in = meanings("RA")
    add_lexicon_dir(folder)
    assert plain_meanings("RA") == {"refractory anemia"}
    assert meanings("RA") == ["renal artery", *built_in[:-1], "refractory anemia"]


def test_a_users_abbreviation_of_other_capitals_leaves_the_built_in_one(folder):
    (folder / "abbreviations.csv").write_text(SHORT + "ra,right ankle,exact,,\n")
    add_lexicon_dir(folder)
    assert plain_meanings("RA") == {"rheumatoid arthritis"}
    assert plain_meanings("ra") == {"right ankle"}


@pytest.mark.parametrize(
    ("file_name", "content", "message"),
    [
        ("abbreviations.csv", SHORT + "XQ,,,,\n", "line 2: expansion is empty"),
        ("abbreviations.csv", SHORT + "XQ,x,capitals,,\n", "line 2: case is 'capitals'; write exact"),
        ("abbreviations.csv", SHORT + "X Q,x,,,\n", "line 2: abbreviation is 'X Q'"),
        ("abbreviations.csv", SHORT + "(XQ,x,,,\n", "line 2: abbreviation is '(XQ'"),
        ("abbreviations.csv", SHORT + "XQ,x,,on||at,\n", "line 2: before has an empty alternative"),
        ("abbreviations.csv", SHORT + "XQ,x,,,<organ>\n", "line 2: after has <organ>; use a word or one of <percent>"),
        ("drogs.csv", NAMES, "drogs.csv: no lexicon has this name"),
        ("drugs.csv", "name,synonyms\nx,y\n", "line 1: missing column group"),
        ("drugs.csv", NAMES, "no rows"),
        ("drugs.csv", NAMES + "aspirin,pain,\n ,pain,\n", "line 3: name is empty"),
        ("drugs.csv", NAMES + "aspirin,,\n", "line 2: group is empty"),
        ("conditions.csv", NAMES + "aspirin,pain,?\n", "line 2: '?' has no letter or digit"),
        ("sound_alikes.csv", "name,confused_with\nwarfarin,xyzzy\n", "line 2: 'xyzzy' is not a drug"),
        ("sound_alikes.csv", "name,confused_with\nwarfarin,Coumadin\n", "line 2: warfarin and Coumadin are the same"),
        ("units.csv", "spelling,factor,base_unit\nspoon,five,mL\n", "line 2: factor is 'five', not a number"),
        ("units.csv", "spelling,factor,base_unit\nspoon,inf,mL\n", "line 2: factor is 'inf', not a number"),
        ("units.csv", "spelling,factor,base_unit\nspoon,0,mL\n", "line 2: expected a factor above 0"),
        ("reference_ranges.csv", RANGES + "zinc,5,4,mg,1,9,1\n", "line 2: expected plausible_low"),
        ("reference_ranges.csv", RANGES + "zinc,,,mg,1,9,1\n", "line 2: expected plausible_low"),
        ("reference_ranges.csv", RANGES + "zinc,4,5,mg,1,9,1.5\n", "line 2: decimals is '1.5'"),
        ("notes.txt", "hello", "holds no CSV file"),
    ],
)
def test_bad_files_are_one_line_and_add_nothing(folder, file_name, content, message):
    (folder / file_name).write_text(content)
    with pytest.raises(InputError) as caught:
        add_lexicon_dir(folder)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert concepts("drug")["aspirin"].group == "antiplatelet"
    assert "spoon" not in units()


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        add_lexicon_dir(tmp_path / "none")
