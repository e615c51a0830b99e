"""The rules of the house: which package imports which, what is declared, and what a script loads for its help."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from repository import (
    PACKAGES,
    ROOT,
    SCRIPTS,
    SOURCES,
    TEST_TREES,
    TREES,
    help_of,
    imports_in,
    local_imports,
    options,
    parser_of,
    reachable,
)

# Every package and shared module, with the ones that it may import. Each row may name only what is in the rows below.
MAY_IMPORT = {
    "pipeline": "demo evaluation training sft_dataset language_model script_io",
    "assessment": "evaluation fact_checking clinical script_io",
    "demo": "evaluation fact_checking language_model script_io",
    "evaluation": "judging fact_checking clinical language_model script_io",
    "ingest": "negatives fact_checking sft_dataset clinical language_model script_io",
    "judging": "negatives scoring fact_checking clinical language_model script_io",
    "negatives": "fact_checking clinical script_io",
    "training": "publishing dpo_dataset language_model scoring dpo_loss script_io",
    "publishing": "language_model script_io",
    "fact_checking": "clinical script_io",
    "sft_dataset": "language_model scoring script_io",
    "dpo_dataset": "language_model scoring script_io",
    "clinical": "script_io",
    "language_model": "script_io",
    "scoring": "",
    "dpo_loss": "",
    "script_io": "",
}
SHARED_MODULES = {"sft_dataset", "dpo_dataset", "dpo_loss"}
ROOT_SCRIPTS = {name for name in SOURCES if "." not in name} - set(PACKAGES) - SHARED_MODULES
# These files check or report when run, and are libraries as well. `SFTInference` is the only public class of a script.
LIBRARIES = {"sft_dataset", "dpo_dataset", "sft_inference", "evaluation.fact_checker", "evaluation.report"}


def package_of(module: str) -> str:
    return module.split(".")[0]


def arrows(modules: Iterable[str]) -> set[tuple[str, str]]:
    """Return (importing package, imported package) for all imports of the modules, those inside functions included."""
    pairs = {(package_of(module), package_of(target)) for module in modules for target in local_imports(module)}
    return {(source, target) for source, target in pairs if source != target}


# --------------------------------------------------------------------------------------- direction of imports


def test_packages_import_what_the_table_says_and_nothing_else() -> None:
    modules = [name for name in SOURCES if package_of(name) in MAY_IMPORT]
    allowed = {(source, target) for source, targets in MAY_IMPORT.items() for target in targets.split()}
    assert arrows(modules) == allowed


def test_the_table_names_every_package_and_points_downward() -> None:
    assert {*MAY_IMPORT, "benchmarks"} >= {*PACKAGES, *SHARED_MODULES}
    order = list(MAY_IMPORT)
    for position, (name, targets) in enumerate(MAY_IMPORT.items()):
        assert set(targets.split()) <= set(order[position + 1 :]), name


def test_nothing_imports_benchmarks_or_a_script() -> None:
    for module in SOURCES:
        targets = local_imports(module)
        if package_of(module) != "benchmarks":
            assert "benchmarks" not in set(map(package_of, targets)), module
            assert not targets & (ROOT_SCRIPTS - LIBRARIES), module


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_never_import_each_other(script: str) -> None:
    assert not (local_imports(script) - LIBRARIES) & set(SCRIPTS)


def test_nothing_but_the_class_is_taken_from_inference() -> None:
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "sft_inference":
                assert [alias.name for alias in node.names] == ["SFTInference"], module


def test_no_module_imports_itself_through_others() -> None:
    # an import inside a function is no circle for Python, but one for the reader
    TopologicalSorter({module: local_imports(module) - {module} for module in SOURCES}).prepare()


def test_the_search_for_imports_sees_functions_and_type_checking() -> None:
    source = "import torch\nif TYPE_CHECKING:\n    from scoring import packed_rows\ndef f():\n    import dpo_loss.x\n"
    found = [(found.module, found.at_top) for found in imports_in(ast.parse(source))]
    assert found == [("torch", True), ("scoring.packed_rows", False), ("dpo_loss.x", False)]


# ----------------------------------------------------------------------------------------- one definition each


def literals(tree: ast.Module) -> Iterator[object]:
    """Yield the texts and numbers of a module, without docstrings."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in docstrings:
            yield node.value
        elif isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant):
            yield ast.literal_eval(node) if isinstance(node.op, ast.USub) else node.operand.value


