"""The questions behind a verdict of the manual assessment: the kind, the severity and the words of each error.

Every question can be left backwards, so that a slip is taken back and not recorded.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace

from assessment.ratings import KINDS, SEVERITIES, SummaryError, find_words
from assessment.screen import blocks, columns, terminal_size, wrap

PASTE_SECONDS = 0.05  # within which the further lines of a paste have arrived
ANOTHER = "Another hallucination in this summary? y / n, Enter: no > "
SUMMARY_TITLE = "Generated Summary:"
BACK = ("b", "back")


def say(text: str) -> None:
    """Prints wrapped to the terminal as it is now; an empty line first where the text begins with one."""
    print("\n".join([""] * text.startswith("\n") + wrap(text, terminal_size()[0])))


def say_list(meanings: Mapping[str, str]) -> None:
    """Prints names and beside them what they mean."""
    width = 4 + max(map(len, meanings))
    for name, meaning in meanings.items():
        print("\n".join(columns([f"  {name}"], wrap(meaning, terminal_size()[0] - width), width, separator="")))


def ask_text(question: str) -> str:
    """Asks for free text. The further lines of a paste are joined to it, lest they answer the next question."""
    say(question)
    lines = [input("> ")]
    # select knows no consoles on Windows; there readline's part, a paste taken as one line, is missing as well
    while sys.platform != "win32" and sys.stdin.isatty() and select.select([sys.stdin], [], [], PASTE_SECONDS)[0]:
        lines.append(input())
    return " ".join(" ".join(lines).split())


def ask_choice(question: str, choices: Mapping[str, str]) -> str:
    """Asks until the answer is one of the choices, by key or by name. Returns the key."""
    while True:
        answer = input(question).strip().lower()
        for key, name in choices.items():
            if answer in (key, name):
                return key
        say(f"Type one of {', '.join(filter(None, choices))}.")


def is_another() -> bool:
    """Whether the summary has a further error."""
    return ask_choice(ANOTHER, {"y": "yes", "n": "no", "": "no"}) == "y"


def ask_error(summary: str, store: Callable[[SummaryError], None]) -> SummaryError | None:
    """Asks for kind, severity and words of one error, storing after each answer; None where it is taken back."""
    questions = (ask_kind, ask_severity, ask_words)
    error, step = SummaryError(), 0
    while 0 <= step < len(questions):
        answered = questions[step](error, summary)
        step += 1 if answered else -1
        if answered:
            error = answered
            store(error)
    return error if step > 0 else None


def ask_kind(error: SummaryError, summary: str) -> SummaryError | None:
    """The error with its kind; None for back."""
    kind = ask_numbered("What kind of hallucination is it?", KINDS)
    return None if kind is None else replace(error, kind=kind)


def ask_severity(error: SummaryError, summary: str) -> SummaryError | None:
    """The error with its severity; None for back."""
    severity = ask_numbered("How severe is it?", SEVERITIES)
    return None if severity is None else replace(error, severity=severity)


def ask_numbered(question: str, meanings: Mapping[str, str]) -> str | None:
    """Asks for one of several names, by number or name; None for back."""
    say(f"\n{question}")
    choices = {str(number): name for number, name in enumerate(meanings, start=1)}
    say_list({f"{number}  {name}": meanings[name] for number, name in choices.items()})
    key = ask_choice(f"1 to {len(choices)}, or b(ack) > ", {**choices, BACK[0]: BACK[1]})
    return choices.get(key)


def ask_words(error: SummaryError, summary: str) -> SummaryError | None:
    """The error with its place in the summary, shown again to be copied from; None for back."""
    print("\n" + "\n".join(blocks({SUMMARY_TITLE: summary}, terminal_size()[0])))
    while True:
        words = ask_text("\nWhich words of the summary? Paste or type them (Enter: none in particular; b: back)")
        if words.lower() in BACK:
            return None
        if not words:
            return replace(error, start=None, end=None, text="")
        place = find_words(words, summary)
        if place is not None:
            return replace(error, start=place[0], end=place[1], text=summary[slice(*place)])
        say("These words do not stand in the summary. Copy them as they stand there; a few are enough.")
