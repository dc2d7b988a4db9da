"""V-04: files are read from S3 and tables are written to it, as streams."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from moto import mock_aws
from tests.unit.parsing import samples

from batches.parsing import Rejected, S3Sink, S3Source, parse

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "files"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator["S3Client"]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket=BUCKET)
        yield client
        client.close()


def stored(client: "S3Client", data: bytes, name: str) -> S3Source:
    client.put_object(Bucket=BUCKET, Key=f"raw/{name}", Body=data)
    return S3Source(client, BUCKET, f"raw/{name}", len(data), name)


def keys(client: "S3Client", prefix: str) -> set[str]:
    found = client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return {entry["Key"].removeprefix(prefix) for entry in found}


@pytest.mark.parametrize(
    ("data", "name", "tables"),
    [
        (samples.TEXT, "a.log", {"events", "templates", "timeline"}),
        (samples.ulog(), "a.ulg", {"events", "motion", "motion_1", "timeline", "movers"}),
    ],
    ids=["text", "ulog"],
)
def test_from_s3_to_s3(s3: "S3Client", data: bytes, name: str, tables: set[str]) -> None:
    """V-04: every parse writes CSV to S3."""
    with S3Sink(s3, BUCKET, "parsed/1") as sink:
        features = parse(stored(s3, data, name), sink, {}, max_bytes=1 << 20)
    assert features.total_events
    assert keys(s3, "parsed/1/") == {f"{table}.csv" for table in tables}
    events = s3.get_object(Bucket=BUCKET, Key="parsed/1/events.csv")
    assert events["ContentType"] == "text/csv"
    assert events["Body"].read().startswith(b"line,timestamp,level,code,")


def test_a_rejected_file_leaves_no_table(s3: "S3Client", tmp_path: Path) -> None:
    """V-04: the open uploads of a rejected file are aborted, in S3 too."""
    cut = samples.candump()[:-4]
    with pytest.raises(Rejected), S3Sink(s3, BUCKET, "parsed/2") as sink:
        parse(stored(s3, cut, "a.log"), sink, {}, max_bytes=1 << 20)
    assert keys(s3, "parsed/2/") == set()
    assert not s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads")
