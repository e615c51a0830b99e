"""Import of RxNorm and UMLS exports: rows in their exact formats, what becomes of each name, and the result in use."""

import tracemalloc
from collections import Counter

import pytest

from clinical.facts import extract_facts
from clinical.import_terms import main, parse_args
from clinical.lexicons import add_lexicon_dir, concepts, remove_lexicon_dir
from clinical.rrf_files import rxnorm_concepts, umls_concepts
from evaluation import fact_checker
from script_io.csv_files import read_csv
from script_io.errors import InputError


def name_row(concept, source, term_type, name, *, language="ENG", suppress="N", preferred=False):
    """A row of RXNCONSO.RRF or MRCONSO.RRF: 18 fields, each followed by a |."""
    status = ("P", "L1", "PF", "S1", "Y") if preferred else ("S", "L1", "VO", "S1", "N")
    fields = [concept, language, *status, "A1", "", concept, "", source, term_type, concept, name, "", suppress, "4096"]
    assert len(fields) == 18
    return "|".join(fields) + "|\n"


def relation_row(first, second, relation):
    """A row of RXNREL.RRF: 16 fields."""
    fields = [first, "", "CUI", "RO", second, "", "CUI", relation, "1", "", "RXNORM", "", "", "", "N", "4096"]
    return "|".join(fields) + "|\n"


def type_row(concept, tui, name="Type"):
    """A row of MRSTY.RRF: 6 fields."""
    return f"{concept}|{tui}|B2.2.1.2.1|{name}|AT1|256|\n"


def write(path, *rows):
    path.write_text("".join(rows), encoding="utf-8")
    return str(path)


def run(*arguments):
    return main(parse_args([*map(str, arguments)]))


def table(folder, file_name):
    return [tuple(row.values()) for _, row in read_csv(folder / file_name, ("name", "group", "synonyms"))]


@pytest.fixture
def folder(tmp_path):
    """The folder of the result. If a test adds it to the word lists, it is taken back afterwards."""
    yield tmp_path / "terms"
    remove_lexicon_dir(tmp_path / "terms")


RXNORM = (
    name_row("10", "RXNORM", "IN", "zorbaxil"),
    name_row("10", "DRUGBANK", "SY", "zorbaxylic acid"),
    name_row("10", "MTHSPL", "SU", "ZORBAXIL"),
    name_row("10", "RXNORM", "TMSY", "zorba-xil"),
    name_row("11", "RXNORM", "PIN", "zorbaxil sodium"),
    name_row("12", "RXNORM", "BN", "Zorbex"),
    name_row("13", "RXNORM", "IN", "quandipine"),
    name_row("14", "RXNORM", "MIN", "quandipine / zorbaxil"),
    name_row("15", "RXNORM", "BN", "Quandizor"),
    name_row("16", "RXNORM", "SCD", "zorbaxil 10 MG Oral Tablet"),
    name_row("16", "RXNORM", "SY", "Zorbaxil 10 MG Tablet"),
    name_row("17", "RXNORM", "IN", "oldazine", suppress="O"),
    name_row("18", "RXNORM", "IN", "zorbaxilo", language="SPA"),
    name_row("6809", "RXNORM", "IN", "metformin"),
    name_row("6810", "RXNORM", "BN", "Glumetza Nova"),
)
RELATIONS = (
    relation_row("10", "11", "form_of"),
    relation_row("10", "12", "tradename_of"),
    relation_row("10", "15", "tradename_of"),
    relation_row("15", "13", "has_tradename"),
    relation_row("6810", "6809", "has_tradename"),
    relation_row("16", "10", "has_ingredient"),
)


def test_ingredients_of_rxnorm_are_names_and_their_synonyms_are_linked(tmp_path, folder, capsys):
    path = write(tmp_path / "RXNCONSO.RRF", *RXNORM)
    assert run("--rxnorm", path, "--output_dir", folder) == 0
    assert table(folder, "drugs.csv") == [
        ("zorbaxil", "general", "zorba-xil;zorbaxylic acid"),
        ("quandipine", "general", ""),
        ("quandipine / zorbaxil", "general", ""),
        ("Zorbex", "general", ""),
        ("Quandizor", "general", ""),
        ("Glumetza Nova", "general", ""),
    ]
    counts = capsys.readouterr().out
    for reason in ("1 not English", "1 suppressed or obsolete", "2 other term type", "1 synonym of a dose form"):
        assert reason in counts
    assert "1 built-in name" in counts  # metformin
    assert "1 salt whose ingredient is read" in counts


