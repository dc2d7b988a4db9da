"""Texts as hashed words and pieces of words: an embedder without a model.

Every word, pair of neighbours and piece of four letters adds its share to one of the dimensions,
up or down by the sign of its hash, so that collisions cancel out on average. Codes are taken apart
(`BAT_LOW` is also `bat` and `low`), word endings are cut off, and frequent small words left out.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from zlib import crc32

DIMENSIONS = 512

_WORD = re.compile(r"[^\W_]+(?:[_.-][^\W_]+)*")
_PART = re.compile(r"[^\W_]+")
_CAMEL_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_ENDING = re.compile(r"(?<=\w{3})(?:ations?|ings?|edly|ed|ies|es|s|ly|ment)$")
_PIECE = 4
_WEIGHTS = {"w": 1.0, "b": 0.3, "p": 0.3}
_SMALL = re.compile(
    "an?|and|any|are|as|at|be|been|but|by|can|did|do|does|for|from|had|has|have|he|her|his|how|if"
    "|in|into|is|its?|may|more|most|not?|nor|o[fnr]|our|she|so|such|than|that|the|their|them|then"
    "|there|these|they|this|those|to|was|we|were|what|when|where|which|who|whom|whose|why|will"
    "|with|would|you|your"
)


def embed(text: str) -> list[float]:
    """Return a vector of length 1 with `DIMENSIONS` numbers; zeros for a text without words."""
    shares: defaultdict[int, float] = defaultdict(float)
    for feature, count in Counter(_features(text)).items():
        digest = crc32(feature.encode("utf-8", "replace"))
        share = _WEIGHTS[feature[0]] * (1 + math.log(count))
        shares[(digest >> 1) % DIMENSIONS] += share if digest & 1 else -share
    length = math.hypot(*shares.values()) or 1.0
    vector = [0.0] * DIMENSIONS
    for place, share in shares.items():
        vector[place] = share / length
    return vector


def _features(text: str) -> list[str]:
    """Return what the text is made of, each with the initial of its kind before it."""
    words = [word for word in _words(text) if not _SMALL.fullmatch(word)]
    features: list[str] = []
    for word in words:
        features.append(f"w{word}")
        padded = f"<{word}>"
        features += [f"p{padded[at : at + _PIECE]}" for at in range(len(padded) - _PIECE + 1)]
    return features + [f"b{one} {other}" for one, other in pairwise(words)]


def _words(text: str) -> Iterator[str]:
    for found in _WORD.findall(text):
        parts = _PART.findall(_CAMEL_BOUNDARY.sub(" ", found))
        if len(parts) > 1:
            yield found.lower()
        yield from (_ENDING.sub("", part.lower()) for part in parts)
