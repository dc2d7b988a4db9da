"""Recognises the type of a file from its first bytes."""

import re

_BINARY_SHARE = 0.02
_UNDECODED_SHARE = 0.3
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")

SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"(\xb5/\xfd", "a Zstandard file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a Windows program"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"MDF     ", "an MDF measurement, which is not supported yet"),
    (b"#ROSBAG", "a ROS bag, which is not supported"),
    (b"\x89MCAP", "an MCAP recording, which is not supported"),
)


def signature(head: bytes) -> str | None:
    """Return the name of a well-known binary format, or None, from the first bytes of a file."""
    if is_text(head) and not head.startswith(b"%PDF-"):
        return None
    return next((name for magic, name in SIGNATURES if head.startswith(magic)), None)


def is_text(head: bytes) -> bool:
    """Return whether bytes look like text: UTF-8, UTF-16 with a mark, or an 8-bit encoding.

    A few control characters are allowed, because a logger writes some when a reset stops it.
    """
    if head.startswith(_UTF16):
        return "\ufffd" not in head[: len(head) // 2 * 2].decode("utf-16", errors="replace")[:200]
    if not head or head.startswith(b"%PDF-"):
        return False
    strange = len(_CONTROL.findall(head))
    undecoded = head.decode("utf-8", errors="replace").count("\ufffd")
    return strange <= _BINARY_SHARE * len(head) and undecoded <= _UNDECODED_SHARE * len(head)
