"""Words for people: nouns as numbers ask for them, texts as long as there is room."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return `1 file`, `0 files` or `144,484 events`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def shortened(text: str, limit: int) -> str:
    """Return a text of at most `limit` characters, the last an ellipsis where some are missing."""
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"
