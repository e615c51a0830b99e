"""The state of each stage of a chain, for `run_pipeline.py --status FOLDER`: read from the folder of the run alone."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.processes import running_process
from pipeline.stage_records import StageRecord
from script_io.errors import InputError
from script_io.files import read_json, write_json
from script_io.progress import last_position
from script_io.provenance import provenance
from script_io.stage_clock import about, seconds_left, tail

CHAIN_FILE = "run_config.json"


@dataclass(frozen=True)
class StageState:
    """The state of one stage, in words; `seconds` and `commit` only if it has finished and need not run again."""

    name: str
    words: str
    seconds: float | None = None
    commit: str | None = None

    def __str__(self) -> str:
        seconds = "" if self.seconds is None else f"{self.seconds:.0f} s"
        return f"{self.name:<28}  {self.words:<12}  {seconds:>8}  {self.commit or ''}".rstrip()


def write_chain(folder: Path, args: argparse.Namespace, planned: Sequence[str], shares: Mapping[str, float]) -> None:
    """Write the settings of a run, its planned stages and their usual shares of the time."""
    arguments = {name: flag_value(value) for name, value in vars(args).items()}
    content = {"arguments": arguments, "planned": planned, "stage_shares": dict(shares), **provenance()}
    write_json(folder / CHAIN_FILE, content)


def flag_value(value: Any) -> Any:
    """Return the value of a flag as JSON holds it: a path, or each path of a list, as text."""
    if isinstance(value, list):
        return [flag_value(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def status_of(folder: Path) -> str:
    """Return one line for each planned stage of a run, and one on how much is done.

    Raises InputError if the folder holds no run.
    """
    if not (folder / CHAIN_FILE).is_file():
        raise InputError(f"{folder}: holds no run of run_pipeline.py ({CHAIN_FILE} is missing)")
    chain: dict[str, Any] = read_json(folder / CHAIN_FILE)
    if "planned" not in chain:
        raise InputError(f"{folder}: is the folder of one stage; name the folder of the whole run")
    states = [state_of(folder, name) for name in chain["planned"]]
    seconds = {state.name: state.seconds for state in states if state.seconds is not None}
    left = seconds_left(chain["planned"], seconds, chain["stage_shares"])
    done = f"{len(seconds)} of {len(states)} stages finished{f'; {about(left)} left' if left else ''}"
    commits = sorted({state.commit for state in states if state.commit})
    several = [f"the stages are of {len(commits)} commits: {', '.join(commits)}"] * (len(commits) > 1)
    return "\n".join([*map(str, states), done, *several])


def state_of(folder: Path, name: str) -> StageState:
    """Return the state of one stage."""
    marker, log = folder / "stages" / f"{name}.json", folder / "logs" / f"{name}.log"
    if running_process(log) is not None:
        position = last_position(tail(log))
        return StageState(name, f"running{f', {position}' if position else ''}")
    record = StageRecord.read(marker)
    if record is None:
        return StageState(name, "waiting")
    if record.seconds is None:
        next_time = "be resumed" if record.can_resume() else "go on" if record.goes_on() else "start again"
        return StageState(name, f"stopped, will {next_time}")
    if missing := record.missing_outputs(folder):
        return StageState(name, f"will run again, since {missing[0]} is gone")
    if not record.is_up_to_date(marker):
        return StageState(name, "will run again, since what it reads has changed")
    return StageState(name, "finished", record.seconds, record.commit)
