"""Make a judge by its name, and the command-line flags that choose one.

    judge = make_judge("facts")                                                 # rules, see fact_checking/checker.py
    judge = make_judge("nli", "path/of/an/nli/model", device="cpu")             # see nli_judge.py, span_judge.py
    judge = make_judge("detector", "path/of/a/detector")                        # trained judge, see detector.py
    judge = make_judge("likelihood", "path/of/a/causal/model")                  # see likelihood_judge.py
    judge = make_judge("openai", "gpt-4o-mini", base_url=URL, assume_yes=True)  # see openai_judge.py
    check = judge.check(note, summary)          # FactCheck, or None if the judge failed, which is no verdict
    checks = judge.check_all(pairs, "Judging")  # in batches, or several requests at a time
    judge.name, judge.failures, judge.usage     # name in result files; failures so far; tokens and price

`facts` is deterministic and offline. `nli` takes a sequence-classification model with a label for entailment or a
single logit for support, or a token-classification model that marks unsupported words. It is offline too. `openai`
sends notes to the given address: `make_judge` refuses this without `assume_yes`, unless the address is this machine.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from fact_checking.checker import check_summary
from fact_checking.claims import FactCheck
from judging.judge import FACTS, Judge, NoteAndSummary
from judging.pair_makers import has_made_pairs
from judging.rubrics import RUBRICS
from language_model.threads import use_threads
from script_io.errors import InputError
from script_io.files import read_text
from script_io.progress import progress_bar

JUDGES = (FACTS, "nli", "detector", "likelihood", "openai")
_MODEL_OF = {"detector": "a detector of judging.train_detector", "likelihood": "a causal language model or an adapter"}
DEFAULT_OPENAI_MODEL = "gpt-4o-mini"
_OPENAI_URL = "https://api.openai.com/v1"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_OPENAI_FLAGS = ("judge_base_url", "criterion_file", "price_per_million", "rubric")


class FactsJudge:
    """The deterministic fact checker."""

    name = FACTS
    failures = 0
    usage = None

    def check(self, note: str, summary: str) -> FactCheck:
        """See `Judge`."""
        return check_summary(note, summary)

    def check_all(self, pairs: Sequence[NoteAndSummary], progress: str | None = None) -> list[FactCheck | None]:
        """See `Judge`."""
        bar = progress_bar(pairs, label=progress, total=len(pairs), unit="summary")
        return [check_summary(*pair) for pair in bar]


def make_judge(
    name: str,
    model: str | None = None,
    *,
    base_url: str | None = None,
    criterion_file: Path | None = None,
    price_per_million: Sequence[float] | None = None,
    rubric: str | None = None,
    evidence_model: Path | None = None,
    assume_yes: bool = False,
    device: str = "auto",
) -> Judge:
    """Return the judge of this name, one of JUDGES.

    The text in `criterion_file` replaces the openai judge's definition of an error. `price_per_million` is in dollars,
    for tokens sent and for tokens received. `rubric` is a key of RUBRICS, for grades next to the claims of the openai
    judge. Raises InputError if the model or the consent is missing, or if an argument
    is for another judge.
    """
    if name != "openai":
        for flag, value in zip(_OPENAI_FLAGS, (base_url, criterion_file, price_per_million, rubric), strict=True):
            if value is not None:
                raise InputError(f"--{flag} is for --judge openai; leave it out")
    if evidence_model is not None and name != FACTS:
        raise InputError(f"--evidence_model is for --judge facts; for --judge {name}, leave it out")
    if name == FACTS:
        if model:
            raise InputError(
                "--judge_model is not for --judge facts; a detector next to the rules is named by --evidence_model"
            )
        return _facts_judge(evidence_model, device)
    if name in ("detector", "likelihood"):
        if not model:
            raise InputError(f"--judge {name} needs --judge_model: the folder of {_MODEL_OF[name]}")
        return _learnt_judge(name, model, device)
    if name == "nli":
        if not model:
            raise InputError("--judge nli needs --judge_model: the path of a natural language inference model")
        return _classifier_judge(model, device)
    if name == "openai":
        from judging.openai_judge import OpenAIJudge

        url = base_url or os.environ.get("OPENAI_BASE_URL") or _OPENAI_URL
        stays_here = _is_this_machine(url)
        criterion = _read_criterion(criterion_file) if criterion_file else None
        if price_per_million and not all(0 <= price < math.inf for price in price_per_million):
            given = " ".join(map(str, price_per_million))
            raise InputError(f"--price_per_million {given}: give two prices in dollars, 0 or more")
        if not assume_yes and not stays_here:
            raise InputError(f"--judge openai sends every note and summary to {url}; add --yes if that is allowed")
        named = model or DEFAULT_OPENAI_MODEL
        return OpenAIJudge(named, url, criterion, price_per_million, rubric=rubric, stays_here=stays_here)
    raise InputError(f"--judge {name}: there is no such judge; choose one of {', '.join(JUDGES)}")


def _facts_judge(evidence_model: Path | None, device: str) -> Judge:
    """Return the rules, alone or with a detector."""
    if evidence_model is None:
        return FactsJudge()
    from judging.detector import EvidenceJudge, WordDetector

    return EvidenceJudge(WordDetector(evidence_model, device))


def _learnt_judge(name: str, model: str, device: str) -> Judge:
    """Return the judge `detector` or `likelihood`."""
    if name == "detector":
        from judging.detector import DetectorJudge, WordDetector

        return DetectorJudge(WordDetector(Path(model), device))
    from judging.likelihood_judge import LikelihoodJudge

    return LikelihoodJudge(model, device)


def independent_judge(judge: Judge, makers: Iterable[str]) -> Judge | None:
    """Return a judge at hand that made none of a model's pairs, if `judge` made some; else None.

    `makers` are the names of the judges that made the pairs. The rules are always at hand, and with an evidence model
    the detector alone is.
    """
    makers = list(makers)
    if not has_made_pairs(judge.name, makers):
        return None
    if not has_made_pairs(FACTS, makers):
        return FactsJudge()
    words = getattr(judge, "words", None)
    if judge.name.startswith(f"{FACTS}+") and words is not None:
        from judging.detector import DetectorJudge

        detector = DetectorJudge(words)
        return None if has_made_pairs(detector.name, makers) else detector
    return None


def _classifier_judge(model: str, device: str) -> Judge:
    """Return the judge that reads the kind of head which the checkpoint has."""
    from judging.checkpoint_head import EACH_TOKEN, load_checkpoint
    from judging.nli_judge import NliJudge
    from judging.span_judge import SpanJudge

    checkpoint = load_checkpoint(model, device)
    return SpanJudge(checkpoint) if checkpoint.head == EACH_TOKEN else NliJudge(checkpoint)


def _read_criterion(path: Path) -> str:
    text = read_text(path, "correct --criterion_file")
    if not text.strip():
        raise InputError(f"{path}: the file is empty; write there what counts as an error")
    return text


def _is_this_machine(url: str) -> bool:
    address = urlparse(url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise InputError(f"--judge_base_url {url}: is no address; give one such as http://localhost:8000/v1")
    return address.hostname in _LOOPBACK


def add_judge_arguments(parser: argparse.ArgumentParser, *, with_rubric: bool = False) -> None:
    """Add the flags of all scripts that judge summaries; `with_rubric` if the script has a use for grades."""
    group = parser.add_argument_group("Judge")
    group.add_argument(
        "--judge",
        choices=JUDGES,
        default=FACTS,
        help="facts: rules; nli: an entailment model; detector: a judge trained on marked words; likelihood: a causal "
        "language model's own evidence; openai: a language model behind an OpenAI-compatible API; all but openai are "
        "offline",
    )
    group.add_argument(
        "--judge_model",
        metavar="MODEL",
        help="folder or hub id of the nli model, folder of the detector or of the likelihood model, or name of the "
        f"openai model (default: {DEFAULT_OPENAI_MODEL} for openai, none for the others)",
    )
    group.add_argument(
        "--evidence_model",
        type=Path,
        metavar="FOLDER",
        help="folder of a detector that judges together with the rules, for --judge facts (default: none)",
    )
    group.add_argument(
        "--judge_base_url",
        metavar="URL",
        help="address of the openai judge's server (default: the variable OPENAI_BASE_URL, else OpenAI's server)",
    )
    group.add_argument(
        "--criterion_file",
        type=Path,
        metavar="FILE",
        help="text file that tells the openai judge what counts as an error (default: none, use the built-in text)",
    )
    group.add_argument(
        "--price_per_million",
        type=float,
        nargs=2,
        metavar=("IN", "OUT"),
        help="prices of the openai judge in dollars per million tokens sent and received, to print its cost (default: "
        "OpenAI's list price if known)",
    )
    if with_rubric:
        group.add_argument(
            "--rubric",
            choices=sorted(RUBRICS),
            help="grades by the openai judge, next to its claims: pdsqi9, truth and citations from 1 to 5, 5 is best; "
            "risk, from 1 to 4, 1 is best (default: none)",
        )
    group.add_argument("--yes", action="store_true", help="allow the openai judge to send notes to another machine")


def judge_of_arguments(args: argparse.Namespace, device: str = "auto", num_threads: int = 0) -> Judge:
    """Return the judge for the flags of `add_judge_arguments`, with its model on `device`.

    For a judge with a model on this machine, torch gets `num_threads`, if that is not 0; the others do not load torch.
    Raises InputError as `make_judge` does.
    """
    if num_threads and (args.evidence_model is not None or args.judge not in (FACTS, "openai")):
        use_threads(num_threads, None)
    return make_judge(
        args.judge,
        args.judge_model,
        base_url=args.judge_base_url,
        criterion_file=args.criterion_file,
        price_per_million=args.price_per_million,
        rubric=getattr(args, "rubric", None),
        evidence_model=args.evidence_model,
        assume_yes=args.yes,
        device=device,
    )


def usage_text(usage: Mapping[str, Any]) -> str:
    """Return a text such as `12,000 tokens sent and 2,300 received in 20 replies; $0.0032 (prices given)`."""
    text = f"{usage['prompt_tokens']:,} tokens sent and {usage['completion_tokens']:,} received"
    text += f" in {usage['replies']:,} replies"
    if usage["replies_without_usage"]:
        text += f", {usage['replies_without_usage']:,} of them without a number of tokens"
    if usage["price_usd"] is None:
        return f"{text}; its price is not known, give --price_per_million"
    return f"{text}; ${usage['price_usd']:.4f} ({usage['prices']})"
