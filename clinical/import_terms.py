"""Turn an export of RxNorm or of the UMLS into word lists for `--lexicon_dir`.

In:  RXNCONSO.RRF of RxNorm, or MRCONSO.RRF of the UMLS, both in the format of the National Library of Medicine. You
     need the library's licence for them; nothing of them is part of this suite.
Out: drugs.csv, conditions.csv, symptoms.csv, procedures.csv and organisms.csv in --output_dir, as far as names for them
     were found, with the columns of lexicons/README.md. Printed: the names kept, and those left out by reason.

    python -m clinical.import_terms --rxnorm rrf/RXNCONSO.RRF --relations rrf/RXNREL.RRF --output_dir my_drugs
    python -m clinical.import_terms --umls META/MRCONSO.RRF --semantic_types META/MRSTY.RRF --output_dir my_terms

Kept are English names that are not suppressed. A concept with a name of the built-in lists adds its other names to
that row; its group stays the same. Other concepts get the group `general`: the rules read them, and hard negatives
never exchange them. Left out are words of under 4 letters (ordinary words and ambiguous abbreviations), names of more
than 6 words or with brackets or commas, strengths, and names that hold a negation, a doubt or a time ("no fever",
"history of stroke"), which the rules read from the sentence.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from clinical.lexicons import NAME_COLUMNS, NAME_FILES, Phrase, Term, concepts, phrase_of, phrase_table
from clinical.rrf_files import SourceConcept, rxnorm_concepts, umls_concepts
from script_io.csv_files import write_csv
from script_io.errors import ArgumentParser, InputError, run_script

_GROUP = "general"
_FEWEST_LETTERS = 4
_MOST_WORDS = 6
_MARKS = re.compile(r"[\[\](){}<>,;:?!\"=]")
_STRENGTH = re.compile(r"\d\s?(?:mg|mcg|ug|g|ml|l|unt|units?|meq|mmol|actuat|hr|%)(?![a-z])", re.IGNORECASE)
_SCOPE_WORDS = frozenset(
    "no not non nos without absent absence denies denied negative normal history family suspected possible "
    "probable risk unknown unspecified able unable other previous past status rule never".split()
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    data = parser.add_argument_group("Data (one of --rxnorm and --umls)")
    source = data.add_mutually_exclusive_group(required=True)
    source.add_argument("--rxnorm", type=Path, help="RXNCONSO.RRF: read drugs from RxNorm (default: none)")
    source.add_argument("--umls", type=Path, help="MRCONSO.RRF: read all types of names from the UMLS (default: none)")
    data.add_argument(
        "--relations",
        type=Path,
        help="RXNREL.RRF, with --rxnorm: make brand names and salts synonyms of their ingredient "
        "(default: none, each brand name is a drug of its own)",
    )
    data.add_argument(
        "--semantic_types",
        type=Path,
        help="MRSTY.RRF, with --umls: take the type of a concept from its semantic type "
        "(default: none, from the source: the tags of SNOMED CT, and RxNorm for drugs)",
    )
    output = parser.add_argument_group("Output")
    output.add_argument("--output_dir", type=Path, required=True, help="folder for the CSV files; new or without CSVs")
    return parser.parse_args(argv)


class TermImport:
    """Turn the concepts of a terminology into rows of the word lists. `left_out` counts names by reason."""

    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str, str]]] = {fact_type: [] for fact_type in NAME_FILES}
        self.left_out: Counter[str] = Counter()
        self.kept: Counter[str] = Counter()
        self._built_in = phrase_table()[0]
        self._imported: dict[Phrase, str] = {}  # phrase -> type of fact

    def add(self, concept: SourceConcept) -> None:
        """Add the new names of a concept to the row of a built-in name, or as a row of their own."""
        named = [(name, phrase) for name in concept.names if (phrase := self._usable_phrase(name))]
        terms = [term for _, phrase in named if (term := self._known_term(phrase))]
        new = {phrase: name for name, phrase in named if self._is_new(phrase)}
        if concept.is_salt and not terms and any(map(self._starts_with_a_drug, new)):
            self.left_out["salt whose ingredient is read"] += len(new)
            return
        if not new:
            return
        fact_type, names = concept.fact_type, list(new.values())
        if terms:
            fact_type = terms[0].type
            built_in = concepts(fact_type)[terms[0].name]
            row = (built_in.name, built_in.group, names)
        else:
            row = (names[0], _GROUP, names[1:])
        self.rows[fact_type].append(dict(zip(NAME_COLUMNS, (*row[:2], ";".join(row[2])), strict=True)))
        self.kept[fact_type] += len(names)
        self._imported.update(dict.fromkeys(new, fact_type))

    def _usable_phrase(self, name: str) -> Phrase | None:
        phrase = phrase_of(name)
        if reason := _unusable(name, phrase):
            self.left_out[reason] += 1
            return None
        return phrase

    def _known_term(self, phrase: Phrase) -> Term | None:
        return self._built_in.get(phrase) or self._built_in.get((*phrase[:-1], phrase[-1].removesuffix("s")))

    def _is_new(self, phrase: Phrase) -> bool:
        if self._known_term(phrase):
            self.left_out["built-in name"] += 1
            return False
        if phrase in self._imported:
            self.left_out["name of an earlier concept"] += 1
            return False
        return True

    def _starts_with_a_drug(self, phrase: Phrase) -> bool:
        starts = (phrase[:length] for length in range(1, len(phrase)))
        return any((term := self._built_in.get(start)) and term.type == "drug" for start in starts) or any(
            self._imported.get(phrase[:length]) == "drug" for length in range(1, len(phrase))
        )


def _unusable(name: str, phrase: Phrase) -> str:
    """Return the reason to leave a name out, or ""."""
    letters = sum(map(str.isalpha, name))
    if not letters or not any(word.isalnum() for word in phrase) or (len(phrase) == 1 and letters < _FEWEST_LETTERS):
        return f"word of under {_FEWEST_LETTERS} letters"
    if _MARKS.search(name) or "\t" in name:
        return "brackets, commas or other marks"
    if len(phrase) > _MOST_WORDS:
        return f"more than {_MOST_WORDS} words"
    if _STRENGTH.search(name):
        return "strength or dose"
    if _SCOPE_WORDS.intersection(phrase):
        return "negation, doubt or time"
    return ""


def import_concepts(found: Iterable[SourceConcept], terms: TermImport) -> None:
    """Add all concepts. Raises InputError if no name is left."""
    for concept in found:
        terms.add(concept)
    if not terms.kept:
        raise InputError("no name of the export is new and usable; check that it has English names of RxNorm or UMLS")


def _check(args: argparse.Namespace) -> None:
    if args.relations and not args.rxnorm:
        raise InputError("--relations: RXNREL.RRF belongs to RxNorm; give it with --rxnorm")
    if args.semantic_types and not args.umls:
        raise InputError("--semantic_types: MRSTY.RRF belongs to the UMLS; give it with --umls")
    if args.output_dir.is_dir() and any(args.output_dir.glob("*.csv")):
        raise InputError(f"{args.output_dir}: already holds CSV files; name a new folder")


def main(args: argparse.Namespace) -> int:
    """Read the export, write the CSV files and print the counts."""
    _check(args)
    terms = TermImport()
    if args.rxnorm:
        import_concepts(rxnorm_concepts(args.rxnorm, args.relations, terms.left_out), terms)
    else:
        import_concepts(umls_concepts(args.umls, args.semantic_types, terms.left_out), terms)
    for fact_type, file_name in NAME_FILES.items():
        if rows := terms.rows[fact_type]:
            write_csv(args.output_dir / file_name, NAME_COLUMNS, rows)
            print(f"{file_name:16} {len(rows):8,} rows {terms.kept[fact_type]:8,} new names")
    print("Names left out:")
    for reason, count in terms.left_out.most_common():
        print(f"  {count:10,} {reason}")
    print(f"Use them with: --lexicon_dir {args.output_dir}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_script(main, parse_args()))
