"""An embedder without a model: texts as hashed words and pieces of words.

Each word, pair of neighbours and piece of four letters adds its share to one dimension. The sign of
its hash says whether up or down, so collisions cancel out on average. Codes are split (`BAT_LOW` is
also `bat` and `low`), word endings are cut off, and frequent small words are left out.
"""

import math
import re
from collections import Counter, defaultdict
from functools import lru_cache
from itertools import pairwise
from zlib import crc32

DIMENSIONS = 512

_WORD = re.compile(r"[^\W_]+(?:[_.-][^\W_]+)*")
_PART = re.compile(r"[^\W_]+")
_CAMEL_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_ENDING = re.compile(r"(?<=\w{3})(?:ations?|ings?|edly|ed|ies|es|s|ly|ment)$")
_PIECE = 4
# A feature is a number: its digest, with the sign in the lowest bit, then its kind in two bits.
_WORDS, _PAIRS, _PIECES = range(3)
_WEIGHTS = (1.0, 0.3, 0.3)
_SHARES = (*(-weight for weight in _WEIGHTS), 0.0, *_WEIGHTS)
_KNOWN_WORDS, _LONGEST_KNOWN = 10_000, 40
_SMALL = re.compile(
    "an?|and|any|are|as|at|be|been|but|by|can|did|do|does|for|from|had|has|have|he|her|his|how|if"
    "|in|into|is|its?|may|more|most|not?|nor|o[fnr]|our|she|so|such|than|that|the|their|them|then"
    "|there|these|they|this|those|to|was|we|were|what|when|where|which|who|whom|whose|why|will"
    "|with|would|you|your"
)


def embed(text: str) -> list[float]:
    """Return a vector of length 1 with `DIMENSIONS` numbers. A text without words gives zeros."""
    words = [
        word
        for found in _WORD.findall(text)
        for word in (_known_words(found) if len(found) <= _LONGEST_KNOWN else _words(found))
    ]
    features = [feature for _, features in words for feature in features]
    features += [_feature(_PAIRS, f"b{one} {other}") for (one, _), (other, _) in pairwise(words)]
    shares: defaultdict[int, float] = defaultdict(float)
    for feature, count in Counter(features).items():
        shares[(feature >> 3) % DIMENSIONS] += _SHARES[feature & 7] * (1 + math.log(count))
    length = math.hypot(*shares.values()) or 1.0
    vector = [0.0] * DIMENSIONS
    for place, share in shares.items():
        vector[place] = share / length
    return vector


def _words(found: str) -> list[tuple[str, list[int]]]:
    """Return the words in one token, each with its features."""
    parts = _PART.findall(_CAMEL_BOUNDARY.sub(" ", found))
    words = [found.lower()] if len(parts) > 1 else []
    words += [_ENDING.sub("", part.lower()) for part in parts]
    return [(word, _features(word)) for word in words if not _SMALL.fullmatch(word)]


# Short words repeat. Long ones do not, and would fill the memory.
_known_words = lru_cache(_KNOWN_WORDS)(_words)


def _features(word: str) -> list[int]:
    padded = f"<{word}>"
    pieces = (padded[at : at + _PIECE] for at in range(len(padded) - _PIECE + 1))
    return [_feature(_WORDS, f"w{word}"), *(_feature(_PIECES, f"p{piece}") for piece in pieces)]


def _feature(kind: int, text: str) -> int:
    return crc32(text.encode("utf-8", "replace")) << 2 | kind
