"""The sources of a file to parse: a local disk, S3, or the content of a gzip file."""

import gzip
import io
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, cast

from batches.parsing.interface import LogFile, Rejected

_COPY_BYTES = 1024 * 1024


class LocalSource:
    """A file on the local disk."""

    def __init__(self, path: Path, name: str | None = None) -> None:
        self._path = path
        self.name = name or path.name
        self.size = path.stat().st_size

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Stream the bytes from the beginning."""
        with self._path.open("rb") as stream:
            yield stream

    @contextmanager
    def path(self) -> Iterator[Path]:
        """Return the file itself."""
        yield self._path


class S3Source:
    """An object in S3; `client` is a boto3 S3 client, `name` is the file name of its owner."""

    def __init__(self, client: Any, bucket: str, key: str, size: int, name: str) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self.size = size
        self.name = name

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Stream the object."""
        import smart_open.s3

        stream = smart_open.s3.open(
            self._bucket, self._key, "rb", client=self._client, defer_seek=True
        )
        with stream:
            yield cast(BinaryIO, stream)

    @contextmanager
    def path(self) -> Iterator[Path]:
        """Download the object to a temporary folder, which is removed afterwards."""
        with _copied(self) as path:
            yield path


class GzipSource:
    """The content of a gzip file, at most `max_bytes`; a small file can unpack to a huge one."""

    def __init__(self, packed: LogFile, max_bytes: int) -> None:
        self._packed = packed
        self._max_bytes = max_bytes
        self.name = packed.name.removesuffix(".gz")
        self.size = packed.size

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Stream the unpacked bytes.

        Reading raises `Rejected` if the gzip data is bad or unpacks to more than `max_bytes`.
        """
        with self._packed.open() as packed, gzip.GzipFile(fileobj=packed) as stream:
            yield cast(BinaryIO, io.BufferedReader(_Bounded(stream, self._max_bytes)))

    @contextmanager
    def path(self) -> Iterator[Path]:
        """Unpack to a temporary folder, which is removed afterwards."""
        with _copied(self) as path:
            yield path


class _Bounded(io.RawIOBase):
    def __init__(self, stream: gzip.GzipFile, max_bytes: int) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read1(len(buffer))
        except EOFError:
            raise Rejected(
                f"the gzip file is cut off: it unpacked to {self._read} bytes and has no end"
            ) from None
        except (gzip.BadGzipFile, zlib.error):
            raise Rejected(f"the gzip data is damaged after {self._read} bytes") from None
        self._read += len(data)
        if self._read > self._max_bytes:
            raise Rejected(f"the gzip file unpacks to more than {self._max_bytes} bytes")
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def _copied(source: LogFile) -> Iterator[Path]:
    with TemporaryDirectory(prefix="skald-") as directory:
        path = Path(directory) / "file"
        with source.open() as stream, path.open("wb") as copy:
            shutil.copyfileobj(stream, copy, _COPY_BYTES)
        yield path
