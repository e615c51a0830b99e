"""Judges of summaries behind one interface, and the flags that choose one.

    judge = make_judge("facts")                                                 # rules, see fact_checker.py
    judge = make_judge("nli", "path/of/an/nli/model", device="cpu")             # entailment, see nli_judge.py
    judge = make_judge("openai", "gpt-4o-mini", base_url=URL, assume_yes=True)  # see openai_judge.py
    check = judge.check(note, summary)          # FactCheck, or None where the judge failed; a failure is no verdict
    checks = judge.check_all(pairs, "Judging")  # many at once: in batches, or several requests at a time
    judge.name, judge.failures, judge.usage     # what stands in result files; failures so far; tokens and price

`facts` is deterministic and offline. `nli` takes any sequence-classification model with a label for entailment; it is
offline too. `openai` sends notes to the address it is given: `make_judge` refuses that without `assume_yes`, unless
the address is this very machine.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlparse

from tqdm import tqdm

from evaluation.fact_checker import FactCheck, check_summary
from script_io import InputError, read_text

JUDGES = ("facts", "nli", "openai")
DEFAULT_OPENAI_MODEL = "gpt-4o-mini"
_OPENAI_URL = "https://api.openai.com/v1"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_OPENAI_FLAGS = ("judge_base_url", "criterion_file", "price_per_million")
DPO_CONFIG = "dpo_config.json"  # what Stage B writes beside its model
_CRITERION = re.compile(r", criterion [0-9a-f]{8}$")  # at the end of a name, see OpenAIJudge
Pair = tuple[str, str]  # note, summary


class Judge(Protocol):
    """Whatever can hold a summary against its note."""

    name: str
    failures: int

    @property
    def usage(self) -> dict[str, Any] | None:
        """What has been asked of a judge that is paid by the token; None for one that is not."""
        ...

    def check(self, note: str, summary: str) -> FactCheck | None:
        """The claims of the summary with their verdicts; None where the judge failed (counted in `failures`)."""
        ...

    def check_all(self, pairs: Sequence[Pair], progress: str | None = None) -> list[FactCheck | None]:
        """As `check` for each pair, in their order. `progress` labels a progress bar, None for no bar."""
        ...


class FactsJudge:
    """The deterministic fact checker."""

    name = "facts"
    failures = 0
    usage = None

    def check(self, note: str, summary: str) -> FactCheck:
        return check_summary(note, summary)

    def check_all(self, pairs: Sequence[Pair], progress: str | None = None) -> list[FactCheck | None]:
        return [check_summary(*pair) for pair in tqdm(pairs, desc=progress, unit="summary", disable=hides(progress))]


def hides(progress: str | None) -> bool | None:
    """The `disable` of a progress bar: hidden without a label, else where nobody looks at a terminal."""
    return True if progress is None else None


def make_judge(
    name: str,
    model: str | None = None,
    *,
    base_url: str | None = None,
    criterion_file: Path | None = None,
    price_per_million: Sequence[float] | None = None,
    assume_yes: bool = False,
    device: str = "auto",
) -> Judge:
    """The judge of that name (one of JUDGES). Raises InputError where its model or consent is missing, or where
    it would not read what it is given.

    The criterion replaces what the openai judge is told to count as an error; `price_per_million` is in dollars, for
    tokens sent and tokens received.
    """
    if name != "openai":
        for flag, value in zip(_OPENAI_FLAGS, (base_url, criterion_file, price_per_million), strict=True):
            if value is not None:
                raise InputError(f"--{flag} is for --judge openai; leave it out")
    if name == "facts":
        if model:
            raise InputError("--judge_model is for --judge nli and openai; the facts judge has no model")
        return FactsJudge()
    if name == "nli":
        from evaluation.nli_judge import NliJudge

        if not model:
            raise InputError("--judge nli needs --judge_model: the path of a natural language inference model")
        return NliJudge(model, device)
    if name == "openai":
        from evaluation.openai_judge import OpenAIJudge

        url = base_url or os.environ.get("OPENAI_BASE_URL") or _OPENAI_URL
        stays_here = _is_this_machine(url)
        criterion = _read_criterion(criterion_file) if criterion_file else None
        if price_per_million and not all(0 <= price < math.inf for price in price_per_million):
            given = " ".join(map(str, price_per_million))
            raise InputError(f"--price_per_million {given}: give two prices in dollars, 0 or more")
        if not assume_yes and not stays_here:
            raise InputError(f"--judge openai sends every note and summary to {url}; add --yes if that is allowed")
        return OpenAIJudge(model or DEFAULT_OPENAI_MODEL, url, criterion, price_per_million, stays_here=stays_here)
    raise InputError(f"--judge {name}: there is no such judge; choose one of {', '.join(JUDGES)}")


def _read_criterion(path: Path) -> str:
    text = read_text(path, "correct --criterion_file")
    if not text.strip():
        raise InputError(f"{path}: the file is empty; say there what counts as an error")
    return text


def _is_this_machine(url: str) -> bool:
    address = urlparse(url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise InputError(f"--judge_base_url {url}: is no address; give one such as http://localhost:8000/v1")
    return address.hostname in _LOOPBACK


# ------------------------------------------------------------------------------------------------- flags


def add_judge_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of every script that judges."""
    group = parser.add_argument_group("Judge")
    group.add_argument(
        "--judge",
        choices=JUDGES,
        default="facts",
        help="facts: rules, offline; nli: an entailment model; openai: a language model (default: facts)",
    )
    group.add_argument("--judge_model", help="path of the nli model, or name of the openai model (gpt-4o-mini)")
    group.add_argument("--judge_base_url", help="address of the openai judge (default: OPENAI_BASE_URL, else OpenAI's)")
    group.add_argument("--criterion_file", type=Path, help="text that tells the openai judge what counts as an error")
    group.add_argument(
        "--price_per_million",
        type=float,
        nargs=2,
        metavar=("IN", "OUT"),
        help="dollars for a million tokens sent and received, to print what the openai judge costs (default: OpenAI's "
        "list price where it is known)",
    )
    group.add_argument("--yes", action="store_true", help="notes may leave this machine for the openai judge")


