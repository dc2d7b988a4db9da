"""The migrations of all schema folders: which are released, and what they contract."""

import re
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = [
    ROOT / "layers/core/skald/schema",
    *sorted(ROOT.glob("functions/*/schema")),
]
RELEASED = "released.sha256"
"""The list in each folder of the released files, as `sha256sum *.sql` prints it."""
_CONTRACT = re.compile(r"^-- contract: (\S.*) since (\S+)$", re.M)


def files() -> list[Path]:
    """Return every migration."""
    return [file for folder in FOLDERS for file in sorted(folder.glob("*.sql"))]


def released() -> dict[Path, str]:
    """Return the released migrations, each with its hash at the release."""
    found = {}
    for folder in FOLDERS:
        listed = folder / RELEASED
        for line in listed.read_text().splitlines() if listed.exists() else ():
            digest, name = line.split("  ")
            found[folder / name] = digest
    return found


def unreleased() -> list[Path]:
    """Return the migrations of the next release."""
    return [file for file in files() if file not in released()]


def digest(file: Path) -> str:
    """Return the hash of a file as `sha256sum` prints it."""
    return sha256(file.read_bytes()).hexdigest()


def contracts(text: str) -> dict[str, str]:
    """Return what a migration removes, each with the migration since which no code uses it."""
    return dict(_CONTRACT.findall(text))
