"""A terminal's screen for tests: obeys the escape sequences that prompt_toolkit sends, and says what is to be seen."""

from __future__ import annotations

import re

_SEQUENCE = re.compile(r"\x1b\[([?>]?)([\d;]*)([A-Za-z])|\x1b[()][A-Z0-9]|\x1b[=>78]|\x1b\][^\x07]*\x07")


class Screen:
    """Rows of characters, each one cell wide."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.row = self.column = 0
        self.cells = [[" "] * columns for _ in range(rows)]

    @property
    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self.cells]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def feed(self, output: str) -> None:
        position = 0
        while position < len(output):
            match = _SEQUENCE.match(output, position)
            if match:
                if match[3] and not match[1]:
                    self._obey(match[3], [int(number or 0) for number in match[2].split(";")])
                elif match[3] == "h" and match[2] == "1049":
                    self._erase(0, 0)
                position = match.end()
            else:
                self._print(output[position])
                position += 1

    def _print(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self.row = min(self.row + 1, self.rows - 1)
        elif character == "\b":
            self.column = max(0, self.column - 1)
        elif character.isprintable() and self.column < self.columns:
            self.cells[self.row][self.column] = character
            self.column += 1

    def _obey(self, command: str, numbers: list[int]) -> None:
        count = max(1, numbers[0])
        if command == "H":
            row, column = [*numbers, 1][:2] if len(numbers) > 1 else (1, 1)
            self.row, self.column = max(1, row) - 1, max(1, column) - 1
        elif command in "AB":
            self.row = min(max(0, self.row + (count if command == "B" else -count)), self.rows - 1)
        elif command in "CD":
            self.column = min(max(0, self.column + (count if command == "C" else -count)), self.columns - 1)
        elif command == "J":
            self._erase(self.row, self.column) if numbers[0] == 0 else self._erase(0, 0)
        elif command == "K":
            self.cells[self.row][self.column :] = " " * (self.columns - self.column)

    def _erase(self, row: int, column: int) -> None:
        self.cells[row][column:] = " " * (self.columns - column)
        for below in range(row + 1, self.rows):
            self.cells[below] = [" "] * self.columns
