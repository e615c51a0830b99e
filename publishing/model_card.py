"""Write the model card of a trained or exported model: README.md with the front matter that hubs read.

A card holds names, numbers and hashes, and never a note or a summary. Data files are named without their folder.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from language_model.hub import is_hub_id
from language_model.model_files import ADAPTER_CONFIG
from language_model.prompt_format import FORMAT_FILE
from script_io.files import read_json

CARD_FILE = "README.md"
STAGE_CONFIGS = {"sft_config.json": "SFT (Stage A)", "dpo_config.json": "DPO (Stage B)"}
SUMMARY_FILE = "evaluation_summary.json"  # of evaluation/evaluate_model.py
_RECIPE = (
    *("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "lora_exclude_modules", "lora_modules_to_save"),
    *("lora_init", "use_dora", "use_rslora", "neftune_noise_alpha", "learning_rate", "lr_scheduler", "warmup_ratio"),
    *("warmup_steps", "num_epochs", "early_stopping_patience", "batch_size", "gradient_accumulation_steps"),
    *("weight_decay", "max_grad_norm", "max_length", "overflow", "data_weights", "beta", "loss_type", "loss_on"),
    *("label_smoothing", "factuality_margin", "dpop_penalty", "preference_weight", "nll_weight", "reference"),
    *("dtype", "use_8bit", "use_4bit", "seed"),
)
_RATES = {
    "hallucination_rate": "Summaries with a hallucination",
    "claim_error_rate": "Wrong claims",
    "coverage": "Facts of the reference that are covered",
    "unfinished_rate": "Summaries that are broken off",
}
_COUNTS = {"claim_error_rate": "claims"}  # where it is not called NAME_n
_LIMITS = """For research only. Not for clinical use: no clinician has approved this model, and its summaries can be
wrong or leave out what matters. A person must check every summary against its note. The rates below hold for notes
like the test notes only. The model may repeat text of its training data, so treat it as you treat that data."""
_USES = {
    "adapter": """from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained(FOLDER)
tokenizer = AutoTokenizer.from_pretrained(FOLDER)""",
    "model": """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(FOLDER)
tokenizer = AutoTokenizer.from_pretrained(FOLDER)""",
    "gguf": """ollama create summary -f Modelfile
ollama run summary < note.txt""",
}


@dataclass(frozen=True)
class CardFacts:
    """What a card says. `settings` are the content of a stage's configuration, {} if the model has none."""

    kind: str  # adapter, model or gguf
    name: str
    base: str
    prompt_format: str
    settings: Mapping[str, Any]
    stage: str | None = None  # such as `DPO (Stage B)`
    weights: str = ""  # such as `merged`, `4bit` or `q8_0`
    evaluation: Mapping[str, Any] | None = None  # content of an evaluation_summary.json


def stage_settings(folder: Path) -> tuple[str | None, dict[str, Any]]:
    """Return the stage that trained the model in `folder` and its settings, or (None, {}) if neither is known."""
    for file_name, stage in STAGE_CONFIGS.items():
        if (folder / file_name).is_file():
            return stage, read_json(folder / file_name)
    return None, {}


def file_hashes(paths: Sequence[str | Path]) -> dict[str, str]:
    """Return the SHA-256 of each file by its name, with the names of its folders where files have the same name."""
    # not `resolve`: a link has the name that the user gave, and its target may be called by a hash
    files = list(dict.fromkeys(Path(os.path.abspath(path)) for path in paths if Path(path).is_file()))
    hashes = {}
    for file in files:
        with file.open("rb") as handle:
            hashes[_shortest_name(file, files)] = hashlib.file_digest(handle, "sha256").hexdigest()
    return hashes


def _shortest_name(file: Path, files: Sequence[Path]) -> str:
    """Return the end of a path that no other of the files has, such as `train.jsonl` or `on_policy/train.jsonl`."""
    ends = (file.parts[-count:] for count in range(1, len(file.parts)))
    unique = (end for end in ends if sum(each.parts[-len(end) :] == end for each in files) == 1)
    return "/".join(next(unique, file.parts))


def evaluation_of(model: Path, folder: Path | None) -> dict[str, Any] | None:
    """Return the summary in an evaluation folder; without one, that of the pipeline run the model is part of, or None.

    A pipeline run has the model at RUN/STAGE/final_model and its evaluation at RUN/evaluation/STAGE_greedy.
    """
    if folder is not None:
        return read_json(folder / SUMMARY_FILE, "name the --output_dir of evaluation/evaluate_model.py")
    run, stage = model.resolve().parent.parent, model.resolve().parent.name
    path = run / "evaluation" / f"{stage}_greedy" / SUMMARY_FILE
    return read_json(path) if path.is_file() else None


