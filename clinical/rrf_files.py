"""Read concepts from the Rich Release Format (RRF) of the National Library of Medicine: RxNorm and the UMLS.

An RRF file has one row a line, fields that end with "|", no header and no quotes. Names are in RXNCONSO.RRF or
MRCONSO.RRF (the same 18 fields), semantic types in MRSTY.RRF, relations of RxNorm in RXNREL.RRF. Sources: the RxNorm
Technical Documentation, and the UMLS Reference Manual, chapter 3 (NBK9685).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from script_io.errors import InputError

_NAME_FIELDS = 18  # CUI LAT TS LUI STT SUI ISPREF AUI SAUI SCUI SDUI SAB TTY CODE STR SRL SUPPRESS CVF
_TYPE_FIELDS = 6  # CUI TUI STN STY ATUI CVF
_RELATION_FIELDS = 16  # CUI1 AUI1 STYPE1 REL CUI2 AUI2 STYPE2 RELA RUI SRUI SAB SL DIR RG SUPPRESS CVF
_INGREDIENTS, _SALT, _BRAND, _SYNONYMS = frozenset({"IN", "MIN"}), "PIN", "BN", frozenset({"SY", "TMSY"})
_DRUG_TERMS = _INGREDIENTS | {_SALT, _BRAND}
_RELATIONS = frozenset({"tradename_of", "has_tradename", "form_of", "has_form"})
_SEMANTIC_TYPES = {  # type of fact -> identifiers of the UMLS Semantic Network
    "condition": "T019 T020 T037 T046 T047 T048 T190 T191",  # abnormalities, injuries, diseases, neoplasms
    "symptom": "T184",
    "procedure": "T060 T061",  # diagnostic; therapeutic or preventive
    "drug": "T121 T195",  # pharmacologic substance, antibiotic
    "organism": "T004 T005 T007",  # fungus, virus, bacterium
}
_TYPE_OF_TUI = {tui: fact_type for fact_type, tuis in _SEMANTIC_TYPES.items() for tui in tuis.split()}
_TYPE_OF_TAG = {  # at the end of a fully specified name of SNOMED CT: "Fever (finding)"
    "(disorder)": "condition",
    "(finding)": "symptom",
    "(procedure)": "procedure",
    "(regime/therapy)": "procedure",
    "(organism)": "organism",
}


@dataclass(frozen=True)
class SourceConcept:
    """A concept: its type of fact and its names, the preferred one first. `is_salt`: a salt or ester of a drug."""

    fact_type: str
    names: tuple[str, ...]
    is_salt: bool = False


class _Atom(NamedTuple):
    """One name of a concept. `is_preferred`: by the term status, string type and atom status of the UMLS."""

    concept: str
    source: str
    term_type: str
    name: str
    is_preferred: bool


def _rows(path: Path, fields: int) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, fields). Raises InputError if the file cannot be read or a line has other fields."""
    number = 0
    try:
        with open(path, encoding="utf-8", newline="\n") as handle:
            for number, line in enumerate(handle, start=1):
                row = line.rstrip("\r\n").split("|")
                if len(row) != fields + 1 or row[-1]:
                    raise InputError(
                        f"{path}, line {number}: expected {fields} fields that each end with |; "
                        "give the RRF file as the National Library of Medicine distributes it"
                    )
                yield number, row
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}, after line {number}: not UTF-8; give the RRF file as it was distributed") from error
    if not number:
        raise InputError(f"{path}: the file is empty; give the RRF file as it was distributed")


def _atoms(path: Path, left_out: Counter[str]) -> Iterator[_Atom]:
    """Yield the English names that are not suppressed, and count the others."""
    for _, row in _rows(path, _NAME_FIELDS):
        if row[1] != "ENG":
            left_out["not English"] += 1
        elif row[16] not in ("N", ""):
            left_out["suppressed or obsolete"] += 1
        else:
            yield _Atom(row[0], row[11], row[12], row[14].strip(), (row[2], row[4], row[6]) == ("P", "PF", "Y"))


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple({name.lower(): name for name in reversed(list(names))}.values())[::-1]


# --------------------------------------------------------------------------------------------- RxNorm


def rxnorm_concepts(names: Path, relations: Path | None, left_out: Counter[str]) -> Iterator[SourceConcept]:
    """Yield the drugs of RXNCONSO.RRF: first ingredients, then the salts and brand names that are drugs of their own.

    In RxNorm a brand name is a concept of its own. `relations` (RXNREL.RRF) makes it, and each salt, a synonym of its
    ingredient. Memory grows with the number of ingredients, brands and synonyms, not with the size of the file.
    """
    atoms: dict[str, list[_Atom]] = defaultdict(list)
    for atom in _atoms(names, left_out):
        if atom.term_type in _DRUG_TERMS or atom.term_type in _SYNONYMS:
            atoms[atom.concept].append(atom)
        else:
            left_out["other term type"] += 1
    kinds = {concept: kind for concept, found in atoms.items() if (kind := _kind_of_drug(found))}
    left_out["synonym of a dose form"] += sum(len(found) for concept, found in atoms.items() if concept not in kinds)
    ingredient_of = _ingredients(relations, kinds, atoms) if relations else {}
    linked: dict[str, list[str]] = defaultdict(list)
    for concept, ingredient in ingredient_of.items():
        linked[ingredient].append(concept)
    for kind in ("ingredient", "salt", "brand"):
        for concept in (concept for concept in kinds if kinds[concept] == kind and concept not in ingredient_of):
            found = [atom for member in (concept, *linked[concept]) for atom in _rxnorm_first(atoms[member])]
            yield SourceConcept("drug", _distinct(atom.name for atom in found), kind == "salt")


