"""Find out which judges made the preference pairs that a model was trained on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from judging.choice import FactsJudge
from judging.judge import nli_name

DPO_CONFIG = "dpo_config.json"  # what Stage B writes beside its model
_CRITERION = re.compile(r", criterion [0-9a-f]{8}$")  # at the end of a name, see OpenAIJudge


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