def test_relations_make_brands_and_salts_synonyms(tmp_path, folder):
    names, relations = write(tmp_path / "N.RRF", *RXNORM), write(tmp_path / "R.RRF", *RELATIONS)
    assert run("--rxnorm", names, "--relations", relations, "--output_dir", folder) == 0
    assert table(folder, "drugs.csv") == [
        ("zorbaxil", "general", "zorba-xil;zorbaxylic acid;zorbaxil sodium;Zorbex"),
        ("quandipine", "general", ""),
        ("quandipine / zorbaxil", "general", "Quandizor"),
        ("metformin", "oral diabetes drug", "Glumetza Nova"),
    ]


def test_a_built_in_drug_keeps_its_group_and_gains_the_names(tmp_path, folder):
    group = concepts("drug")["metformin"].group
    names, relations = write(tmp_path / "N.RRF", *RXNORM), write(tmp_path / "R.RRF", *RELATIONS)
    run("--rxnorm", names, "--relations", relations, "--output_dir", folder)
    assert [fact.value for fact in extract_facts("She takes Glumetza Nova.") if fact.type == "drug"] == []
    add_lexicon_dir(folder)
    assert [fact.value for fact in extract_facts("She takes Glumetza Nova.") if fact.type == "drug"] == ["metformin"]
    assert concepts("drug")["metformin"].group == group


UMLS = (
    name_row("C01", "SNOMEDCT_US", "FN", "Zorbaxian fever (disorder)"),
    name_row("C01", "SNOMEDCT_US", "PT", "Zorbaxian fever"),
    name_row("C01", "MSH", "MH", "Fever, Zorbaxian", preferred=True),
    name_row("C01", "MSH", "ET", "Zorbax disease"),
    name_row("C02", "SNOMEDCT_US", "FN", "Creaky ankle (finding)"),
    name_row("C02", "SNOMEDCT_US", "PT", "Creaky ankle"),
    name_row("C03", "SNOMEDCT_US", "FN", "Zorbaxectomy (procedure)"),
    name_row("C04", "SNOMEDCT_US", "FN", "Zorbaxella minor (organism)"),
    name_row("C05", "RXNORM", "IN", "zorbaxil"),
    name_row("C06", "SNOMEDCT_US", "FN", "Structure of zorbax (body structure)"),
    name_row("C07", "SNOMEDCT_US", "FN", "No zorbaxian fever (finding)"),
    name_row("C08", "SNOMEDCT_US", "FN", "Myocardial infarction (disorder)"),
    name_row("C08", "CHV", "SY", "zorbaxian heart attack"),
    name_row("C09", "SNOMEDCT_US", "SY", "ZBX", preferred=True),
    name_row("C09", "SNOMEDCT_US", "FN", "Zorbaxian fever (disorder)"),
)


def test_the_source_gives_the_type_of_a_concept(tmp_path, folder, capsys):
    assert run("--umls", write(tmp_path / "M.RRF", *UMLS), "--output_dir", folder) == 0
    assert table(folder, "conditions.csv") == [
        ("Zorbaxian fever", "general", "Zorbax disease"),
        ("myocardial infarction", concepts("condition")["myocardial infarction"].group, "zorbaxian heart attack"),
    ]
    assert table(folder, "symptoms.csv") == [("Creaky ankle", "general", "")]
    assert table(folder, "procedures.csv") == [("Zorbaxectomy", "general", "")]
    assert table(folder, "organisms.csv") == [("Zorbaxella minor", "general", "")]
    assert table(folder, "drugs.csv") == [("zorbaxil", "general", "")]
    counts = capsys.readouterr().out
    for reason in (
        *("1 other type of concept", "1 brackets, commas or other marks", "1 negation, doubt or time"),
        *("1 name of an earlier concept", "1 word of under 4 letters", "1 built-in name"),
    ):
        assert reason in counts


def test_semantic_types_give_the_type_where_they_are_there(tmp_path, folder):
    types = write(
        tmp_path / "MRSTY.RRF",
        *(type_row("C00", "T047"), type_row("C01", "T033"), type_row("C01", "T184"), type_row("C02", "T033")),
        *(type_row("C03", "T061"), type_row("C05", "T109"), type_row("C05", "T121"), type_row("C99", "T047")),
    )
    assert run("--umls", write(tmp_path / "M.RRF", *UMLS), "--semantic_types", types, "--output_dir", folder) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["drugs.csv", "procedures.csv", "symptoms.csv"]
    assert table(folder, "symptoms.csv") == [("Zorbaxian fever", "general", "Zorbax disease")]
    assert table(folder, "procedures.csv") == [("Zorbaxectomy", "general", "")]
    assert table(folder, "drugs.csv") == [("zorbaxil", "general", "")]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("zax", "word of under 4 letters"),
        ("Zorbax [bilateral]", "brackets, commas or other marks"),
        ("zorbax; acute", "brackets, commas or other marks"),
        ("zorbax of the left and of the right", "more than 6 words"),
        ("zorbaxil 10 mg", "strength or dose"),
        ("history of zorbax", "negation, doubt or time"),
        ("zorbax unspecified", "negation, doubt or time"),
    ],
)
def test_a_name_that_would_be_misread_is_left_out_and_counted(tmp_path, folder, capsys, name, reason):
    rows = [name_row("C1", "SNOMEDCT_US", "FN", "Zorbaxosis (disorder)"), name_row("C1", "CHV", "SY", name)]
    assert run("--umls", write(tmp_path / "M.RRF", *rows), "--output_dir", folder) == 0
    assert table(folder, "conditions.csv") == [("Zorbaxosis", "general", "")]
    assert f"1 {reason}" in capsys.readouterr().out


