"""Find out which judges made the preference pairs that a model was trained on.

Stage B imports this module, so it must load neither a judge nor the fact checker.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from judging.judge import FACTS, nli_name
from script_io.tables import stream_table

DPO_CONFIG = "dpo_config.json"  # in the folder of a model of Stage B
_WITH_WEIGHTS = ("detector:", "likelihood:")  # beginnings of the names of judges that are fine-tuned or plain models
_CRITERION = re.compile(r"(, criterion [0-9a-f]{8})?(, rubric \w+)?$")  # at the end of a name, see OpenAIJudge


def judges_of_training_pairs(model_path: str | Path) -> frozenset[str] | None:
    """Return the judges that made the preference pairs of a model, or None if that is not known.

    Stage B stores them in `dpo_config.json`, including the judges of earlier rounds. A model of Stage A has none.
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
    """Return the name of a judge without criterion and rubric; an nli model as `nli_name` writes it.

    With another criterion, the same model is another judge, but a student learns the same habits from it. An example is
    `openai:gpt-4o`.
    """
    return nli_name(name.removeprefix("nli:")) if name.startswith("nli:") else _CRITERION.sub("", name)


def parts_of_judge(name: str) -> frozenset[str]:
    """Return the models behind a judge: of `facts+detector:FOLDER`, the rules and the detector."""
    own, plus, other = name.partition("+")
    return frozenset({FACTS, model_of_judge(other)} if plus and own == FACTS else {model_of_judge(name)})


def has_made_pairs(name: str, judges: Iterable[str]) -> bool:
    """Return whether one of `judges` shares a model with the judge of this name, with this or another criterion."""
    return any(parts_of_judge(name) & parts_of_judge(other) for other in judges)


def is_relative(name: str, model_path: str | Path) -> bool:
    """Return whether a judge with weights of its own comes from the same model as the model in `model_path`.

    They are related if one is the other's base, or if both are adapters of one base.
    """
    folders = (part.partition(":")[2] for part in parts_of_judge(name) if part.startswith(_WITH_WEIGHTS))
    return any(_ancestors(folder) & _ancestors(model_path) for folder in folders)


def _ancestors(model: str | Path) -> frozenset[str]:
    """Return the model's own name and that of its base, folders as absolute paths."""
    names = {str(model)}
    with suppress(OSError, ValueError, KeyError, TypeError):  # no adapter, or written by something else
        config = json.loads((Path(model) / "adapter_config.json").read_text(encoding="utf-8"))
        names.add(str(config["base_model_name_or_path"]))
    return frozenset(str(Path(name).resolve()) if Path(name).is_dir() else name for name in names)


def judges_behind(pairs: str | Path | Sequence[str | Path], start_model: str | Path) -> list[str] | None:
    """Return the judges of the pairs in one or several files and of the start model's pairs, sorted.

    Returns None if the judges of the start model's pairs are not known.
    """
    judges = judges_of_training_pairs(start_model)
    if judges is None:
        return None
    paths = [pairs] if isinstance(pairs, str | Path) else pairs
    return sorted(judges.union(*(judges_of_pairs(Path(path)) for path in paths)))


def judges_of_pairs(path: Path) -> frozenset[str]:
    """Return the judges named in the rows of a file of pairs, and `facts` if it has generated negatives.

    The fact checker has verified each generated negative. A pair that a person labelled has no judge.
    """
    judges: set[str] = set()
    for _, row in stream_table(path, (), other_names=".jsonl"):
        if isinstance(row.get("judge"), str):
            judges.add(row["judge"])
        if any(edit.get("verdict", "labelled") != "labelled" for edit in row.get("edits") or ()):
            judges.add(FACTS)
    return frozenset(judges)
