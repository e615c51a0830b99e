"""Run the single-key form on a terminal, with prompt_toolkit: full screen, redrawn at every key and every resize."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

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
from script_io.stop_signals import Terminated, handled

NAMED_KEYS = ("enter", "pagedown", "pageup", "left", "right", "backspace", "escape")


def takes_single_keys() -> bool:
    """Return whether this is a terminal that can be redrawn, of sufficient size. Pipes and TERM=dumb are not."""
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    is_plain = sys.platform != "win32" and os.environ.get("TERM", "") in ("", "dumb", "unknown")
    width, rows = terminal_size()
    return is_terminal and not is_plain and width >= SMALLEST[0] and rows >= SMALLEST[1]


def ask_with_keys(desk: Desk) -> None:
    """Ask for ratings until none is missing or the assessor leaves. Signals raise what they raise elsewhere.

    An error while an answer is stored restores the terminal and is raised as well.
    """
    form = KeyForm(desk)
    if not form.finished:
        application = _application(form)

        def leave(number: int) -> None:
            """Leave the full screen. An exception raised by the handler itself would be lost in the event loop."""
            if application.loop is not None:
                application.loop.call_soon_threadsafe(lambda: _exit(application, Terminated(number)))

        with suppress(EOFError), handled(leave, [signal.SIGTERM]):  # EOFError: the terminal was closed
            application.run()
    if form.complete:
        count = len(desk.skipped_now)
        print(f"That was the last summary.{f' You skipped {count}: start again to rate them.' if count else ''}")
    else:
        print("Saved. Start the same command again to continue.")


def _exit(application: Application[None], error: BaseException) -> None:
    if not application.is_done:
        application.exit(exception=error)


def _application(form: KeyForm) -> Application[None]:
    os.environ.setdefault("PROMPT_TOOLKIT_NO_CPR", "1")  # a full screen needs no answer from the terminal
    buffer = Buffer(multiline=False)
    page = Window(FormattedTextControl(lambda: _styled(form), focusable=True, show_cursor=False), wrap_lines=False)
    line = Window(BufferControl(buffer, input_processors=[BeforeInput("> ")]), height=1)
    is_typing = Condition(lambda: form.typing is not None)
    layout = Layout(HSplit([page, ConditionalContainer(line, is_typing)]), focused_element=page)

    def obey(event: KeyPressEvent, action: Callable[[], None]) -> None:
        """Run what a key does. An error ends the application, which would only log it otherwise."""
        try:
            action()
        except Exception as error:
            event.app.exit(exception=error)
            return
        event.app.layout.focus(page if form.typing is None else line)
        if form.finished:
            event.app.exit()

    return Application(layout, key_bindings=_bindings(form, buffer, obey, is_typing), full_screen=True)


def _bindings(
    form: KeyForm, buffer: Buffer, obey: Callable[[KeyPressEvent, Callable[[], None]], None], is_typing: Condition
) -> KeyBindings:
    keys = KeyBindings()

    @keys.add(Keys.Any, filter=~is_typing)
    def _press(event: KeyPressEvent) -> None:
        obey(event, lambda: form.press("space" if event.data == " " else event.data.lower()))

    for name in NAMED_KEYS:

        @keys.add(name, filter=~is_typing)
        def _press_named(event: KeyPressEvent, name: str = name) -> None:
            obey(event, lambda: form.press(name))

    @keys.add(Keys.BracketedPaste, filter=~is_typing)
    def _ignore_paste(event: KeyPressEvent) -> None:
        form.message = "A pasted text answers no question here. "  # its letters are no keys

    @keys.add("enter", filter=is_typing)
    def _submit(event: KeyPressEvent) -> None:
        text = buffer.text
        buffer.reset()
        obey(event, lambda: form.submit(text))

    @keys.add("escape", filter=is_typing, eager=True)
    def _cancel(event: KeyPressEvent) -> None:
        buffer.reset()
        obey(event, form.cancel)

    @keys.add("c-c")
    @keys.add(Keys.SIGINT)
    def _interrupt(event: KeyPressEvent) -> None:
        event.app.exit(exception=KeyboardInterrupt())

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
