"""Judge summaries with a trained detector, alone or next to the rules.

`DetectorJudge` is `--judge detector`. `EvidenceJudge` is `--judge facts --evidence_model`: it keeps the claims of the
rules, adds the words that the detector marks where the rules have no error, and combines both into one probability.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from fact_checking.checker import check_summary
from fact_checking.claims import FactCheck, without_citations
from judging.detector_settings import ALONE, SETTINGS_FILE, WITH_RULES, Fitted, summary_features
from judging.detector_training import token_probabilities
from judging.judge import FACTS, NoteAndSummary, hides
from judging.learnt_check import joined_check, learnt_check
from judging.packed_summaries import pack_summaries, row_tokens
from judging.token_detector import load_detector, read_settings
from judging.word_scores import WordScore, word_scores
from language_model.placement import placement_for

SUMMARIES_PER_ROW = 8  # summaries of the same note that are computed together
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
        self.context_tokens = getattr(self.detector.decoder.config, "max_position_embeddings", None)

    def fitted(self, part: str) -> Fitted:
        """Return the thresholds of `detector.json`, part ALONE or WITH_RULES."""
        return Fitted.from_settings(self.settings, part, str(self.folder / SETTINGS_FILE))

    def score(self, pairs: Sequence[NoteAndSummary], progress: str | None = None) -> list[WordsOfSummary | None]:
        """Return the words of each summary; None for a note that is too long for the model, with a warning."""
        found: list[WordsOfSummary | None] = [None] * len(pairs)
        by_note: dict[str, list[int]] = {}
        for place, (note, summary) in enumerate(pairs):
            if not summary.strip():
                found[place] = ([], 0.0)
            elif self._fits(note, summary):
                by_note.setdefault(note, []).append(place)
        with tqdm(total=len(pairs), desc=progress, unit="summary", disable=hides(progress)) as bar:
            for note, places in by_note.items():
                for first in range(0, len(places), SUMMARIES_PER_ROW):
                    part = places[first : first + SUMMARIES_PER_ROW]
                    scored = self._score_row(note, [without_citations(pairs[place][1]) for place in part])
                    for place, words in zip(part, scored, strict=True):
                        found[place] = words
                    bar.update(len(part))
        return found

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


class DetectorJudge:
    """The detector alone. Its claims are the stretches of words that it marks."""

    usage = None
    part, prefix = ALONE, ""  # the fitted part of the detector's settings, and the beginning of the judge's name

    def __init__(self, words: WordDetector) -> None:
        """Raise InputError if the detector's thresholds cannot be read."""
        self.words = words
        self.fitted = self.words.fitted(self.part)
        self.name = f"{self.prefix}detector:{self.words.folder}"
        self.pair_limits = (self.fitted.chosen_below, self.fitted.rejected_above)
        self.failures = 0

    def check(self, note: str, summary: str) -> FactCheck | None:
        """See `Judge`."""
        return self.check_all([(note, summary)])[0]

    def check_all(self, pairs: Sequence[NoteAndSummary], progress: str | None = None) -> list[FactCheck | None]:
        """See `Judge`. The summaries of a note share its computation."""
        scored = self.words.score(pairs, progress)
        self.failures += scored.count(None)
        return [
            None if each is None else self._check(note, summary, *each)
            for (note, summary), each in zip(pairs, scored, strict=True)
        ]

    def _check(self, note: str, summary: str, words: list[WordScore], summary_probability: float) -> FactCheck:
        if not words:
            return FactCheck((), graded_score=0.0, probability=0.0)
        features = summary_features(summary, words, summary_probability, None)
        probability = self.fitted.combination.probability(features)
        return learnt_check(summary, words, self.fitted.word_threshold, probability, self.fitted.threshold)


class EvidenceJudge(DetectorJudge):
    """The rules with the detector: the errors of the rules stay, the detector grades what they cannot read."""

    part, prefix = WITH_RULES, f"{FACTS}+"

    def _check(self, note: str, summary: str, words: list[WordScore], summary_probability: float) -> FactCheck:
        rules = check_summary(note, summary)
        if not words:
            return rules
        features = summary_features(summary, words, summary_probability, rules)
        probability = self.fitted.combination.probability(features)
        return joined_check(rules, summary, words, self.fitted.word_threshold, probability, self.fitted.threshold)
