"""Finds severities and stable error codes in the text of log lines."""

import re

from batches.features import Severity

CODE_LIMIT = 40

_SEVERITIES: dict[Severity, str] = {
    "critical": "F A EMERG EMERGENCY ALERT CRIT CRITICAL FATAL PANIC",
    "error": "E ERR ERROR SEVERE FAIL FAILED FAILURE",
    "warning": "W WARN WARNING",
    "info": "I INFO INFORMATION NOTICE CONFIG",
    "debug": "D V DEBUG TRACE VERBOSE FINE FINER FINEST",
}
_BY_WORD = {word: severity for severity, words in _SEVERITIES.items() for word in words.split()}

LEVEL_WORDS = "|".join(sorted((w for w in _BY_WORD if len(w) > 1), key=len, reverse=True))
"""The level words of common loggers as alternatives of a regular expression."""

_LOUD = re.compile(rf"\b(?:{LEVEL_WORDS})\b")
_QUIET = re.compile(
    rf"""(?:^|[\[(<|"'=\s])({LEVEL_WORDS})(?:["'\])>|]|:(?:\s|$))|\blevel["']?\s*[=:]\s*["']?(\w+)""",
    re.IGNORECASE,
)
_CRITICAL = re.compile(
    r"(?<!non-)\bcritical\b|\bcrash(?:ed|es)?\b|\bpanic\b|\bwatchdog (?:reset|timeout|bite)\b",
    re.IGNORECASE,
)

_EXPLICIT_CODES = re.compile(
    r"""\b(?P<dtc>DTC)[\s:=#-]*(?P<dtc_value>0[xX][0-9A-Fa-f]+|[0-9A-Fa-f]{4,6}\b|[PCBU][0-9A-F]{4})
    | \b(?P<obd>[PCBU][0-3][0-9A-F]{3})\b
    | \b(?P<errno>errno)[\s:=]+(?P<errno_value>-?\w+)
    | \b(?:error|err|fault|status|exit)?[ _-]?code[\s]*[:=][\s"']*(?P<code>0[xX][0-9A-Fa-f]+|-?\w+)
    | \b(?P<constant>ERR(?:OR)?_[A-Z0-9_]+|E[A-Z]*-?\d{2,6}|[A-Z]{2,8}-\d{3,6})\b
    | \b(?P<exception>(?:[a-zA-Z_]\w*\.)*[A-Z]\w*(?:Exception|Error))\b""",
    re.VERBOSE,
)
_VALUES = re.compile(r"0[xX][0-9A-Fa-f]+|\d+|(?<!\w)/\S+")
_NOT_A_WORD = re.compile(r"[^A-Za-z]+")


def severity(word: str) -> Severity | None:
    """Return the severity of a level word or letter, or None if it is neither."""
    return _BY_WORD.get(word.upper())


def severity_in(text: str) -> Severity | None:
    """Return the level inside a message, or None.

    The level word is in capitals, or it is marked like `[error]` or `warning:`.
    """
    loud = _LOUD.search(text)
    if loud:
        return _BY_WORD[loud[0]]
    quiet = _QUIET.search(text)
    return severity(quiet[1] or quiet[2]) if quiet else None


def sounds_critical(text: str) -> bool:
    """Return whether a message mentions a crash, a panic or similar."""
    return _CRITICAL.search(text) is not None


def find_code(text: str) -> str | None:
    """Return the error code that a message contains, or None: `P0420`, `DTC_0x1A2B`, `ERRNO_13`."""
    match = _EXPLICIT_CODES.search(text)
    if match is None:
        return None
    if match["dtc"]:
        return f"DTC_{match['dtc_value']}"
    if match["errno"]:
        return f"ERRNO_{match['errno_value']}"[:CODE_LIMIT]
    if match["code"]:
        return f"CODE_{match['code']}"[:CODE_LIMIT]
    return (match["obd"] or match["constant"] or match["exception"])[-CODE_LIMIT:]


def slug(text: str) -> str:
    """Return a code made of a message's words, at most `CODE_LIMIT` characters.

    Numbers and paths are left out, so that the code is the same for all values and files.
    """
    words = _NOT_A_WORD.split(_VALUES.sub(" ", text))
    return "_".join(filter(None, words)).upper()[:CODE_LIMIT].rstrip("_") or "UNNAMED"
