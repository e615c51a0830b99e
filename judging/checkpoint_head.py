"""Load a classifier that `--judge nli` can read, after a look at what its head answers.

Transformers gives any checkpoint the head that it is asked for, and fills a missing one with random weights. So the
kind of head is taken from the `architectures` of config.json, and a checkpoint that lacks a weight is refused.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
import transformers
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from language_model.hub import hub_arguments
from language_model.model_files import first_line, require_model
from language_model.placement import placement_for
from script_io.errors import InputError

WHOLE_TEXT, EACH_TOKEN = "ForSequenceClassification", "ForTokenClassification"  # what the head's labels are for
_HEADS = {WHOLE_TEXT: AutoModelForSequenceClassification, EACH_TOKEN: AutoModelForTokenClassification}
_REMEDY = "name an NLI model"
_CANNOT_LOAD = (OSError, ValueError, ImportError, KeyError, RuntimeError)


@dataclass
class Checkpoint:
    """A classifier of pairs of texts, on its device in float32, with the kind of its head."""

    name: str  # folder or hub id
    head: str  # WHOLE_TEXT or EACH_TOKEN
    tokenizer: Any
    model: Any

    @property
    def labels(self) -> dict[int, str]:
        """Return the name of each label by its index."""
        return dict(self.model.config.id2label)

    def refuse(self, reason: str) -> NoReturn:
        """Raise InputError with this reason."""
        refuse(self.name, reason)


def refuse(name: str, reason: str) -> NoReturn:
    """Raise InputError for a checkpoint that cannot judge."""
    raise InputError(f"--judge_model {name}: {reason}; {_REMEDY}")


def load_checkpoint(name: str, device: str = "auto") -> Checkpoint:
    """Return the classifier of a folder or hub id.

    Raises InputError, in one line, if its head is of another kind, if it has its own code, if weights are missing, or
    if its tokenizer gives no offsets.
    """
    disable_progress_bar()
    head = head_of(name)
    reporter = logging.getLogger("transformers")  # its table of missing weights would precede our line
    level = reporter.level
    reporter.setLevel(logging.ERROR)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False, **hub_arguments(name))
        # float32 everywhere, so that a verdict does not depend on the device
        model, loading = _HEADS[head].from_pretrained(
            name,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **hub_arguments(name),
        )
    except _CANNOT_LOAD as error:
        raise InputError(f"--judge_model {name}: cannot be loaded ({first_line(error)}); {_REMEDY}") from error
    finally:
        reporter.setLevel(level)
    random = sorted({*loading["missing_keys"], *(key for key, *_ in loading["mismatched_keys"])})
    if random:
        refuse(name, f"has no weights for {random[0]}, so its answers would be random")
    if not tokenizer.is_fast:
        refuse(name, "its tokenizer gives no offsets; a fast one is needed")
    return Checkpoint(name, head, tokenizer, model.eval().to(placement_for(device, "float32").device))


def head_of(name: str) -> str:
    """Return the kind of head that config.json states, WHOLE_TEXT or EACH_TOKEN. Raises InputError for any other."""
    try:
        require_model(name)
        config, _ = transformers.PreTrainedConfig.get_config_dict(name, **hub_arguments(name))
    except (InputError, *_CANNOT_LOAD) as error:
        raise InputError(f"--judge_model {name}: cannot be loaded ({first_line(error)}); {_REMEDY}") from error
    architecture = next(iter(config.get("architectures") or ()), None)
    if config.get("auto_map") and not (architecture and hasattr(transformers, architecture)):
        refuse(name, "needs code from its own folder (trust_remote_code), as HHEM-2 does, which a judge never runs")
    if architecture is None:
        refuse(name, "its config.json names no architecture, so the kind of its head is not known")
    if architecture.endswith("ForConditionalGeneration"):
        refuse(name, f"is a sequence-to-sequence model ({architecture}), which writes text and has no labels")
    kind = next((head for head in _HEADS if architecture.endswith(head)), None)
    if kind is None:
        refuse(name, f"has no classification head ({architecture})")
    return kind
