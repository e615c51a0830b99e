"""Render a template into one self-contained page that runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from evaluation.stats import p_text
from script_io.files import atomic_write

PAGES = Path(__file__).resolve().parent


def csp_hash(text: str) -> str:
    """Return the source expression that lets a page's security policy run exactly this inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def write_page(path: Path, template: str, **content: Any) -> None:
    """Render a template, with the style and the script that all pages share, into a file."""
    environment = Environment(
        loader=FileSystemLoader(PAGES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"p_text": p_text, "csp_hash": csp_hash, "percent": "{:.1%}".format}
    style, script = (Markup((PAGES / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js"))
    with atomic_write(path) as handle:
        handle.writelines(environment.get_template(template).generate(style=style, script=script, **content))


def label_of(name: str) -> str:
    return "ROUGE-L" if name == "rouge_l" else name.replace("_", " ")
