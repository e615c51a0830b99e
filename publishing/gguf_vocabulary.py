"""Turn a tokenizer into the vocabulary of a GGUF file, and rebuild one from a file as llama.cpp reads it.

llama.cpp has two kinds of BPE vocabulary: `gpt2` (byte-level, with merges and the name of a pre-tokenizer) and `llama`
(SentencePiece, with a score for each token). A GGUF file cannot describe a pre-tokenizer; it only names one that
llama.cpp knows. `byte_level_pre` therefore looks for the known one that splits text as the tokenizer does.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from script_io.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.pre_tokenizers import PreTokenizer
    from transformers import PreTrainedTokenizerBase

CONVERTER = "convert it with llama.cpp's convert_hf_to_gguf.py"
# What tokenizers treat differently: numbers, contractions, cases, line breaks, blanks, punctuation, accents, emoji
SPLIT_PROBE = (
    "BP 142/88 mmHg, 1000 mg 3.5 12345678 I'll they'RE don't HbA1c\n\nPlan:\r\n  - rest\t\tx \n z  camelCase ABCdef "
    "naïve Ärzte µg 10⁹/L «ок» 日本語 ½ … !!?? (a)[b]{c}_d-e/f\\g 🙂👍🏽 'S 'd   "
)
_GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN_SPLIT = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Names of llama.cpp's pre-tokenizers with their expressions, applied one after the other (src/llama-vocab.cpp)
_SPLITS = {
    "gpt-2": (_GPT2_SPLIT,),
    "smollm": (r"\p{N}", _GPT2_SPLIT),
    "llama-bpe": (_WORDS + "{1,3}" + _REST,),
    "qwen2": (_WORDS + _REST,),
    "tekken": (_TEKKEN_SPLIT,),
}
_IGNORE_MERGES = {"llama-bpe", "tekken"}  # these take a word that is a token as it is
_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file says about a tokenizer. `types` are gguf.TokenType values; `scores` are for kind `llama`."""

    kind: str  # gpt2 or llama
    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    scores: list[float]
    adds_space: bool  # before the text, for kind `llama`


def vocabulary_of(tokenizer: PreTrainedTokenizerBase, size: int) -> Vocabulary:
    """Return the vocabulary of a tokenizer, with unused tokens up to `size`, the number of embeddings.

    Raises InputError if llama.cpp has no tokenizer of this kind.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError(f"--gguf needs a tokenizer with a tokenizer.json, not {type(tokenizer).__name__}; {CONVERTER}")
    state = json.loads(backend.to_str())
    model = state["model"]
    odd = [name for name in ("continuing_subword_prefix", "end_of_word_suffix") if model.get(name)]
    if model["type"] != "BPE" or odd:
        what = model["type"] if model["type"] != "BPE" else f"BPE with {odd[0]}"
        raise InputError(f"--gguf writes BPE tokenizers, and this one is {what}; {CONVERTER}")
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    is_sentencepiece = bool(model.get("byte_fallback"))
    tokens, types = _tokens(tokenizer, size, is_sentencepiece)
    if is_sentencepiece:
        return Vocabulary("llama", "default", tokens, types, [], _scores(tokens, merges), _adds_space(state))
    return Vocabulary("gpt2", byte_level_pre(backend), tokens, types, merges, [], False)


def _tokens(tokenizer: PreTrainedTokenizerBase, size: int, is_sentencepiece: bool) -> tuple[list[str], list[int]]:
    from gguf import TokenType

    text_of_id = {token_id: text for text, token_id in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    tokens, types = [], []
    for token_id in range(size):
        text = text_of_id.get(token_id)
        if text is None:
            kind, text = TokenType.UNUSED, f"[PAD{token_id}]"
        elif is_sentencepiece and token_id == tokenizer.unk_token_id:
            kind = TokenType.UNKNOWN
        elif token_id in added:
            kind = TokenType.CONTROL if added[token_id].special else TokenType.USER_DEFINED
        elif is_sentencepiece and _BYTE_TOKEN.fullmatch(text):
            kind = TokenType.BYTE
        else:
            kind = TokenType.NORMAL
        tokens.append(text)
        types.append(int(kind))
    return tokens, types


def byte_level_pre(backend: Tokenizer) -> str:
    """Return the name of the pre-tokenizer of llama.cpp that splits text as the tokenizer does.

    Raises InputError if there is none.
    """
    if backend.pre_tokenizer is not None:
        pieces = backend.pre_tokenizer.pre_tokenize_str(SPLIT_PROBE)
        for name in _SPLITS:
            if _pre_tokenizer(name).pre_tokenize_str(SPLIT_PROBE) == pieces:
                return name
    raise InputError(f"--gguf knows no pre-tokenizer of llama.cpp that splits text as this tokenizer does; {CONVERTER}")


def _pre_tokenizer(name: str) -> PreTokenizer:
    from tokenizers import Regex, pre_tokenizers

    splits = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in _SPLITS[name]]
    return pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _scores(tokens: list[str], merges: list[str]) -> list[float]:
    """Return minus the rank of the first merge that makes each token: llama.cpp joins the pair of the highest score."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        ranks.setdefault(merge.replace(" ", ""), rank)
    return [-float(ranks.get(token, len(merges))) for token in tokens]


def _adds_space(state: dict[str, Any]) -> bool:
    """Return whether a SentencePiece tokenizer puts a space before a text."""
    parts = [state.get(name) or {} for name in ("normalizer", "pre_tokenizer")]
    steps = [step for part in parts for step in [part, *part.get("normalizers", []), *part.get("pretokenizers", [])]]
    return any(
        step.get("type") == "Prepend"
        or (step.get("type") == "Metaspace" and step.get("prepend_scheme", "always") != "never")
        for step in steps
    )


def tokenizer_of_file(path: Path) -> Tokenizer:
    """Return the tokenizer that a GGUF file describes, built from its metadata by the rules of llama.cpp."""
    from gguf import GGUFReader, TokenType
    from tokenizers import AddedToken, Tokenizer, decoders, models
    from transformers import AutoTokenizer

    fields = GGUFReader(path).fields
    if fields["tokenizer.ggml.model"].contents() == "llama":
        return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).backend_tokenizer
    pre = fields["tokenizer.ggml.pre"].contents()
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    vocab = {token: token_id for token_id, token in enumerate(tokens)}
    rebuilt = Tokenizer(models.BPE(vocab, merges, ignore_merges=pre in _IGNORE_MERGES))
    rebuilt.pre_tokenizer = _pre_tokenizer(pre)
    rebuilt.decoder = decoders.ByteLevel()
    types = fields["tokenizer.ggml.token_type"].contents()
    for kind, special in ((TokenType.CONTROL, True), (TokenType.USER_DEFINED, False)):
        texts = [token for token, found in zip(tokens, types, strict=True) if found == kind]
        added = [AddedToken(text, normalized=False, special=special) for text in texts]
        rebuilt.add_special_tokens(added) if special else rebuilt.add_tokens(added)
    return rebuilt