def judge_of_arguments(args: argparse.Namespace, device: str = "auto") -> Judge:
    """The judge that the flags of `add_judge_arguments` ask for. Raises InputError for flags that it does not read."""
    return make_judge(
        args.judge,
        args.judge_model,
        base_url=args.judge_base_url,
        criterion_file=args.criterion_file,
        price_per_million=args.price_per_million,
        assume_yes=args.yes,
        device=device,
    )


def usage_text(usage: Mapping[str, Any]) -> str:
    """`12,000 tokens sent and 2,300 received in 20 replies; $0.0032 (prices given)`."""
    text = f"{usage['prompt_tokens']:,} tokens sent and {usage['completion_tokens']:,} received"
    text += f" in {usage['replies']:,} replies"
    if usage["replies_without_usage"]:
        text += f", {usage['replies_without_usage']:,} of which do not say their tokens"
    if usage["price_usd"] is None:
        return f"{text}; its price is not known, give --price_per_million"
    return f"{text}; ${usage['price_usd']:.4f} ({usage['prices']})"


# ------------------------------------------------------------------------------------ who made the pairs


def judges_of_training_pairs(model_path: str | Path) -> frozenset[str] | None:
    """The judges that made the preference pairs which a model was trained on; None where that cannot be told.

    Stage B records them in `dpo_config.json`, those of earlier rounds with them. An adapter of Stage A has seen none.
    """
    folder = Path(model_path)
    try:
        if not (folder / DPO_CONFIG).is_file():
            return frozenset() if (folder / "sft_config.json").is_file() else None
        judges = json.loads((folder / DPO_CONFIG).read_text(encoding="utf-8"))["pair_judges"]
        return None if judges is None else frozenset(map(str, judges))
    except (OSError, ValueError, KeyError, TypeError):  # written by something else
        return None


def nli_name(model: str) -> str:
    """The name of an nli judge; a folder stands in it as its absolute path, however it was spelled."""
    return f"nli:{Path(model).resolve() if Path(model).is_dir() else model}"


def model_of_judge(name: str) -> str:
    """A judge's name without its criterion, and with an nli model as `nli_name` writes it: `openai:gpt-4o`.

    A judge told another criterion is another judge, but its model has the same habits that a student learns.
    """
    return nli_name(name.removeprefix("nli:")) if name.startswith("nli:") else _CRITERION.sub("", name)


def has_made_pairs(name: str, judges: Iterable[str]) -> bool:
    """Whether the judge of that name is among `judges`, under this or another criterion."""
    return model_of_judge(name) in map(model_of_judge, judges)


def judges_behind(pairs: str | Path | Sequence[str | Path], start_model: str | Path) -> list[str] | None:
    """Those that made the pairs of one JSONL or several, or those that the model to start from was trained on, sorted.

    None where the latter cannot be told.
    """
    judges = judges_of_training_pairs(start_model)
    if judges is None:
        return None
    paths = [pairs] if isinstance(pairs, str | Path) else pairs
    return sorted(judges.union(*(judges_of_pairs(Path(path)) for path in paths)))


def judges_of_pairs(path: Path) -> frozenset[str]:
    """The judges that chose or verified the pairs of a JSONL: those named in its rows, and `facts` for made negatives.

    A made negative is one that the rules of the fact checker have verified; a pair that a person labelled has none.
    """
    judges: set[str] = set()
    with path.open(encoding="utf-8") as lines:
        for row in map(json.loads, filter(str.strip, lines)):
            if "judge" in row:
                judges.add(row["judge"])
            if any(edit["verdict"] != "labelled" for edit in row.get("edits", ())):
                judges.add(FactsJudge.name)
    return frozenset(judges)
