"""SQS, S3 and Step Functions as files in a folder, which outlive the calling process."""

import io
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote
from uuid import uuid4

from botocore.exceptions import ClientError
from botocore.response import StreamingBody

from skald.aws import client


class _Folder:
    """A folder with entries of one kind."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] | None = getattr(self, f"_{operation}")(**parameters)
        return answer or {}

    def _place(self, name: str) -> Path:
        place = self._folder / name
        place.mkdir(exist_ok=True)
        return place


class _Queues(_Folder):
    """A message that is sent twice is there twice; it is visible again until it is deleted."""

    def messages(self, queue: str) -> list[Path]:
        return sorted(self._place(queue).iterdir())

    def send(self, queue: str, body: str) -> None:
        (self._place(queue) / uuid4().hex).write_text(body)

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

    def _GetQueueUrl(self, QueueName: str) -> dict[str, Any]:  # noqa: N802, N803
        return {"QueueUrl": QueueName}

    def _ChangeMessageVisibility(self, **_: Any) -> None:  # noqa: N802
        """Messages that are not deleted are always visible."""

    def _DeleteMessage(self, QueueUrl: str, ReceiptHandle: str) -> None:  # noqa: N802, N803
        (self._place(QueueUrl) / ReceiptHandle).unlink()


class _Objects(_Folder):
    """Objects by bucket and key. A multipart upload is an object only when it is completed."""

    def objects(self, bucket: str) -> set[str]:
        return {unquote(path.name) for path in self._place(bucket).iterdir()}

    def put(self, bucket: str, key: str, body: bytes) -> None:
        self._path(bucket, key).write_bytes(body)

    def _path(self, bucket: str, key: str) -> Path:
        return self._place(bucket) / quote(key, safe="")

    def _PutObject(self, Bucket: str, Key: str, Body: bytes = b"", **_: str) -> None:  # noqa: N802, N803
        self.put(Bucket, Key, Body)

    def _GetObject(self, Bucket: str, Key: str, **_: str) -> dict[str, Any]:  # noqa: N802, N803
        path = self._path(Bucket, Key)
        if not path.exists():
            raise client("s3").exceptions.NoSuchKey({}, "GetObject")
        body = path.read_bytes()
        return {
            "Body": StreamingBody(io.BytesIO(body), len(body)),
            "ContentLength": len(body),
            "ResponseMetadata": {"RetryAttempts": 0, "HTTPStatusCode": 200},
        }

    def _ListObjectsV2(self, Bucket: str, Prefix: str) -> dict[str, Any]:  # noqa: N802, N803
        found = sorted(key for key in self.objects(Bucket) if key.startswith(Prefix))
        return {
            "Contents": [
                {"Key": key, "Size": self._path(Bucket, key).stat().st_size} for key in found
            ]
        }

    def _HeadObject(self, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N802, N803
        path = self._path(Bucket, Key)
        if not path.exists():
            raise ClientError({"ResponseMetadata": {"HTTPStatusCode": 404}}, "HeadObject")  # type: ignore[typeddict-item]
        return {"ContentLength": path.stat().st_size}

    def _DeleteObject(self, Bucket: str, Key: str) -> None:  # noqa: N802, N803
        self._path(Bucket, Key).unlink(missing_ok=True)

    def _DeleteObjects(self, Bucket: str, Delete: dict[str, Any]) -> None:  # noqa: N802, N803
        for entry in Delete["Objects"]:
            self._DeleteObject(Bucket, entry["Key"])

    def _CreateMultipartUpload(self, **_: str) -> dict[str, Any]:  # noqa: N802
        upload_id = uuid4().hex
        self._place(upload_id)
        return {"UploadId": upload_id}

    def _ListParts(self, UploadId: str, **_: str) -> dict[str, Any]:  # noqa: N802, N803
        if not (self._folder / UploadId).exists():
            raise client("s3").exceptions.NoSuchUpload({}, "ListParts")
        numbers = [int(path.name) for path in sorted(self._place(UploadId).iterdir())]
        return {"Parts": [{"PartNumber": number, "ETag": str(number)} for number in numbers]}

    def _UploadPart(self, UploadId: str, PartNumber: int, Body: Any, **_: str) -> dict[str, Any]:  # noqa: N802, N803
        (self._place(UploadId) / f"{PartNumber:05}").write_bytes(
            Body if isinstance(Body, bytes) else Body.read()
        )
        return {"ETag": str(PartNumber)}

    def _CompleteMultipartUpload(  # noqa: N802
        self,
        Bucket: str,  # noqa: N803
        Key: str,  # noqa: N803
        UploadId: str,  # noqa: N803
        **_: object,
    ) -> None:
        parts = sorted(self._place(UploadId).iterdir())
        self.put(Bucket, Key, b"".join(part.read_bytes() for part in parts))
        shutil.rmtree(self._place(UploadId))


class _Machines(_Folder):
    """Executions by name, each started once, and the task tokens that got an answer."""

    def executions(self) -> dict[str, str]:
        """Return the status of every execution."""
        return {path.name: self._execution(path)["status"] for path in self._started()}

    def answers(self) -> set[str]:
        return {path.name for path in self._place("tokens").iterdir()}

    def start(self, name: str, document: str) -> None:
        self._keep(name, {"status": "RUNNING", "input": document})

    def stop(self, name: str) -> None:
        self._keep(name, self._execution(self._place("executions") / name) | {"status": "ABORTED"})

    def _started(self) -> list[Path]:
        return sorted(self._place("executions").iterdir())

    def _execution(self, path: Path) -> dict[str, str]:
        execution: dict[str, str] = json.loads(path.read_text())
        return execution

    def _keep(self, name: str, execution: dict[str, str]) -> None:
        (self._place("executions") / name).write_text(json.dumps(execution))

    def _StartExecution(self, stateMachineArn: str, name: str, input: str) -> dict[str, Any]:  # noqa: N802, N803
        if (self._place("executions") / name).exists():
            raise client("stepfunctions").exceptions.ExecutionAlreadyExists({}, "StartExecution")
        self.start(name, input)
        arn = f"{stateMachineArn.replace(':stateMachine:', ':execution:')}:{name}"
        return {"executionArn": arn, "startDate": datetime.now(UTC)}

    def _DescribeExecution(self, executionArn: str) -> dict[str, Any]:  # noqa: N802, N803
        path = self._place("executions") / executionArn.rpartition(":")[2]
        if not path.exists():
            raise client("stepfunctions").exceptions.ExecutionDoesNotExist({}, "Describe")
        return {"executionArn": executionArn} | self._execution(path)

    def _StopExecution(self, executionArn: str, cause: str) -> None:  # noqa: ARG002, N802, N803
        self.stop(executionArn.rpartition(":")[2])

    def _SendTaskHeartbeat(self, taskToken: str) -> None:  # noqa: N802, N803
        """Every token has an execution that waits for it."""

    def _SendTaskSuccess(self, taskToken: str, output: str) -> None:  # noqa: N802, N803
        (self._place("tokens") / taskToken).write_text(output)


class FolderAws(_Queues, _Objects, _Machines):
    """Answers the AWS calls of the scenarios."""
