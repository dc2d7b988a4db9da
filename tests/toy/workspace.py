"""A copy of the repository with the files of the toy context."""

import shutil
from pathlib import Path

TOY = Path(__file__).parent
ROOT = TOY.parents[1]
ADDED = ("functions", "statemachines", "events", "tests")
"""Folders of the repository to which a context adds files."""
_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".local", ".aws-sam", "__pycache__", ".*_cache", ".hypothesis", ".ci"
)


def copy_with_toy(folder: Path, *, linked: tuple[str, ...] = ()) -> None:
    """Make the copy in a new folder; `linked` names folders that are linked and not copied."""

    def left_out(where: str, names: list[str]) -> set[str]:
        return _LEFT_OUT(where, names) | (set(linked) if Path(where) == ROOT else set())

    shutil.copytree(ROOT, folder, ignore=left_out)
    for name in linked:
        (ROOT / name).mkdir(exist_ok=True)
        (folder / name).symlink_to(ROOT / name)
    for part in ADDED:
        shutil.copytree(TOY / part, folder / part, ignore=_LEFT_OUT, dirs_exist_ok=True)
    with (folder / "template.yaml").open("a") as template:
        template.write((TOY / "template.yaml").read_text())