def test_the_fact_checker_reads_an_imported_name(tmp_path, folder, capsys):
    run("--rxnorm", write(tmp_path / "N.RRF", *RXNORM), "--output_dir", folder)
    texts = ["--note", "Started zorbaxil for gout.", "--summary", "Takes zorbaxylic acid and quandipine."]

    def verdicts(*flags):
        """Return (verdict, name) of each claim about a drug."""
        capsys.readouterr()
        assert fact_checker.main(fact_checker.parse_args([*texts, *flags])) == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines() if " drug " in line]
        return {(line[line.index("error") - 1], line[line.index("drug") + 1]) for line in lines}

    assert verdicts() == set()
    assert verdicts("--lexicon_dir", str(folder)) == {("supported", "zorbaxylic"), ("unsupported", "quandipine")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rxnorm", "none.rrf"), "none.rrf: cannot be read"),
        (("--rxnorm", "short.rrf"), "short.rrf, line 2: expected 18 fields"),
        (("--rxnorm", "empty.rrf"), "empty.rrf: the file is empty"),
        (("--rxnorm", "latin.rrf"), "latin.rrf, after line 0: not UTF-8"),
        (("--rxnorm", "known.rrf"), "no name of the export is new"),
        (("--umls", "unsorted.rrf"), "unsorted.rrf: C1 comes after C2"),
        (("--umls", "sorted.rrf", "--semantic_types", "unsorted_types.rrf"), "line 2: C1 comes after C2"),
        (("--umls", "sorted.rrf", "--relations", "known.rrf"), "--relations: RXNREL.RRF belongs to RxNorm"),
        (("--rxnorm", "known.rrf", "--semantic_types", "x"), "--semantic_types: MRSTY.RRF belongs to the UMLS"),
    ],
)
def test_bad_input_is_one_line(tmp_path, folder, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    first, second = name_row("C1", "CHV", "SY", "zorbax"), name_row("C2", "CHV", "SY", "zorbaxosis")
    write(tmp_path / "short.rrf", first, "C1|ENG|zorbax|\n")
    write(tmp_path / "empty.rrf")
    (tmp_path / "latin.rrf").write_bytes(first.replace("zorbax", "zörbax").encode("latin-1"))
    write(tmp_path / "known.rrf", name_row("6809", "RXNORM", "IN", "metformin"))
    write(tmp_path / "unsorted.rrf", second, first)
    write(tmp_path / "sorted.rrf", first, second)
    write(tmp_path / "unsorted_types.rrf", type_row("C2", "T047"), type_row("C1", "T047"))
    with pytest.raises(InputError) as caught:
        run(*arguments, "--output_dir", folder)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not folder.exists()


def test_a_folder_with_word_lists_is_not_mixed_with_new_ones(tmp_path, folder):
    folder.mkdir()
    (folder / "units.csv").write_text("spelling,factor,base_unit\nspoonful,5,mL\n")
    with pytest.raises(InputError, match="already holds CSV files"):
        run("--rxnorm", write(tmp_path / "N.RRF", *RXNORM), "--output_dir", folder)


def test_memory_does_not_grow_with_the_rows_that_are_left_out(tmp_path):
    row = name_row("9", "RXNORM", "SCD", "zorbaxil 10 MG Oral Tablet of a long description in many words")
    path = tmp_path / "large.rrf"
    write(path, name_row("1", "RXNORM", "IN", "zorbaxil"), *[row] * 20_000)
    tracemalloc.start()
    try:
        (found,) = rxnorm_concepts(path, None, Counter())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.names == ("zorbaxil",)
    assert peak < path.stat().st_size / 10


def test_a_large_umls_export_is_read_one_concept_at_a_time(tmp_path):
    path, types = tmp_path / "large.rrf", tmp_path / "types.rrf"
    write(path, *(name_row(f"C{number:06}", "CHV", "SY", f"zorbax {number}") for number in range(10_000)))
    write(types, *(type_row(f"C{number:06}", "T047") for number in range(10_000)))
    tracemalloc.start()
    try:
        assert sum(1 for _ in umls_concepts(path, types, Counter())) == 10_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < path.stat().st_size / 10