def write_adapter_card(folder: Path) -> None:
    """Write the card of the adapter that a stage saved in `folder`, from the files next to it."""
    stage, settings = stage_settings(folder)
    base = read_json(folder / ADAPTER_CONFIG)["base_model_name_or_path"]
    prompt_format = read_json(folder / FORMAT_FILE)["prompt_format"]
    name = folder.resolve().parent.name
    write_model_card(folder, CardFacts("adapter", name, base, prompt_format, settings, stage))


def write_model_card(folder: Path, facts: CardFacts) -> None:
    """Write README.md into the folder of a model."""
    from huggingface_hub import ModelCard, ModelCardData

    data = ModelCardData(
        base_model=facts.base if is_hub_id(facts.base) else None,
        language="en",
        library_name={"adapter": "peft", "model": "transformers"}.get(facts.kind),
        pipeline_tag="text-generation",
        tags=["clinical-notes", "summarization", *(["gguf"] if facts.kind == "gguf" else [])],
    )
    ModelCard(f"---\n{data.to_yaml()}\n---\n\n{card_text(facts)}").save(folder / CARD_FILE)


def card_text(facts: CardFacts) -> str:
    """Return the card without its front matter."""
    sections = {
        "": f"Summarises clinical notes. {_weights(facts)}",
        "Limits": _LIMITS,
        "Base and data": _table(_data_rows(facts)),
        "Training": _table(_recipe_rows(facts.settings))
        if facts.settings
        else "Not known: no settings lie next to it.",
        "Measured": _measured(facts.evaluation),
        "How to load": _how_to_load(facts),
    }
    parts = [f"## {title}\n\n{text}" if title else f"# {facts.name}\n\n{text}" for title, text in sections.items()]
    return "\n\n".join(parts) + "\n"


def _weights(facts: CardFacts) -> str:
    what = {"adapter": "A LoRA adapter", "model": "A whole model", "gguf": "A GGUF file for llama.cpp and Ollama"}
    trained = f", trained with {facts.stage}" if facts.stage else ""
    return f"{what[facts.kind]}{f' ({facts.weights})' if facts.weights else ''}{trained}."


def _data_rows(facts: CardFacts) -> list[tuple[str, str]]:
    rows = [("Base model", facts.base if is_hub_id(facts.base) else f"{Path(facts.base).name} (a local folder)")]
    for split, count in (facts.settings.get("examples") or {}).items():
        rows.append((f"Examples, {split}", f"{count:,}"))
    rows += [(f"SHA-256 of {name}", digest) for name, digest in (facts.settings.get("data_sha256") or {}).items()]
    makers = facts.settings.get("pair_judges")
    if makers:
        rows.append(("Judges that made the pairs", ", ".join(map(str, makers))))
    return [*rows, ("Prompt format", facts.prompt_format)]


def _recipe_rows(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    arguments = settings.get("arguments", {})
    rows = [(f"`{name}`", _value(arguments[name])) for name in _RECIPE if arguments.get(name) not in (None, [])]
    versions = settings.get("versions", {})
    rows += [("Versions", ", ".join(f"{name} {version}" for name, version in versions.items()))] if versions else []
    return [*rows, ("Commit of the suite", str(settings.get("commit") or "unknown"))]


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _measured(evaluation: Mapping[str, Any] | None) -> str:
    """Return the rates with their 95% intervals and the judge."""
    if evaluation is None:
        return "Not measured. Measure it with `python evaluation/evaluate_model.py`."
    rows = [
        (label, f"{evaluation[name]:.1%} ({low:.1%} to {high:.1%})", str(evaluation[_COUNTS.get(name, f"{name}_n")]))
        for name, label in _RATES.items()
        if evaluation.get(name) is not None
        for low, high in [evaluation[f"{name}_ci95"]]
    ]
    text = _table(rows, ("", "Rate (95% interval)", "n"))
    text += f"\n\nJudge: {evaluation['judge']}. Temperature {evaluation['temperature']}, seed {evaluation['seed']}."
    if evaluation.get("judge_made_training_pairs"):
        text += " This judge made the pairs that the model was trained on, so it rates the model better than others do."
    if second := evaluation.get("second_judge"):
        low, high = second["hallucination_rate_ci95"]
        text += (
            f" By another judge, {second['judge']}: {second['hallucination_rate']:.1%} ({low:.1%} to {high:.1%}) of "
            f"{second['n']} summaries have a hallucination."
        )
    return text


def _how_to_load(facts: CardFacts) -> str:
    language = "sh" if facts.kind == "gguf" else "python"
    prompt = "The prompt is `Clinical Note: NOTE`, an empty line and `Summary:`"
    if facts.prompt_format == "chat":
        prompt += ", as the user's message in the chat template"
    if facts.kind == "gguf":
        prompt += "; the Modelfile writes it around the note"
    return f"```{language}\n{_USES[facts.kind]}\n```\n\n{prompt}. Use greedy decoding (temperature 0)."


def _table(rows: Sequence[Sequence[str]], head: Sequence[str] = ("", "")) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
