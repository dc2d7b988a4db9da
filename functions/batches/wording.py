"""Text for people: counts with singular or plural nouns, and shortened texts."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return `1 file`, `0 files` or `144,484 events`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def shortened(text: str, limit: int) -> str:
    """Return at most `limit` characters of a text; a cut text ends with an ellipsis."""
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"
