"""Merges layers into one folder, as Lambda does under /opt."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path


def merged(layers: Sequence[Path], parent: Path) -> Path:
    """Return the folder with all layers merged; a later layer overrides an earlier one.

    The merge is cached by the layers' own folders, which LocalStack never changes.
    """
    name = hashlib.sha256("\0".join(map(str, layers)).encode()).hexdigest()[:16]
    target = parent / name
    if not target.exists():
        draft = parent / f"{name}.{os.urandom(4).hex()}"
        _merge(layers, draft)
        _publish(draft, target)
    return target


def _merge(sources: Sequence[Path], target: Path) -> None:
    """Link each entry of the last source that has it; descend only where folders meet."""
    target.mkdir(parents=True)
    for name in sorted({entry.name for source in sources for entry in source.iterdir()}):
        candidates = [source / name for source in sources if (source / name).exists()]
        folders = [path for path in candidates if path.is_dir()]
        if len(candidates) > 1 and folders == candidates:
            _merge(folders, target / name)
        else:
            (target / name).symlink_to(candidates[-1])


def _publish(draft: Path, target: Path) -> None:
    try:
        draft.rename(target)
    except OSError:
        # Another thread merged the same layers first; both merges are equal.
        if not target.exists():
            raise
