"""Make a pair that differs in its errors alone: a flawed completion, and the same text with these sentences put right.

Where few whole completions are sound, many of their sentences still are. From the completions of one prompt:

1. One completion is the frame. Its sentences with a doubt of `kept_below` or more are left out, unless step 2
   exchanges them.
2. Each flawed sentence is exchanged for a sound one of about its length from another completion, the nearest in
   wording; a flawed sentence without such a partner is left out.
3. Sound sentences of other completions are added that say something new, facts of the reference first, until the text
   is as long as the completions are on average, so that the pair teaches neither length nor silence.
4. The rejected text is the same text with the flawed sentences. Where the text has a sound sentence to spare, it
   repeats an earlier one in its place: a model that avoids errors can do so by repeating what is true, so pairs must
   tell that a repetition is worse than something new.

A sentence that repeats an earlier one counts as flawed. The frame is the completion whose exchanges the judge is surest
of. All sentences are the model's own.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from fact_checking.claims import SentenceDoubt
from fact_checking.content_words import content_words
from judging.word_scores import length_penalty, similarity, words_of

MOST_SHARED = 0.6  # of the content words of the shorter of two sentences; with more, they say the same
REPEATED = 0.85  # of the words of two sentences, in order; from here on, one repeats the other

Gain = Callable[[str, str], int]  # (text so far, sentence) -> facts of the reference that the sentence adds


@dataclass(frozen=True)
class Sentence:
    """A sentence of a completion; `place` is where it begins, as a share of the completion's length."""

    text: str
    doubt: float
    place: float

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Return the words, without case and punctuation."""
        return tuple(words_of(self.text))

    @cached_property
    def content(self) -> frozenset[str]:
        """Return the words that say something, or all words if none does."""
        return frozenset(word.casefold() for _, word in content_words(self.text)) or frozenset(self.words)


@dataclass(frozen=True)
class RepairLimits:
    """Which sentences count as sound and as flawed, by their doubt, and how different in length they may be."""

    sound_below: float
    flawed_above: float
    kept_below: float  # doubt below which a sentence of the frame stays, in both texts
    max_length_ratio: float = 1.5
    growth: float = 1.0  # wanted length of a text, as a multiple of the mean length of the completions


@dataclass(frozen=True)
class Exchange:
    """A flawed sentence and the sound one that takes its place."""

    flawed: Sentence
    sound: Sentence

    @cached_property
    def sureness(self) -> float:
        """Return the difference in doubt, plus the similarity in wording, less the penalty for different lengths."""
        flawed, sound = self.flawed.words, self.sound.words
        difference = self.flawed.doubt - self.sound.doubt
        return difference + similarity(flawed, sound) - length_penalty(len(sound), len(flawed))


@dataclass(frozen=True)
class RepairedPair:
    """The two texts, and the spans in characters of the sentences that were exchanged."""

    chosen: str
    rejected: str
    chosen_spans: tuple[tuple[int, int], ...]
    rejected_spans: tuple[tuple[int, int], ...]


def sentences_of(text: str, doubts: Sequence[SentenceDoubt]) -> list[Sentence]:
    """Return the sentences of a completion that have words. A repetition of an earlier one has a doubt of 1."""
    found: list[Sentence] = []
    for each in doubts:
        sentence = Sentence(text[each.start : each.end], each.doubt, each.start / max(len(text), 1))
        if any(repeats(sentence, other) for other in found):
            sentence = replace(sentence, doubt=1.0)
        if sentence.words:
            found.append(sentence)
    return found


def repaired_pairs(
    completions: Sequence[Sequence[Sentence]], limits: RepairLimits, gain: Gain | None = None, most: int = 1
) -> list[RepairedPair]:
    """Return at most `most` pairs that the finished completions of one prompt give, the surest first.

    Each pair has a frame of its own and exchanges a flawed sentence that no earlier pair exchanges. `gain` says how
    many facts of the reference a sentence would add to a text; without it, the least doubtful sentence is added first.
    """
    sound = _distinct(each for sentences in completions for each in sentences if each.doubt < limits.sound_below)
    frames = [(_exchanges(sentences, sound, limits), sentences) for sentences in completions]
    frames.sort(key=lambda frame: -sum(exchange.sureness for exchange in frame[0]))
    mean_words = statistics.fmean(sum(len(each.words) for each in sentences) for sentences in completions)
    exchanged: set[tuple[str, ...]] = set()
    pairs: list[RepairedPair] = []
    for exchanges, frame in frames:
        new = [exchange for exchange in exchanges if exchange.flawed.words not in exchanged]
        if new and len(pairs) < most:
            pairs.append(_pair(new, frame, sound, limits, limits.growth * mean_words, gain))
            exchanged |= {exchange.flawed.words for exchange in new}
    return pairs


def _pair(
    exchanges: Sequence[Exchange],
    frame: Sequence[Sentence],
    sound: Sequence[Sentence],
    limits: RepairLimits,
    words: float,
    gain: Gain | None,
) -> RepairedPair:
    """Return the pair of a frame with these exchanges, grown to about this many words."""
    kept = _distinct(each for each in frame if each.doubt < limits.kept_below)
    kept = _without_repeats(kept, [exchange.sound for exchange in exchanges])
    added = _additions([*kept, *(exchange.sound for exchange in exchanges)], sound, words, gain)
    parts: list[Sentence | Exchange] = [*kept, *exchanges, *added]
    parts.sort(key=lambda part: part.flawed.place if isinstance(part, Exchange) else part.place)
    parts = _with_repetition(parts, limits)
    chosen, chosen_spans = _joined(parts, lambda exchange: exchange.sound)
    rejected, rejected_spans = _joined(parts, lambda exchange: exchange.flawed)
    return RepairedPair(chosen, rejected, chosen_spans, rejected_spans)


def _exchanges(frame: Sequence[Sentence], sound: Sequence[Sentence], limits: RepairLimits) -> list[Exchange]:
    """Return an exchange for each flawed sentence of the frame that has a partner; no partner serves twice."""
    taken = [each for each in frame if each.doubt < limits.kept_below]
    found = []
    for flawed in _distinct(each for each in frame if each.doubt >= limits.flawed_above):
        partners = [
            Exchange(flawed, each)
            for each in sound
            if _are_of_one_length(each, flawed, limits) and not any(says_the_same(each, other) for other in taken)
        ]
        if partners:
            best = max(partners, key=lambda exchange: exchange.sureness)
            found.append(best)
            taken.append(best.sound)
    return found


def _additions(text: Sequence[Sentence], sound: Sequence[Sentence], wanted: float, gain: Gain | None) -> list[Sentence]:
    """Return sound sentences that say something new, until the text has the wanted number of words."""
    added: list[Sentence] = []
    while True:
        whole = [*text, *added]
        room = wanted - sum(len(each.words) for each in whole)
        so_far = " ".join(each.text for each in whole)
        # a sentence may exceed the room by half of its words: the length is right on average
        new = [
            each
            for each in sound
            if len(each.words) / 2 <= room and not any(says_the_same(each, other) for other in whole)
        ]
        if not new:
            return added
        added.append(max(new, key=lambda each: (gain(so_far, each.text) if gain else 0, -each.doubt)))


def _with_repetition(parts: Sequence[Sentence | Exchange], limits: RepairLimits) -> list[Sentence | Exchange]:
    """Return the parts with the last sound sentence that can be one exchanged for a repetition of an earlier one."""
    for index in reversed(range(1, len(parts))):
        sound = parts[index]
        if isinstance(sound, Exchange) or sound.doubt >= limits.sound_below:
            continue
        earlier = [
            Exchange(replace(part, doubt=1.0), sound)
            for part in parts[:index]
            if isinstance(part, Sentence) and _are_of_one_length(part, sound, limits)
        ]
        if earlier:
            return [*parts[:index], max(earlier, key=lambda exchange: exchange.sureness), *parts[index + 1 :]]
    return list(parts)


def _are_of_one_length(first: Sentence, second: Sentence, limits: RepairLimits) -> bool:
    return 1 / limits.max_length_ratio <= len(first.words) / len(second.words) <= limits.max_length_ratio


def repeats(first: Sentence, second: Sentence) -> bool:
    """Return whether two sentences have nearly the same words in the same order."""
    return similarity(first.words, second.words) >= REPEATED


def says_the_same(first: Sentence, second: Sentence) -> bool:
    """Return whether the shorter sentence shares most of its content words with the other."""
    fewest = min(len(first.content), len(second.content))
    return len(first.content & second.content) >= MOST_SHARED * fewest


def _without_repeats(sentences: Sequence[Sentence], others: Sequence[Sentence]) -> list[Sentence]:
    return [each for each in sentences if not any(says_the_same(each, other) for other in others)]


def _distinct(sentences: Iterator[Sentence] | Sequence[Sentence]) -> list[Sentence]:
    """Return the sentences with different words, each once: the least doubtful."""
    by_words: dict[tuple[str, ...], Sentence] = {}
    for each in sentences:
        if each.words not in by_words or each.doubt < by_words[each.words].doubt:
            by_words[each.words] = each
    return list(by_words.values())


def _joined(
    parts: Sequence[Sentence | Exchange], side: Callable[[Exchange], Sentence]
) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Return the text of one side and the spans of its exchanged sentences."""
    text, spans = "", []
    for part in parts:
        sentence = side(part) if isinstance(part, Exchange) else part
        text += " " * bool(text)
        if isinstance(part, Exchange):
            spans.append((len(text), len(text) + len(sentence.text)))
        text += sentence.text
    return text, tuple(spans)
