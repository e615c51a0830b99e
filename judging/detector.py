"""Judge summaries with a trained detector, alone or next to the rules.

`DetectorJudge` is `--judge detector`. `EvidenceJudge` is `--judge facts --evidence_model`: it keeps the claims of the
rules, adds the words that the detector marks where the rules have no error, and combines both into one probability.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fact_checking.checker import check_summary
from fact_checking.claims import FactCheck
from judging.detector_settings import ALONE, SETTINGS_FILE, WITH_RULES, Fitted, summary_features
from judging.detector_training import token_probabilities
from judging.judge import FACTS, NoteAndSummary
from judging.learnt_check import joined_check, learnt_check
from judging.packed_summaries import pack_summaries, row_tokens
from judging.sentence_doubts import learnt_doubts
from judging.shared_notes import WordJudge, scores_by_note
from judging.token_detector import load_detector, read_settings
from judging.word_scores import WordScore, word_scores
from language_model.model_files import context_tokens
from language_model.placement import placement_for

WordsOfSummary = tuple[list[WordScore], float]  # the words, and the probability that the summary has an error


class WordDetector:
    """A loaded detector that scores the words of summaries."""

    def __init__(self, folder: Path, device: str = "auto") -> None:
        """Raise InputError if the folder holds no detector that can be loaded."""
        self.folder = folder.resolve()
        self.settings = read_settings(folder)
        self.passes = int(self.settings["passes"])
        # float32 everywhere, so that a verdict does not depend on the device
        self.detector, self.tokenizer = load_detector(folder, placement_for(device, "float32"))
        self.context_tokens = context_tokens(self.detector.decoder.config)

    def fitted(self, part: str) -> Fitted:
        """Return the thresholds of `detector.json`, part ALONE or WITH_RULES."""
        return Fitted.from_settings(self.settings, part, str(self.folder / SETTINGS_FILE))

    def score(self, pairs: Sequence[NoteAndSummary], progress: str | None = None) -> list[WordsOfSummary | None]:
        """Return the words of each summary; None for a note that is too long for the model, with a warning."""
        scored = scores_by_note(pairs, self._is_read, self._score_row, progress)
        return [each if summary.strip() else ([], 0.0) for (_, summary), each in zip(pairs, scored, strict=True)]

    def _is_read(self, note: str, summary: str) -> bool:
        return bool(summary.strip()) and self._fits(note, summary)

    def _fits(self, note: str, summary: str) -> bool:
        if self.context_tokens is None:
            return True
        tokens = row_tokens(self.tokenizer, note, summary, self.passes)
        if tokens > self.context_tokens:
            print(
                f"warning: {self.folder.name}: a note and its summary have {tokens} tokens, more than the model's "
                f"context of {self.context_tokens}; not judged",
                file=sys.stderr,
            )
        return tokens <= self.context_tokens

    def _score_row(self, note: str, summaries: Sequence[str]) -> list[WordsOfSummary]:
        packed = pack_summaries(self.tokenizer, note, summaries, self.passes).to(self.detector.device)
        results = token_probabilities(self.detector, packed)
        return [
            (word_scores(summary, encoded.spans, tokens, max), probability)
            for summary, encoded, (tokens, probability) in zip(summaries, packed.summaries, results, strict=True)
        ]


class DetectorJudge(WordJudge[WordsOfSummary]):
    """The detector alone. Its claims are the stretches of words that it marks."""

    part, prefix = ALONE, ""  # the fitted part of the detector's settings, and the beginning of the judge's name

    def __init__(self, words: WordDetector) -> None:
        """Raise InputError if the detector's thresholds cannot be read."""
        super().__init__(words, f"{self.prefix}detector:{words.folder}")
        self.words = words
        self.fitted = words.fitted(self.part)
        self.pair_limits = (self.fitted.chosen_below, self.fitted.rejected_above)

    def _verdict(self, note: str, summary: str, scores: WordsOfSummary) -> FactCheck:
        words, summary_probability = scores
        if not words:
            return FactCheck((), graded_score=0.0, probability=0.0)
        features = summary_features(summary, words, summary_probability, None)
        probability = self.fitted.combination.probability(features)
        check = learnt_check(summary, words, self.fitted.word_threshold, probability, self.fitted.threshold)
        return replace(check, sentences=learnt_doubts(summary, *scores, self.fitted.combination))


class EvidenceJudge(DetectorJudge):
    """The rules with the detector: the errors of the rules stay, the detector grades what they cannot read."""

    part, prefix = WITH_RULES, f"{FACTS}+"
    marks_errors_alone = False  # the rules also say what is supported

    def _verdict(self, note: str, summary: str, scores: WordsOfSummary) -> FactCheck:
        words, summary_probability = scores
        rules = check_summary(note, summary)
        if not words:
            return rules
        features = summary_features(summary, words, summary_probability, rules)
        probability = self.fitted.combination.probability(features)
        check = joined_check(rules, summary, words, self.fitted.word_threshold, probability, self.fitted.threshold)
        return replace(check, sentences=learnt_doubts(summary, *scores, self.fitted.combination, note))
