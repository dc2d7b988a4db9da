"""Texts as hashed words and pieces of words: an embedder without a model.

Every word, pair of neighbours and piece of four letters adds its share to one of the dimensions,
up or down by the sign of its hash, so that collisions cancel out on average. Codes are taken apart
(`BAT_LOW` is also `bat` and `low`), word endings are cut off, and frequent small words left out.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from zlib import crc32

DIMENSIONS = 512

_WORD = re.compile(r"[^\W_]+(?:[_.-][^\W_]+)*")
_PART = re.compile(r"[^\W_]+")
_CAMEL_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_ENDING = re.compile(r"(?<=\w{3})(?:ations?|ings?|edly|ed|ies|es|s|ly|ment)$")
_PIECE = 4
_WORD_WEIGHT, _PAIR_WEIGHT, _PIECE_WEIGHT = 1.0, 0.3, 0.3
_SMALL = re.compile(
    "an?|and|any|are|as|at|be|been|but|by|can|did|do|does|for|from|had|has|have|he|her|his|how|if"
    "|in|into|is|its?|may|more|most|not?|nor|o[fnr]|our|she|so|such|than|that|the|their|them|then"
    "|there|these|they|this|those|to|was|we|were|what|when|where|which|who|whom|whose|why|will"
    "|with|would|you|your"
)


def embed(text: str) -> list[float]:
    """Return a vector of length 1 with `DIMENSIONS` numbers; zeros for a text without words."""
    vector = [0.0] * DIMENSIONS
    for (feature, weight), count in Counter(_features(text)).items():
        digest = crc32(feature.encode("utf-8", "replace"))
        sign = 1 if digest & 1 else -1
        vector[(digest >> 1) % DIMENSIONS] += sign * weight * (1 + math.log(count))
    length = math.hypot(*vector)
    return [number / length for number in vector] if length else vector


def _features(text: str) -> Iterator[tuple[str, float]]:
    words = [word for word in _words(text) if not _SMALL.fullmatch(word)]
    for word in words:
        yield f"w{word}", _WORD_WEIGHT
        padded = f"<{word}>"
        for start in range(len(padded) - _PIECE + 1):
            yield f"p{padded[start : start + _PIECE]}", _PIECE_WEIGHT
    for pair in pairwise(words):
        yield f"b{' '.join(pair)}", _PAIR_WEIGHT


def _words(text: str) -> Iterator[str]:
    for found in _WORD.findall(text):
        parts = _PART.findall(_CAMEL_BOUNDARY.sub(" ", found))
        if len(parts) > 1:
            yield found.lower()
        yield from (_ENDING.sub("", part.lower()) for part in parts)