def is_citation_pattern(value: object) -> bool:
    return isinstance(value, str) and r"\[Evidence" in value


# What has one definition, and the modules that may spell it. `citations` has the pattern of what is in the brackets.
HOMES: dict[str, tuple[Callable[[object], bool], set[str]]] = {
    "label": (lambda value: value == "factual_with_evidence", {"script_io.phase1_csv"}),
    "verdict": (lambda value: value in ("contradicted", "unsupported", "unverifiable"), {"fact_checking.claims"}),
    "pattern of citations": (is_citation_pattern, {"fact_checking.claims", "fact_checking.citations"}),
    "label without a loss": (lambda value: value == -100, {"scoring.padded_logps"}),
    "normal quantile": (lambda value: isinstance(value, float) and abs(value - 1.96) < 0.001, {"evaluation.stats"}),
}


@pytest.mark.parametrize("name", HOMES)
def test_shared_constants_are_defined_once(name: str) -> None:
    matches, homes = HOMES[name]
    found = {module for module, tree in TREES.items() if any(map(matches, literals(tree)))}
    independent = {module for module in found if package_of(module) == "benchmarks"}  # they recompute on purpose
    assert found - independent == homes


def test_the_root_has_at_most_13_python_files() -> None:
    assert len(list(ROOT.glob("*.py"))) <= 13


# ------------------------------------------------------------------------------------------- what gets loaded

_LOAD = """
import contextlib, importlib, io, json, os, sys

blocked, task, *names = sys.argv[1:]

class Block:
    def find_spec(self, name, path=None, target=None):
        if name in blocked.split():
            raise ModuleNotFoundError(name=name)

sys.meta_path.insert(0, Block())
refused = {}
for name in names:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            module = importlib.import_module(name)
            if task == "help":
                module.parse_args(["--help"])
    except SystemExit:
        pass
    except ModuleNotFoundError as error:
        refused[name] = error.name
print(json.dumps([refused, list(sys.modules)]))
"""


