"""Run the single-key form on a terminal, with prompt_toolkit: full screen, redrawn at every key and every resize."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import BufferControl, ConditionalContainer, FormattedTextControl, HSplit, Layout, Window
from prompt_toolkit.layout.processors import BeforeInput

from assessment.desk import Desk
from assessment.key_form import KeyForm
from assessment.key_screen import SMALLEST
from assessment.screen import terminal_size

NAMED_KEYS = ("enter", "pagedown", "pageup", "left", "right", "backspace", "escape")


def takes_single_keys() -> bool:
    """Return whether this is a terminal that can be redrawn, of sufficient size. Pipes and TERM=dumb are not."""
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    is_plain = sys.platform != "win32" and os.environ.get("TERM", "") in ("", "dumb", "unknown")
    width, rows = terminal_size()
    return is_terminal and not is_plain and width >= SMALLEST[0] and rows >= SMALLEST[1]


def ask_with_keys(desk: Desk) -> None:
    """Ask for ratings until none is missing or the assessor leaves."""
    form = KeyForm(desk)
    if not form.finished:
        try:
            _application(form).run()
        except EOFError:  # the terminal was closed
            return
    if form.complete:
        count = len(desk.skipped_now)
        print(f"That was the last summary.{f' You skipped {count}: start again to rate them.' if count else ''}")
    else:
        print("Saved. Start the same command again to continue.")


def _application(form: KeyForm) -> Application[None]:
    buffer = Buffer(multiline=False)
    page = Window(FormattedTextControl(lambda: _styled(form), focusable=True, show_cursor=False), wrap_lines=False)
    line = Window(BufferControl(buffer, input_processors=[BeforeInput("> ")]), height=1)
    is_typing = Condition(lambda: form.typing is not None)
    layout = Layout(HSplit([page, ConditionalContainer(line, is_typing)]), focused_element=page)

    def update(event: KeyPressEvent) -> None:
        event.app.layout.focus(page if form.typing is None else line)
        if form.finished:
            event.app.exit()

    def accept(_: Buffer) -> bool:
        form.submit(buffer.text)
        return False  # empties the input line

    buffer.accept_handler = accept
    return Application(layout, key_bindings=_bindings(form, buffer, update, is_typing), full_screen=True)


def _bindings(form: KeyForm, buffer: Buffer, update: object, is_typing: Condition) -> KeyBindings:
    assert callable(update)
    keys = KeyBindings()

    @keys.add(Keys.Any, filter=~is_typing)
    def _press(event: KeyPressEvent) -> None:
        form.press("space" if event.data == " " else event.data.lower())
        update(event)

    for name in NAMED_KEYS:

        @keys.add(name, filter=~is_typing)
        def _press_named(event: KeyPressEvent, name: str = name) -> None:
            form.press(name)
            update(event)

    @keys.add(Keys.BracketedPaste, filter=~is_typing)
    def _ignore_paste(event: KeyPressEvent) -> None:
        form.message = "A pasted text answers no question here. "  # its letters are no keys

    @keys.add("enter", filter=is_typing)
    def _accept(event: KeyPressEvent) -> None:
        buffer.validate_and_handle()
        update(event)

    @keys.add("escape", filter=is_typing, eager=True)
    def _cancel(event: KeyPressEvent) -> None:
        buffer.reset()
        form.cancel()
        update(event)

    @keys.add("c-c")
    @keys.add(Keys.SIGINT)
    def _interrupt(event: KeyPressEvent) -> None:
        event.app.exit(exception=KeyboardInterrupt)

    @keys.add("c-d")
    def _leave(event: KeyPressEvent) -> None:
        event.app.exit()

    return keys


def _styled(form: KeyForm) -> StyleAndTextTuples:
    """Return the screen with the title in bold and the marked texts in reverse."""
    width, rows = terminal_size()
    title, *lines = form.view(width, rows)
    if form.typing is not None:
        lines.pop()  # the panel's last row, for the input line
    marks = form.marks()
    styled: StyleAndTextTuples = [("bold", title)]
    for line in lines:
        styled += [("", "\n"), *_marked(line, marks)]
    return styled


def _marked(line: str, marks: Sequence[str]) -> StyleAndTextTuples:
    if not marks:
        return [("", line)]
    pattern = "|".join(f"({re.escape(mark)})" for mark in marks)
    pieces = [piece for piece in re.split(pattern, line, flags=re.IGNORECASE) if piece]
    known = {mark.casefold() for mark in marks}
    return [("reverse" if piece.casefold() in known else "", piece) for piece in pieces]
