"""V-09: the files that scripts/knowledge loads, and its errors for files that it cannot load."""

from pathlib import Path

import pytest

from client.entries import Unreadable, read
from skald.knowledge.entries import NewEntry

BROWNOUT = NewEntry(
    kind="error_code",
    key="power/E2107",
    title="Brown-out",
    text="It fell, says one; another: below 9 V.",
    error_codes=("E2107", "BROWNOUT"),
    firmware="v2.%",
)
CSV = """\
kind,key,title,text,error_codes,platform,firmware
error_code,power/E2107,Brown-out,"It fell, says one; another: below 9 V.",E2107; BROWNOUT,,v2.%
"""


def written(folder: Path, name: str, text: str, encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_text(text, encoding)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_both_formats_hold_the_same(tmp_path: Path, encoding: str) -> None:
    """V-09: empty cells, blank lines and the byte order mark of spreadsheets are ignored."""
    csv = written(tmp_path, "a.CSV", CSV, encoding)
    lines = written(tmp_path, "a.jsonl", f"\n{BROWNOUT.model_dump_json()}\n", encoding)
    assert read([csv, lines]) == [BROWNOUT, BROWNOUT]


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("a.csv", CSV.replace("Brown-out", ""), "a.csv:2: title: Field required"),
        (
            "a.csv",
            CSV.replace("platform", "plattform").replace(",,", ",J7,"),
            "2: plattform: Extra",
        ),
        ("a.csv", CSV.replace("v2.%", "v2.%,more"), "a.csv:2: cells beyond the header: Extra"),
        ("a.csv", CSV.replace('V."', "V."), "a.csv: unexpected end of data"),
        ("a.jsonl", "{", "a.jsonl:1: Invalid JSON"),
        ("a.jsonl", '\n{"kind": "A b"}', "a.jsonl:2: kind: String should match"),
        ("a.jsonl", "[]", "a.jsonl:1: Input should be an object"),
    ],
)
def test_a_fault_is_named_with_its_place(tmp_path: Path, name: str, text: str, fault: str) -> None:
    """V-09: a file with an error is not loaded at all."""
    good = written(tmp_path, "good.jsonl", BROWNOUT.model_dump_json())
    with pytest.raises(Unreadable) as raised:
        read([good, written(tmp_path, name, text)])
    assert any(fault in said for said in raised.value.args), raised.value.args


def test_files_that_cannot_be_read_at_all(tmp_path: Path) -> None:
    """V-09: a missing file and a file that is no text: the errors name both."""
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG")
    with pytest.raises(Unreadable) as raised:
        read([tmp_path / "missing.csv", tmp_path / "picture.csv"])
    missing, picture = raised.value.args
    assert "missing.csv" in missing
    assert "picture.csv" in picture
