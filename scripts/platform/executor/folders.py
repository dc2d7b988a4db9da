"""Provides the folders of a function: its code, and its merged layers as Lambda's /opt."""

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path


def kept(code: Path, parent: Path) -> Path:
    """Return a copy of the code by hard links, which LocalStack does not delete.

    On every update LocalStack deletes its own copy, although invocations may still run on it.
    """
    target = parent / code.parent.name  # unique for every upload
    if not target.exists():
        draft = _draft(target)
        shutil.copytree(code, draft, copy_function=os.link)
        _publish(draft, target)
    return target


def merged(layers: Sequence[Path], parent: Path) -> Path:
    """Return the folder of all merged layers; a later layer overrides an earlier one.

    The merge is cached by the folders of the layers, which LocalStack never changes.
    """
    name = hashlib.sha256("\0".join(map(str, layers)).encode()).hexdigest()[:16]
    target = parent / name
    if not target.exists():
        draft = _draft(target)
        _merge(layers, draft)
        _publish(draft, target)
    return target


def _merge(sources: Sequence[Path], target: Path) -> None:
    """Link each entry from the last source that has it; merge folders that several have."""
    target.mkdir(parents=True)
    for name in sorted({entry.name for source in sources for entry in source.iterdir()}):
        candidates = [source / name for source in sources if (source / name).exists()]
        folders = [path for path in candidates if path.is_dir()]
        if len(candidates) > 1 and folders == candidates:
            _merge(folders, target / name)
        else:
            (target / name).symlink_to(candidates[-1])


def _draft(target: Path) -> Path:
    return target.with_name(f"{target.name}.{os.urandom(4).hex()}")


def _publish(draft: Path, target: Path) -> None:
    try:
        draft.rename(target)
    except OSError:
        # Another thread created the same folder first; both have the same content.
        if not target.exists():
            raise
