"""The lists of conditions, symptoms, procedures and organisms: no phrase twice, no group that cannot be swapped in."""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterator

import pytest
from conftest import ROOT

FOLDER = ROOT / "lexicons"
FINDINGS = ("conditions", "symptoms", "procedures", "organisms")
# "non-small cell" and "near syncope" hold the other name and exclude it
EXCLUDES = re.compile(r"\b(?:non|near)[- ]")


def rows_of(file_name: str) -> list[dict[str, str]]:
    with open(FOLDER / f"{file_name}.csv", encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def phrases_of(row: dict[str, str]) -> list[str]:
    return [row["name"], *(row["synonyms"].split(";") if row["synonyms"] else [])]


def regular(phrase: str) -> str:
    """Case, hyphens and the curved apostrophe do not tell two phrases apart."""
    return " ".join(re.findall(r"[\w'&]+|[.,/()]", phrase.lower().replace("’", "'")))


def swapped_groups(file_name: str) -> dict[str, list[str]]:
    """Group -> names, without the group that is never swapped within."""
    groups = defaultdict(list)
    for row in rows_of(file_name):
        groups[row["group"]].append(row["name"])
    groups.pop("general", None)
    return groups


def groups_of_names() -> Iterator[tuple[str, str, list[str]]]:
    for file_name in FINDINGS:
        for group, names in swapped_groups(file_name).items():
            yield file_name, group, names


@pytest.mark.parametrize("file_name", FINDINGS)
def test_columns_and_cells(file_name: str) -> None:
    with open(FOLDER / f"{file_name}.csv", encoding="utf-8", newline="") as handle:
        assert next(csv.reader(handle)) == ["name", "group", "synonyms"]
    for row in rows_of(file_name):
        assert None not in row
        for cell in [row["group"], *phrases_of(row)]:
            assert cell
            assert cell == cell.strip()


@pytest.mark.parametrize(
    ("file_name", "names", "phrases"),
    [
        ("conditions", 1000, 2500),
        ("symptoms", 220, 1200),
        ("procedures", 400, 1200),
        ("organisms", 180, 350),
    ],
)
def test_large_enough_for_real_notes(file_name: str, names: int, phrases: int) -> None:
    rows = rows_of(file_name)
    assert len(rows) >= names
    assert sum(len(phrases_of(row)) for row in rows) >= phrases


def test_no_phrase_is_listed_twice() -> None:
    rows = [row for file_name in ("drugs", *FINDINGS) for row in rows_of(file_name)]
    phrases = Counter(phrase for row in rows for phrase in {regular(phrase) for phrase in phrases_of(row)})
    assert [phrase for phrase, count in phrases.items() if count > 1] == []


def test_a_plural_is_no_other_finding() -> None:
    """A final s is passed over where phrases are looked up, so it must not lead to another name."""
    names = {regular(phrase): row["name"] for file in FINDINGS for row in rows_of(file) for phrase in phrases_of(row)}
    assert [phrase for phrase, name in names.items() if names.get(phrase.removesuffix("s"), name) != name] == []


def test_groups_have_neighbours_to_swap() -> None:
    sizes = {(file_name, group): len(names) for file_name, group, names in groups_of_names()}
    assert {key: size for key, size in sizes.items() if not 3 <= size <= 25} == {}


def test_no_name_of_a_group_says_the_same_and_more() -> None:
    """A swap of "lung cancer" for "small cell lung cancer" would add a detail, not make an error."""
    wider = [
        (file_name, group, shorter, longer)
        for file_name, group, names in groups_of_names()
        for shorter in names
        for longer in names
        if shorter != longer and f" {regular(shorter)} " in f" {regular(longer)} " and not EXCLUDES.match(longer)
    ]
    assert wider == []


def test_number_of_the_names_agrees_within_a_group() -> None:
    for _, group, names in groups_of_names():
        assert group.partition(", ")[2] in ("", "countable", "plural")
        if group.endswith(", plural"):
            assert all(name.endswith("s") for name in names), group
        if group.endswith(", countable"):
            assert not any(re.search("[^isu]s$", name) for name in names), group


@pytest.mark.parametrize(
    ("file_name", "phrase", "name"),
    [
        ("conditions", "heart attack", "myocardial infarction"),
        ("conditions", "strep pharyngitis", "strep throat"),
        ("conditions", "knee osteoarthritis", "osteoarthritis"),
        ("symptoms", "passed out", "syncope"),
        ("procedures", "gallbladder removed", "cholecystectomy"),
        ("procedures", "spinal tap", "lumbar puncture"),
        ("organisms", "E. coli", "Escherichia coli"),
        ("organisms", "MRSA", "methicillin-resistant Staphylococcus aureus"),
        ("organisms", "Group A strep", "Streptococcus pyogenes"),
    ],
)
def test_what_a_phrase_stands_for(file_name: str, phrase: str, name: str) -> None:
    assert [row["name"] for row in rows_of(file_name) if phrase in phrases_of(row)] == [name]


@pytest.mark.parametrize(
    ("file_name", "first", "second"),
    [
        ("conditions", "hypothyroidism", "hyperthyroidism"),
        ("conditions", "aortic stenosis", "mitral regurgitation"),
        ("conditions", "subdural hematoma", "epidural hematoma"),
        ("conditions", "cholera", "typhoid fever"),
        ("procedures", "CT scan", "MRI"),
        ("organisms", "Ehrlichia chaffeensis", "Anaplasma phagocytophilum"),
    ],
)
def test_near_neighbours_share_a_group(file_name: str, first: str, second: str) -> None:
    group = {row["name"]: row["group"] for row in rows_of(file_name)}
    assert group[first] == group[second] != "general"