def _kind_of_drug(atoms: Sequence[_Atom]) -> str:
    terms = {atom.term_type for atom in atoms if atom.source == "RXNORM"}
    if terms & _INGREDIENTS:
        return "ingredient"
    return "salt" if _SALT in terms else "brand" if _BRAND in terms else ""


def _rxnorm_first(atoms: Sequence[_Atom]) -> list[_Atom]:
    return sorted(atoms, key=lambda atom: (atom.term_type in _SYNONYMS, atom.source != "RXNORM"))


def _ingredients(path: Path, kinds: dict[str, str], atoms: dict[str, list[_Atom]]) -> dict[str, str]:
    """Map each brand and salt to its ingredient; a brand of several ingredients to their combination."""
    several: dict[str, set[str]] = defaultdict(set)
    for _, row in _rows(path, _RELATION_FIELDS):
        if row[7] in _RELATIONS:
            for concept, other in ((row[0], row[4]), (row[4], row[0])):
                if kinds.get(concept) in ("brand", "salt") and kinds.get(other) == "ingredient":
                    several[concept].add(other)
    name_of = {concept: _rxnorm_first(atoms[concept])[0].name.lower() for concept in kinds}
    combinations = {
        frozenset(name_of[concept].split(" / ")): concept for concept, kind in kinds.items() if kind == "ingredient"
    }
    found = {
        concept: combinations.get(frozenset(name_of[ingredient] for ingredient in ingredients))
        for concept, ingredients in several.items()
    }
    return {concept: ingredient for concept, ingredient in found.items() if ingredient}


# ----------------------------------------------------------------------------------------------- UMLS


def umls_concepts(names: Path, semantic_types: Path | None, left_out: Counter[str]) -> Iterator[SourceConcept]:
    """Yield the conditions, symptoms, procedures, drugs and organisms of MRCONSO.RRF, one concept at a time.

    The type comes from `semantic_types` (MRSTY.RRF), or else from the source: the tag of SNOMED CT, and RxNorm for
    drugs. Both files must be sorted by concept, as they are distributed.
    """
    types = _types_by_concept(semantic_types) if semantic_types else None
    concept_type = next(types, None) if types else None
    for concept, group in groupby(_in_order(names, _atoms(names, left_out)), key=itemgetter(0)):
        atoms = list(group)
        while types and concept_type and concept_type[0] < concept:
            concept_type = next(types, None)
        if types:
            fact_type = concept_type[1] if concept_type and concept_type[0] == concept else ""
        else:
            fact_type = _type_by_source(atoms)
        if not fact_type:
            left_out["other type of concept"] += len(atoms)
            continue
        ordered = sorted(atoms, key=lambda atom: not (atom.source == "SNOMEDCT_US" and atom.term_type == "PT"))
        ordered.sort(key=lambda atom: not atom.is_preferred)
        yield SourceConcept(fact_type, _distinct(map(_without_tag, ordered)), _kind_of_drug(atoms) == "salt")
    for _ in types or ():  # the order of the rest is checked as well: a concept there may have been missed above
        pass


def _in_order(path: Path, atoms: Iterable[_Atom]) -> Iterator[_Atom]:
    last = ""
    for atom in atoms:
        if atom.concept < last:
            raise InputError(f"{path}: {atom.concept} comes after {last}; sort the file by concept (LC_ALL=C sort)")
        last = atom.concept
        yield atom


def _types_by_concept(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (concept, type of fact) for the concepts that have one, in the order of the file."""
    last = ""
    for number, row in _rows(path, _TYPE_FIELDS):
        if row[0] < last:
            raise InputError(f"{path}, line {number}: {row[0]} comes after {last}; sort the file (LC_ALL=C sort)")
        last = row[0]
        if fact_type := _TYPE_OF_TUI.get(row[1]):
            yield row[0], fact_type


def _type_by_source(atoms: Sequence[_Atom]) -> str:
    if _kind_of_drug(atoms):
        return "drug"
    tags = (_TYPE_OF_TAG.get(atom.name.rpartition(" ")[2]) for atom in atoms if atom.source == "SNOMEDCT_US")
    return next(filter(None, tags), "")


def _without_tag(atom: _Atom) -> str:
    name, _, tag = atom.name.rpartition(" ")
    return name if atom.source == "SNOMEDCT_US" and tag in _TYPE_OF_TAG else atom.name
