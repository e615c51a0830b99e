"""Ask line by line for the kind, the severity and the words of each error in a summary, and for its completeness.

Every question offers a way back and a way out. The keys of the tool are never stored as an answer in words.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from assessment.keys import BACK, Quit, key_of, reserved_text, unquoted
from assessment.ratings import COMPLETENESS, KINDS, SEVERITIES, SummaryError
from assessment.screen import blocks, columns, terminal_size, wrap
from assessment.words import Span, in_context, numbered, places_meant

PASTE_SECONDS = 0.05  # all lines of a paste arrive within this time
LONGEST_LINE = 4095  # bytes; without readline a terminal drops the rest of a line and says nothing
ANOTHER = "Another hallucination in this summary? y / n / b(ack), Enter: no > "
SUMMARY_TITLE = "Generated Summary:"
Store = Callable[[SummaryError], None]


def say(text: str) -> None:
    """Print a text wrapped to the current width of the terminal. Keeps one empty line at its beginning."""
    print("\n".join([""] * text.startswith("\n") + wrap(text, terminal_size()[0])))


def say_list(meanings: Mapping[str, str]) -> None:
    """Print names in one column and their meanings in the next."""
    width = 4 + max(map(len, meanings))
    for name, meaning in meanings.items():
        print("\n".join(columns([f"  {name}"], wrap(meaning, terminal_size()[0] - width), width, separator="")))


def read_lines(prompt: str = "> ") -> str:
    """Read one answer. Joins the lines of a paste, so that none of them answers the next question."""
    lines = [input(prompt)]
    # On Windows select does not work on consoles, so each line of a paste answers one question there.
    while sys.platform != "win32" and sys.stdin.isatty() and select.select([sys.stdin], [], [], PASTE_SECONDS)[0]:
        lines.append(input())
    if _may_be_cut(lines):
        say(
            f"The terminal takes {LONGEST_LINE} bytes a line, so your text was cut. Nothing is saved: give it in lines."
        )
        return read_lines(prompt)
    return " ".join(" ".join(lines).split())


def _may_be_cut(lines: Sequence[str]) -> bool:
    """Return whether the terminal has dropped the end of a line. readline, where there is one, takes lines whole."""
    is_raw = sys.modules.get("readline") is None and sys.stdin.isatty()
    return is_raw and any(len(line.encode(errors="replace")) >= LONGEST_LINE for line in lines)


def ask_text(question: str) -> str | None:
    """Ask for free text. Returns None for back; raises Quit. Any other key is asked about again, never stored."""
    while True:
        say(question)
        answer = read_lines()
        key = key_of(answer)
        if key is None:
            return answer
        if key == "q":
            raise Quit
        if key == "b":
            return None
        say(reserved_text(answer))


def ask_choice(question: str, choices: Mapping[str, str]) -> str:
    """Ask until the answer is a key or a name of the choices. Returns the key. Raises Quit."""
    while True:
        answer = input(question).strip().lower()
        for key, name in choices.items():
            if answer in (key, name):
                return key
        if key_of(answer) == "q":
            raise Quit
        say(f"Type one of {', '.join(filter(None, choices))}, or q to leave.")


def ask_another() -> str:
    """Ask whether the summary has another error. Returns y, n or b."""
    return ask_choice(ANOTHER, {"y": "yes", "n": "no", "": "no", "b": "back"}) or "n"


def ask_error(
    summary: str, store: Store, error: SummaryError, *, has_words: bool, step: int = 0
) -> SummaryError | None:
    """Ask for kind, severity and words of one error, and store it after each answer. None if it is taken back.

    The words are not asked if the error `has_words` already. `step` is the question to begin with, counted from 0.
    """
    questions = (ask_kind, ask_severity) if has_words else (ask_kind, ask_severity, ask_words)
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
    """Show the numbered summary, and return the error with its position in the summary; None for back."""
    print("\n" + "\n".join(blocks({SUMMARY_TITLE: numbered(summary)}, terminal_size()[0])))
    while True:
        answer = ask_text(
            "\nWhich words of the summary? Their number, as 3 or 3-5, or paste or type them "
            "(Enter: none in particular; b: back)"
        )
        if answer is None:
            return None
        if not answer:
            return replace(error, start=None, end=None, text="")
        places = places_meant(answer, summary)
        if not places:
            say("These words are not in the summary. Copy them from it exactly; a few words are enough.")
            continue
        place = places[0] if len(places) == 1 else ask_which(places, summary)
        if place is not None:
            say(f'Words: "{summary[slice(*place)]}"')
            return with_words(error, place, summary)


def ask_which(places: list[Span], summary: str) -> Span | None:
    """Ask which of several occurrences is meant; None for back."""
    say(f"\nThese words occur {len(places)} times. Which place do you mean?")
    choices = {str(number): in_context(place, summary) for number, place in enumerate(places, start=1)}
    say_list(choices)
    key = ask_choice(f"Place 1 to {len(choices)}, or b(ack) > ", {**choices, BACK[0]: BACK[1]})
    return None if key == BACK[0] else places[int(key) - 1]


def with_words(error: SummaryError, place: Span, summary: str) -> SummaryError:
    """Return the error with the words at this place."""
    return replace(error, start=place[0], end=place[1], text=summary[slice(*place)])


def text_to_store(answer: str) -> str:
    """Return a free text as it is stored: on one line, without the quotes around it."""
    return unquoted(" ".join(answer.split()))
