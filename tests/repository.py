"""Read the repository itself: its modules, what each imports, and the command lines of its scripts."""

from __future__ import annotations

import argparse
import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from script_io import errors

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
MAIN_GUARD = 'if __name__ == "__main__":'


def module_name(path: Path) -> str:
    """Return the name under which a file of the repository is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {
    module_name(path): path
    for path in sorted([*ROOT.glob("*.py"), *(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))])
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in SOURCES.items()}
SCRIPTS = [name for name, path in SOURCES.items() if MAIN_GUARD in path.read_text(encoding="utf-8")]
TEST_TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "tests").rglob("*.py"))}


class Import(NamedTuple):
    """One imported name: the module it comes from, its line, and whether it is imported when the file is loaded."""

    module: str
    line: int
    at_top: bool


def imports_in(tree: ast.Module) -> Iterator[Import]:
    """Yield every import of a file, including those inside functions and for type checkers only.

    `from package import name` counts as the module `package.name` if there is such a module here.
    """
    at_top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, id(node) in at_top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield Import(inner if inner in SOURCES else node.module, node.lineno, id(node) in at_top)


def local_imports(module: str, *, at_top_only: bool = False) -> set[str]:
    """Return the modules of this repository that a module imports; all of them, or only those loaded with it."""
    found = (found for found in imports_in(TREES[module]) if found.at_top or not at_top_only)
    return {found.module for found in found} & set(SOURCES)


def reachable(module: str) -> set[str]:
    """Return the module and everything that it imports, directly or through others."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += local_imports(name)
    return found


def parser_of(script: str) -> argparse.ArgumentParser:
    """Return the parser that the script's `parse_args` builds."""
    return errors.parser_of(importlib.import_module(script).parse_args)


def options(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Return what the parser offers besides `--help` and `--config`, by the name under which `args` has it."""
    return {action.dest: action for action in parser._actions if action.dest not in ("help", "config")}


def help_of(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """Return the help of one flag as `--help` prints it, on one line."""
    formatter = parser._get_formatter()
    return " ".join(formatter._expand_help(action).split()) if action.help else ""
