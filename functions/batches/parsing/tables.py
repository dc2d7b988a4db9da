"""Writes CSV tables to a folder or to an S3 prefix."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from batches.parsing.interface import Cell

_PART_BYTES = 8 * 1024 * 1024
"""Size of an S3 upload part; each open table may hold this much in memory."""
_UNSAFE = re.compile(r"[^\w-]")
_NAME_LIMIT = 120


class CsvTable:
    """One CSV over a text stream."""

    def __init__(self, stream: IO[str], columns: Sequence[str]) -> None:
        self._stream = stream
        self._writer = csv.writer(stream, lineterminator="\n")
        self._writer.writerow(columns)

    def write(self, row: Sequence[Cell]) -> None:
        """Write one row; None becomes an empty cell."""
        self._writer.writerow(row)

    def write_all(self, rows: Iterable[Sequence[Cell]]) -> None:
        """Write many rows."""
        self._writer.writerows(rows)

    def close(self) -> None:
        """Finish the table; closing twice does nothing."""
        self._stream.close()


class CsvSink:
    """Writes tables to the text streams that `open_csv` returns for their names.

    Use it as a context manager. A normal exit finishes all tables; an exception discards those
    that are still open.
    """

    def __init__(self, open_csv: Callable[[str], IO[str]]) -> None:
        self._open_csv = open_csv
        self._tables: dict[str, CsvTable] = {}

    def table(self, name: str, columns: Sequence[str]) -> CsvTable:
        """Return the table `<name>.csv` with these columns; the first call starts it.

        Names come from the parsed files. So characters that could lead out of the folder are
        replaced.
        """
        name = _UNSAFE.sub("_", name)[:_NAME_LIMIT]
        if name not in self._tables:
            self._tables[name] = CsvTable(self._open_csv(name), columns)
        return self._tables[name]

    @property
    def names(self) -> list[str]:
        """The names of the tables so far."""
        return list(self._tables)

    def close(self) -> None:
        """Finish every table."""
        for table in self._tables.values():
            table.close()

    def discard(self) -> None:
        """Discard the tables that are still open."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.discard()


class LocalSink(CsvSink):
    """Tables as files of one folder."""

    def __init__(self, directory: Path) -> None:
        super().__init__(self._create)
        self._directory = directory

    def _create(self, name: str) -> IO[str]:
        self._directory.mkdir(parents=True, exist_ok=True)
        return (self._directory / f"{name}.csv").open("w", encoding="utf-8", newline="")


class S3Sink(CsvSink):
    """Tables as objects `<prefix>/<name>.csv`, streamed as multipart uploads.

    `client` is a boto3 S3 client. A discarded upload is aborted and leaves nothing in S3.
    """

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        super().__init__(self._create)
        self._client = client
        self._bucket = bucket
        self._prefix = prefix.rstrip("/")
        self._streams: list[io.TextIOWrapper[Any]] = []

    def _create(self, name: str) -> IO[str]:
        import smart_open.s3

        upload: Any = smart_open.s3.open(
            self._bucket,
            f"{self._prefix}/{name}.csv",
            "wb",
            client=self._client,
            min_part_size=_PART_BYTES,
            client_kwargs={"S3.Client.create_multipart_upload": {"ContentType": "text/csv"}},
        )
        stream = io.TextIOWrapper(upload, encoding="utf-8", newline="")
        self._streams.append(stream)
        return stream

    def discard(self) -> None:
        """Abort the uploads that are still open."""
        for stream in self._streams:
            if not stream.closed:
                upload: Any = stream.detach()
                upload.terminate()
