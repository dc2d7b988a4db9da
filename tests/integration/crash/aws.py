"""SQS and S3 as files in a folder, which outlive the process that calls them."""

from pathlib import Path
from typing import Any
from uuid import uuid4


class FolderAws:
    """Answers the calls of the scenarios; a message sent twice is there twice.

    Messages are visible again at once when they were received and not deleted.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] | None = getattr(self, f"_{operation}")(**parameters)
        return answer or {}

    def messages(self, queue: str) -> list[Path]:
        return sorted(self._place(queue).iterdir())

    def objects(self, bucket: str) -> set[str]:
        return {path.name for path in self._place(bucket).iterdir()}

    def send(self, queue: str, body: str) -> None:
        (self._place(queue) / uuid4().hex).write_text(body)

    def _place(self, name: str) -> Path:
        place = self._folder / name
        place.mkdir(exist_ok=True)
        return place

    def _SendMessage(self, QueueUrl: str, MessageBody: str) -> None:  # noqa: N802, N803
        self.send(QueueUrl, MessageBody)

    def _SendMessageBatch(self, QueueUrl: str, Entries: list[dict[str, str]]) -> None:  # noqa: N802, N803
        for entry in Entries:
            self.send(QueueUrl, entry["MessageBody"])

    def _ReceiveMessage(self, QueueUrl: str) -> dict[str, Any]:  # noqa: N802, N803
        found = self.messages(QueueUrl)[:10]
        return {
            "Messages": [{"Body": path.read_text(), "ReceiptHandle": path.name} for path in found]
        }

    def _DeleteMessage(self, QueueUrl: str, ReceiptHandle: str) -> None:  # noqa: N802, N803
        (self._place(QueueUrl) / ReceiptHandle).unlink()

    def _PutObject(self, Bucket: str, Key: str) -> None:  # noqa: N802, N803
        (self._place(Bucket) / Key).touch()

    def _DeleteObject(self, Bucket: str, Key: str) -> None:  # noqa: N802, N803
        (self._place(Bucket) / Key).unlink(missing_ok=True)
