"""Keep what a run has found so far in a file, so that a run that was stopped can be continued.

The first line of the JSONL file holds the settings of the run, and each following line a result. A line is written as
soon as the result exists. If the machine crashes, the last line may be incomplete; it is then ignored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from script_io.errors import InputError
from script_io.files import private_opener


class PartialFile:
    """The results of an earlier run with the same settings, and the place for further ones.

    `flag` is the flag that names another place to write.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], flag: str = "--output_dir") -> None:
        self.path, self.flag = path, flag
        self.settings = json.loads(json.dumps(settings))
        self.rows = self._read()
        self._is_begun = bool(self.rows)

    def _read(self) -> list[Any]:
        """Return the results, without any if there is no file or its settings differ."""
        if not self.path.is_file():
            return []
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        try:
            first, *rows = [json.loads(line) for line in whole.decode().splitlines()]
        except ValueError:
            first, rows = None, []
        if first != self.settings:
            print(f"{self.path}: left by a run of another model or other settings; it is not used")
            return []
        with self.path.open("r+b") as handle:
            handle.truncate(len(whole))
        return rows

    def append(self, row: Any) -> None:
        """Append a result. The first one of all starts a new file, which its owner alone can read."""
        lines = [row] if self._is_begun else [self.settings, row]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab" if self._is_begun else "wb", opener=private_opener) as handle:
                handle.write("".join(json.dumps(line) + "\n" for line in lines).encode())
        except OSError as error:
            raise InputError(f"{self.path}: cannot write there ({error.strerror}); name another {self.flag}") from error
        self._is_begun = True

    def kept(self) -> str:
        """Return where the results so far are, for a run that is stopped; an empty text if there are none."""
        return f"{self.path} keeps the results so far; the same command goes on from there." if self._is_begun else ""

    def remove(self) -> None:
        """Delete the file, once the results are written."""
        self.path.unlink(missing_ok=True)
        self._is_begun = False


class PartialRows:
    """A partial file of results with a key. `done` has them by key.

    `dtypes` are those in which the models were loaded (see `language_model.sampler_flags.local_sampler`).
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], flag: str = "--output_dir") -> None:
        self._file = PartialFile(path, {**settings, "rows": "key, result, dtypes"}, flag)
        self.path, self.kept = path, self._file.kept
        self.done: dict[str, Any] = {key: result for key, result, _ in self._file.rows}
        self.dtypes: dict[str, str] = self._file.rows[-1][2] if self._file.rows else {}

    def append(self, key: str, result: Any) -> None:
        """Append the result of a key."""
        self._file.append([key, result, self.dtypes])
        self.done[key] = result

    def remove(self) -> None:
        """Delete the file, once the results are written."""
        self._file.remove()


def key_of(text: str) -> str:
    """Return the key of a text, which does not show the text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