def load(names: Iterable[str], blocked: str, task: str = "import") -> tuple[dict[str, str], set[str]]:
    """Import modules in a fresh process without the blocked ones; with task `help`, print their help as well.

    Returns the modules that failed, each with the blocked module that it asked for, and the names of all loaded ones.
    """
    command = [sys.executable, "-c", _LOAD, blocked, task, *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    refused, loaded = json.loads(done.stdout)
    return refused, set(loaded)


@pytest.fixture(scope="module")
def after_help() -> tuple[dict[str, str], set[str]]:
    """What the help of all scripts fails on without torch, and what it loads."""
    return load(SCRIPTS, "torch transformers nltk sklearn matplotlib", "help")


def test_help_loads_no_slow_library(after_help: tuple[dict[str, str], set[str]]) -> None:
    # torch takes 1 s, nltk 0.8 s since it loads scikit-learn and pandas
    assert after_help[0] == {}


def test_torch_is_imported_inside_functions_only_to_keep_help_fast(
    after_help: tuple[dict[str, str], set[str]],
) -> None:
    inside = {name for name in SOURCES if any(line for line in torch_imports_in_functions(TREES[name]))}
    assert inside <= after_help[1]


def torch_imports_in_functions(tree: ast.Module) -> Iterator[int]:
    """Yield the lines of `import torch` inside functions; an import for type checkers only is none."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import) and "torch" in [alias.name for alias in node.names]:
                    yield node.lineno


def test_the_stage_scripts_need_no_library_of_the_evaluation() -> None:
    stages = ["stage_a_sft_training", "stage_b_dpo_training"]
    modules = {module for stage in stages for module in reachable(stage)}
    assert "training.checkpoints" in modules
    foreign = {package_of(found.module) for module in modules for found in imports_in(TREES[module])}
    assert not foreign & {"evaluation", "nltk", "scipy", "sklearn"}
    refused, loaded = load(stages, "")
    assert refused == {}
    assert not loaded & {"evaluation", "nltk", "scipy", "sklearn"}


# ---------------------------------------------------------------------------------------- declared libraries

# Where the name of the package is not the name of its module.
DISTRIBUTIONS = {"sklearn": "scikit-learn", "yaml": "pyyaml"}
# Declared, and used without an import statement of ours.
USED_BY_NAME = {
    *("fastapi", "uvicorn"),  # `transformers serve` needs them, which tests start
    *("pytest-xdist", "ruff", "mypy", "types-tqdm", "types-psutil", "pre-commit"),  # tools
}


def declared() -> dict[str, dict[str, str]]:
    """Return {heading: {package: minimal version}} of requirements_training.txt; each heading opens a part."""
    text = (ROOT / "requirements_training.txt").read_text(encoding="utf-8")
    parts: dict[str, dict[str, str]] = {}
    for part in text.split("\n\n"):
        heading, *lines = part.strip().splitlines()
        requirements = [line for line in lines if not line.startswith("#")]
        found = [re.match(r"([\w-]+)>=([\d.]+)", line) for line in requirements]
        assert all(found), f"{part}: give a lowest version"
        parts[heading] = {match[1].lower(): match[2] for match in found if match}
    return parts


def third_party(trees: Iterable[ast.Module]) -> set[str]:
    """Return the packages that the files import and that neither Python nor this repository brings."""
    tests = {path.stem for path in TEST_TREES}
    here = {*map(package_of, SOURCES), *tests, *sys.stdlib_module_names}
    names = {found.module.split(".")[0] for tree in trees for found in imports_in(tree)} - here
    return {DISTRIBUTIONS.get(name, name).replace("_", "-") for name in names}


def test_imports_equal_requirements() -> None:
    scripts, benchmarks, tests = declared().values()
    benchmark_trees = [tree for name, tree in TREES.items() if package_of(name) == "benchmarks"]
    imported_by_scripts = third_party(tree for name, tree in TREES.items() if package_of(name) != "benchmarks")
    imported_by_benchmarks = third_party(benchmark_trees) - imported_by_scripts
    imported_by_tests = third_party(TEST_TREES.values()) - imported_by_scripts - imported_by_benchmarks
    assert imported_by_scripts == set(scripts) - USED_BY_NAME
    assert imported_by_benchmarks == set(benchmarks) - USED_BY_NAME
    assert imported_by_tests == set(tests) - USED_BY_NAME


def test_constraints_pin_a_version_that_requirements_allow() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = {name.lower().replace("_", "-"): version for name, version in re.findall(r"(?m)^([\w.-]+)==(\S+)$", text)}
    for packages in declared().values():
        for name, lowest in packages.items():
            assert name in pins
            assert numbers(pins[name]) >= numbers(lowest), name


def numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


# --------------------------------------------------------------------------------------------- plain English

MANNERISMS = re.compile(r"\b(those of|beside|stands?)\b", re.IGNORECASE)


def docstrings(trees: Iterable[ast.Module]) -> Iterator[str]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for tree in trees:
        yield from (ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds))


def help_texts() -> Iterator[str]:
    for script in SCRIPTS:
        parser = parser_of(script)
        yield from (help_of(parser, action) for action in options(parser).values())


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_texts_have_few_mannerisms() -> None:
    texts = [*(page.read_text(encoding="utf-8") for page in pages()), *docstrings(TREES.values()), *help_texts()]
    found = [match[0] for text in texts for match in MANNERISMS.finditer(text)]
    assert len(found) < 10, f"{len(found)} found; write them as a plain sentence would be written"
