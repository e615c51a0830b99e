"""Feed every reader of files and texts with hostile input, guided by the code that it reaches (atheris, libFuzzer).

In:  the targets of benchmarks/fuzz_targets.py, each with a few seeds.
Out: a line per target with its seconds, executions and findings, and in `--output_dir` the corpus of each target,
     which a later run goes on from, the inputs that broke it, and `fuzz.json`. Exit code 1 if anything was found.

    make fuzz
    python benchmarks/fuzz.py --targets clinical_reader judge_reply --seconds 600
    python benchmarks/fuzz.py --repeat runs/fuzz/judge_reply/crash-0123 --targets judge_reply

A finding is an exception other than a refusal, a broken promise of the target, or an input that takes over 10 s.
Each one is to become a test with a name, and its mend. Needs Linux and `pip install atheris`.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, Python looks in benchmarks/ only

from script_io.errors import ArgumentParser, InputError, at_least, run_script
from script_io.files import write_json

PACKAGES = "assessment clinical evaluation fact_checking ingest judging language_model negatives script_io".split()
LONGEST = 4096  # bytes of an input
SLOW = 10  # seconds of one input that count as a finding
# Words that mutations put in; libFuzzer finds single bytes by itself
WORDS = (
    "mg", "mcg", "500", "0.5", "twice daily", "BID", "q8h", "metformin", "warfarin", "chest pain", "no ", "denies ",
    "left", "right", "mother", "history of ", "BP 120/80", "A1c 7.2%", "03/10/2024", "three weeks", "54-year-old",
    "Doctor:", "Patient:", "Plan:", "[Evidence: S1]", "Conf: 0.8", "Mr. ", "MRN", "@", "Road", "```json", '{"claims":',
    '"verdict":', '"supported"', "null", "NaN", "\\ud800", "1e999", '""', "'=", "\r\n", "\u2028", "\ufeff", "\u0660",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What one target's run came to."""

    target: str
    seconds: float
    executions: int
    findings: list[str]  # files of inputs that broke it


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    group = parser.add_argument_group("Fuzzing")
    group.add_argument("--targets", nargs="+", metavar="TARGET", help="targets to run (default: all)")
    group.add_argument(
        "--seconds", type=at_least(1), default=600, help="seconds for each target (default: %(default)s)"
    )
    group.add_argument("--seed", type=at_least(1), default=42, help="seed of the mutations (default: %(default)s)")
    group.add_argument(
        "--repeat", type=Path, metavar="FILE", help="feed this input to the target, once (default: none)"
    )
    group.add_argument(
        "--output_dir", type=Path, default=Path("runs/fuzz"), help="folder of corpora and findings (default: runs/fuzz)"
    )
    return parser.parse_args(argv)


def feed(target: str, options: list[str]) -> None:
    """Hand this process to libFuzzer, which ends it."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=PACKAGES):
        module = importlib.import_module("benchmarks.fuzz_targets")
        targets = module.TARGETS
        for seed in module.SEEDS.get(target, []):  # loads what is read at first use, before an input is timed
            targets[target](seed)
    atheris.Setup([sys.argv[0], *options], targets[target])
    atheris.Fuzz()


def run_target(target: str, args: argparse.Namespace) -> Outcome:
    """Fuzz one target in a process of its own."""
    from benchmarks.fuzz_targets import SEEDS

    folder = args.output_dir / target
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS.get(target, [])):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = folder / "words.dict"
    words.write_text("".join(f'"{_quoted(word)}"\n' for word in WORDS), encoding="utf-8")
    options = [
        *(str(corpus), f"-dict={words}", f"-artifact_prefix={folder}{os.sep}", f"-max_len={LONGEST}"),
        *(f"-max_total_time={args.seconds}", f"-timeout={SLOW}", f"-seed={args.seed}", "-print_final_stats=1"),
    ]
    before = set(folder.iterdir())
    start = time.monotonic()
    command = [sys.executable, __file__, "--feed", target, *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    log = done.stdout.decode(errors="replace")
    (folder / "log").write_text(log, encoding="utf-8")
    executed = re.search(r"stat::number_of_executed_units:\s*(\d+)", log)
    found = sorted(str(path) for path in set(folder.iterdir()) - before if re.match(r"crash|timeout|oom", path.name))
    if not executed and not found:
        raise InputError(f"{target}: the fuzzer did not run; see {folder / 'log'}")
    return Outcome(target, round(time.monotonic() - start, 1), int(executed[1]) if executed else 0, found)


def _quoted(word: str) -> str:
    """Return a word as libFuzzer's dictionaries spell it."""
    plain = word.encode().decode("latin-1")
    return "".join(c if " " <= c <= "~" and c not in '"\\' else f"\\x{ord(c):02x}" for c in plain)


def main(args: argparse.Namespace) -> int:
    """Fuzz the chosen targets one after the other, and report."""
    from benchmarks.fuzz_targets import TARGETS

    targets = args.targets or list(TARGETS)
    if unknown := [name for name in targets if name not in TARGETS]:
        raise InputError(f"--targets {' '.join(unknown)}: no such target; there are {', '.join(TARGETS)}")
    if args.repeat:
        for name in targets:
            TARGETS[name](args.repeat.read_bytes())
        return 0
    if importlib.util.find_spec("atheris") is None:
        raise InputError("fuzzing needs atheris, on Linux; run: pip install atheris")
    print("| target | seconds | executions | findings |\n| --- | --- | --- | --- |")
    outcomes = []
    for name in targets:
        outcomes.append(run_target(name, args))
        row = outcomes[-1]
        print(f"| {name} | {row.seconds:.0f} | {row.executions:,} | {', '.join(row.findings) or 'none'} |", flush=True)
    hours = sum(row.seconds for row in outcomes) / 3600
    findings = sum(len(row.findings) for row in outcomes)
    print(f"{hours:.2f} hours, {sum(row.executions for row in outcomes):,} executions, {findings} findings")
    write_json(args.output_dir / "fuzz.json", [asdict(row) for row in outcomes])
    return 1 if findings else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--feed"]:  # what `run_target` starts
        feed(sys.argv[2], sys.argv[3:])
    sys.exit(run_script(main, parse_args()))
