"""Writes files that real fleets sometimes send and that no parser can accept."""

from pathlib import Path

from fleet.truth import FileTruth

# A PNG image of one transparent pixel.
_PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)


def write_bad_files(directory: Path, blf: bytes) -> list[FileTruth]:
    """Write an empty log, a truncated BLF and an image that is named like a log."""
    contents = {
        "empty.log": ("empty", b""),
        "truncated.blf": ("blf", blf[: len(blf) * 3 // 5]),
        "screenshot.log": ("png", _PNG),
    }
    for name, (_, content) in contents.items():
        (directory / name).write_bytes(content)
    return [
        FileTruth(name=name, kind="bad", format=kind, vehicle=None, size_bytes=len(content))
        for name, (kind, content) in contents.items()
    ]
