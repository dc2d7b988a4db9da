"""Words for people, in the form that numbers ask for."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return `1 file`, `0 files` or `144,484 events`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
