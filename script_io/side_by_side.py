"""Lay out texts in columns next to each other, with the help of rich."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Literal


def side_by_side(titles: Sequence[str], texts: Sequence[str], *, width: int, colour: bool) -> str:
    """Return the texts in columns of equal width under their titles, wrapped to `width` terminal cells in all.

    The texts may hold escape sequences of colours, which stay with their words if `colour` is set.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.ASCII2, show_edge=False, padding=(0, 1), expand=True)
    for title in titles:
        table.add_column(Text(title), ratio=1, overflow="fold")
    table.add_row(*map(Text.from_ansi, texts))
    page = io.StringIO()
    colours: Literal["standard"] | None = "standard" if colour else None
    Console(file=page, width=width, color_system=colours, force_terminal=colour, legacy_windows=False).print(table)
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines())
