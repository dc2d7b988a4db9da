"""C-03: objects of a bucket, for any context."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import requests

from skald.aws import client
from skald.errors import Temporary
from skald.storage import objects
from skald.storage.objects import ARTIFACTS, Bucket


@pytest.fixture
def folder(aws: None) -> str:
    """A prefix for this test alone."""
    return f"exams/{uuid4()}/"


def test_what_is_written_is_read_and_linked_to(folder: str) -> None:
    """V-10: a function reads the object, and a client reads it through a link."""
    ARTIFACTS.write(f"{folder}a b+c.html", "<p>Ü</p>".encode(), "text/html")
    assert ARTIFACTS.read(f"{folder}a b+c.html") == "<p>Ü</p>".encode()
    assert ARTIFACTS.size(f"{folder}a b+c.html") == 9
    answer = requests.get(ARTIFACTS.url(f"{folder}a b+c.html"), timeout=5)
    assert (answer.content, answer.headers["Content-Type"]) == ("<p>Ü</p>".encode(), "text/html")


def test_what_was_never_written_is_none(folder: str) -> None:
    """C-03: a missing object is None, a missing bucket is an error."""
    assert ARTIFACTS.read(f"{folder}a") is None
    assert ARTIFACTS.size(f"{folder}a") is None
    assert ARTIFACTS.sizes(folder) == {}
    with pytest.raises(LookupError, match="NO_BUCKET"):
        Bucket("NO_BUCKET").read("a")


@pytest.fixture
def small_pages(aws: None) -> Iterator[None]:
    """S3 lists two objects at a time instead of a thousand."""

    def two(params: dict[str, Any], **_: object) -> None:
        params["MaxKeys"] = 2

    events = client("s3").meta.events
    events.register("provide-client-params.s3.ListObjectsV2", two)
    yield
    events.unregister("provide-client-params.s3.ListObjectsV2", two)


def test_a_prefix_is_listed_and_deleted_page_by_page(
    folder: str, small_pages: None, calls: list[str]
) -> None:
    """C-07: S3 lists and deletes a page at a time, and all objects are deleted."""
    for number in range(5):
        ARTIFACTS.write(f"{folder}{number}", b"x" * number, "text/plain")
    ARTIFACTS.write(f"{folder.removesuffix('/')}-2/a", b"x", "text/plain")
    calls.clear()
    assert ARTIFACTS.sizes(folder) == {f"{folder}{number}": number for number in range(5)}
    assert calls == ["ListObjectsV2"] * 3
    for _ in range(2):
        ARTIFACTS.delete_all(folder)
        assert ARTIFACTS.sizes(folder) == {}
    assert ARTIFACTS.size(f"{folder.removesuffix('/')}-2/a") == 1, "another prefix stays"


def test_an_object_that_s3_keeps_is_not_taken_for_deleted(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C-07: S3 answers 200 and names the objects that it kept; the step is to be tried again."""
    ARTIFACTS.write(f"{folder}a", b"x", "text/plain")

    class Keeping:
        """An S3 that deletes nothing."""

        def __getattr__(self, name: str) -> Any:
            return getattr(client("s3"), name)

        def delete_objects(self, **_: object) -> dict[str, Any]:
            return {"Errors": [{"Key": f"{folder}a", "Code": "SlowDown"}]}

    monkeypatch.setattr(objects, "client", lambda _: Keeping())
    with pytest.raises(Temporary, match="SlowDown"):
        ARTIFACTS.delete_all(folder)
