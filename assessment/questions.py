"""Ask for the kind, the severity and the words of each error in a summary, and for its completeness.

Every question offers a way back, so that a slip can be taken back before it is recorded.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace

from assessment.ratings import COMPLETENESS, KINDS, SEVERITIES, SummaryError, find_words
from assessment.screen import blocks, columns, terminal_size, wrap

PASTE_SECONDS = 0.05  # all lines of a paste arrive within this time
ANOTHER = "Another hallucination in this summary? y / n, Enter: no > "
SUMMARY_TITLE = "Generated Summary:"
BACK = ("b", "back")


def say(text: str) -> None:
    """Print a text wrapped to the current width of the terminal. Keeps one empty line at its beginning."""
    print("\n".join([""] * text.startswith("\n") + wrap(text, terminal_size()[0])))


def say_list(meanings: Mapping[str, str]) -> None:
    """Print names in one column and their meanings in the next."""
    width = 4 + max(map(len, meanings))
    for name, meaning in meanings.items():
        print("\n".join(columns([f"  {name}"], wrap(meaning, terminal_size()[0] - width), width, separator="")))


def ask_text(question: str) -> str:
    """Ask for free text. Joins the lines of a paste, so that none of them answers the next question."""
    say(question)
    lines = [input("> ")]
    # On Windows select does not work on consoles, so each line of a paste answers one question there.
    while sys.platform != "win32" and sys.stdin.isatty() and select.select([sys.stdin], [], [], PASTE_SECONDS)[0]:
        lines.append(input())
    return " ".join(" ".join(lines).split())


def ask_choice(question: str, choices: Mapping[str, str]) -> str:
    """Ask until the answer is a key or a name of the choices. Returns the key."""
    while True:
        answer = input(question).strip().lower()
        for key, name in choices.items():
            if answer in (key, name):
                return key
        say(f"Type one of {', '.join(filter(None, choices))}.")


def is_another() -> bool:
    """Ask whether the summary has another error."""
    return ask_choice(ANOTHER, {"y": "yes", "n": "no", "": "no"}) == "y"


def ask_error(summary: str, store: Callable[[SummaryError], None]) -> SummaryError | None:
    """Ask for kind, severity and words of one error, and store it after each answer. None if it is taken back."""
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
    """Return the error with its kind; None for back."""
    kind = ask_numbered("What kind of hallucination is it?", KINDS)
    return None if kind is None else replace(error, kind=kind)


def ask_severity(error: SummaryError, summary: str) -> SummaryError | None:
    """Return the error with its severity; None for back."""
    severity = ask_numbered("How severe is it?", SEVERITIES)
    return None if severity is None else replace(error, severity=severity)


def ask_numbered(question: str, meanings: Mapping[str, str]) -> str | None:
    """Ask for one of several names. The answer is a number or a name; None for back."""
    say(f"\n{question}")
    choices = {str(number): name for number, name in enumerate(meanings, start=1)}
    say_list({f"{number}  {name}": meanings[name] for number, name in choices.items()})
    key = ask_choice(f"1 to {len(choices)}, or b(ack) > ", {**choices, BACK[0]: BACK[1]})
    return choices.get(key)


def ask_completeness() -> int | None:
    """Ask how complete the summary is. Returns a key of COMPLETENESS; None for back."""
    say("\nHow complete is the summary? Count what it states rightly; an error does not state a fact.")
    say_list({str(level): meaning for level, meaning in COMPLETENESS.items()})
    choices = {str(level): str(level) for level in COMPLETENESS}
    answer = ask_choice(f"0 to {max(COMPLETENESS)}, or b(ack) > ", {**choices, BACK[0]: BACK[1]})
    return int(answer) if answer in choices else None


def ask_words(error: SummaryError, summary: str) -> SummaryError | None:
    """Show the summary to copy from, and return the error with its position in the summary; None for back."""
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
        say("These words are not in the summary. Copy them from it exactly; a few words are enough.")
