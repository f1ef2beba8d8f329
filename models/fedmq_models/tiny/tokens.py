"""Tokens: a byte-pair merges file of our own, so small that the text tower is not mostly an embedding table.

The standard CLIP vocabulary has 49,408 entries, which at width 64 is 6.3 MB; our captions use some sixty words. The
merges are learned on those words until each is one token. Other words fall apart into letters, so every text tokenises.

Byte-pair encoding: Sennrich et al. 2016, arXiv:1508.07909. The file is what open_clip's SimpleTokenizer reads: gzip, a
first line that it skips, one merge per line in the order they apply, and no newline at the end (it would count as an
empty merge and shift the special tokens).
"""

import gzip
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Final

_END: Final = "</w>"  # marks a word's last symbol
_ALPHABET: Final = 512  # 256 bytes, each inside a word and at its end
_SPECIAL: Final = 2  # start and end of text

Merge = tuple[str, str]


def learn(words: Iterable[str]) -> list[Merge]:
    """The merges, in order, that make each word one symbol; the commonest pair first, ties alphabetically.

    words      lower-case ASCII words, where a symbol is its own byte
    """
    spelled = [[*word[:-1], word[-1] + _END] for word in sorted(set(words))]
    merges: list[Merge] = []
    while pairs := Counter(pair for word in spelled for pair in pairwise(word)):
        merge = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(merge)
        spelled = [_merged(word, merge) for word in spelled]
    return merges


def vocabulary_size(merges: list[Merge]) -> int:
    """Entries in the embedding table that belong to these merges."""
    return _ALPHABET + len(merges) + _SPECIAL


def write(path: Path, merges: list[Merge]) -> None:
    """Write the merges file; equal merges give equal bytes."""
    text = "\n".join(["#version: fedmq tiny", *(f"{left} {right}" for left, right in merges)])
    path.write_bytes(gzip.compress(text.encode("ascii"), mtime=0))


def _merged(word: list[str], merge: Merge) -> list[str]:
    out: list[str] = []
    for symbol in word:
        if out and (out[-1], symbol) == merge:
            out[-1] += symbol
        else:
            out.append(symbol)
    return out
