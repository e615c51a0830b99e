"""Judge summaries by the evidence of a causal language model (likelihood.py), without labels.

The words with the lowest evidence are the ones that the note makes no likelier. `judging/calibrate.py` fits the
threshold on hard negatives and stores it in the model's folder.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fact_checking.claims import FactCheck
from judging.combination import Combination, length_feature, likelihood_features
from judging.judge import NoteAndSummary
from judging.learnt_check import learnt_check
from judging.likelihood import EvidenceScorer
from judging.shared_notes import WordJudge, scores_by_note
from judging.word_scores import WordScore, word_scores
from language_model.frozen_template import AS_STORED, PromptSettings
from language_model.loading import load_for_inference
from language_model.model_files import load_config
from language_model.prompt_format import stores_prompt_format
from script_io.errors import InputError
from script_io.files import read_json

CALIBRATION_FILE = "likelihood_calibration.json"


class LikelihoodWords:
    """A causal language model that gives each word of a summary its evidence."""

    def __init__(self, folder: str | Path, device: str = "auto", base_model: str | None = None) -> None:
        """Raise InputError if the folder is missing or holds no causal language model."""
        require_causal_model(folder)
        self.folder = Path(folder).resolve() if Path(folder).is_dir() else Path(folder)
        # float32 everywhere, so that a verdict does not depend on the device
        prompt = AS_STORED if stores_prompt_format(folder) else PromptSettings("plain")  # as its calibration was made
        self.scorer = EvidenceScorer(
            load_for_inference(folder, device=device, dtype="float32", base_model=base_model, prompt=prompt)
        )

    def score(self, pairs: Sequence[NoteAndSummary], progress: str | None = None) -> list[list[WordScore] | None]:
        """Return the words of each summary; None where the note is too long for the model, with a warning."""
        return scores_by_note(pairs, self._fits, self._score_row, progress)

    def _score_row(self, note: str, summaries: Sequence[str]) -> list[list[WordScore]]:
        scored = self.scorer.evidence(note, summaries)
        return [
            word_scores(text, each.summary.spans, each.evidence, sum)
            for text, each in zip(summaries, scored, strict=True)
        ]

    def _fits(self, note: str, summary: str) -> bool:
        tokens = self.scorer.too_long(note, summary)
        if tokens is not None:
            print(
                f"warning: {self.folder.name}: a note and its summary have {tokens} tokens, more than the model's "
                "context; not judged",
                file=sys.stderr,
            )
        return tokens is None


class LikelihoodJudge(WordJudge[list[WordScore]]):
    """The evidence with the threshold of the model's folder."""

    def __init__(self, folder: str | Path, device: str = "auto") -> None:
        """Raise InputError if the model cannot be loaded or is not calibrated."""
        calibration = read_calibration(Path(folder))
        self.words = LikelihoodWords(folder, device)
        super().__init__(self.words, f"likelihood:{self.words.folder}")
        self.combination = Combination.from_dict(calibration["combination"])
        self.threshold = float(calibration["threshold"])
        self.word_threshold = float(calibration["word_threshold"])  # of the negated evidence
        self.pair_limits = (float(calibration["chosen_below"]), float(calibration["rejected_above"]))

    def _verdict(self, note: str, summary: str, scores: list[WordScore]) -> FactCheck:
        if not scores:
            return FactCheck((), graded_score=0.0, probability=0.0)
        probability = self.combination.probability({**likelihood_features(scores), **length_feature(summary)})
        doubt = [WordScore(word.start, word.end, -word.score) for word in scores]
        return learnt_check(summary, doubt, self.word_threshold, probability, self.threshold)


def require_causal_model(folder: str | Path) -> None:
    """Raise InputError if the folder is missing, or holds an encoder, which gives no probability of a next token."""
    if not Path(folder).is_dir():
        raise InputError(f"--judge_model {folder}: no such folder; name a causal language model or an adapter")
    if (Path(folder) / "adapter_config.json").is_file():
        return  # its base is checked when it is loaded
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    config = load_config(folder)
    architectures = config.architectures or []
    is_decoder = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and any(
        name.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for name in architectures
    )
    if not is_decoder or getattr(config, "is_encoder_decoder", False):
        kind = ", ".join(architectures) or config.model_type
        raise InputError(f"--judge_model {folder}: {kind} is no causal language model; name one, or use --judge nli")


def read_calibration(folder: Path) -> dict[str, Any]:
    """Return the calibration of a model's folder. Raises InputError, with the command that makes it, without one."""
    require_causal_model(folder)
    path = folder / CALIBRATION_FILE
    command = f"python -m judging.calibrate --judge_model {folder} --phase1_dir DIR"
    if not path.is_file():
        raise InputError(f"{folder}: has no threshold yet; set it with: {command}")
    content = read_json(path, f"make it again with: {command}")
    wanted = ("combination", "threshold", "word_threshold", "chosen_below", "rejected_above")
    if not isinstance(content, Mapping) or any(key not in content for key in wanted):
        raise InputError(f"{path}: is not a calibration; make it again with: {command}")
    return dict(content)
