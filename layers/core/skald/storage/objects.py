"""Objects of a bucket: read, write, sign, list, delete (C-03)."""

from skald.aws import client
from skald.config import required
from skald.errors import Temporary

URL_SECONDS = 3_600


class Bucket:
    """A bucket. An environment variable holds its name.

    Call S3 outside of transactions: a row lock must not wait for the network.
    """

    def __init__(self, variable: str) -> None:
        self._variable = variable

    @property
    def name(self) -> str:
        return required(self._variable)

    def read(self, key: str) -> bytes | None:
        """Return an object's bytes, None if there is no such object."""
        s3 = client("s3")
        try:
            return s3.get_object(Bucket=self.name, Key=key)["Body"].read()
        except s3.exceptions.NoSuchKey:
            return None

    def write(self, key: str, body: bytes, content_type: str) -> None:
        """Write an object; it replaces an earlier object of this key."""
        client("s3").put_object(Bucket=self.name, Key=key, Body=body, ContentType=content_type)

    def size(self, key: str) -> int | None:
        """Return an object's size in bytes, None if there is no such object."""
        from botocore.exceptions import ClientError

        try:
            return client("s3").head_object(Bucket=self.name, Key=key)["ContentLength"]
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return None
            raise

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the bytes of every object under a prefix, by key; one call per 1,000 objects."""
        pages = client("s3").get_paginator("list_objects_v2")
        return {
            found["Key"]: found["Size"]
            for page in pages.paginate(Bucket=self.name, Prefix=prefix)
            for found in page.get("Contents", [])
        }

    def url(self, key: str, seconds: int = URL_SECONDS) -> str:
        """Return a signed URL that reads an object, valid for so many seconds."""
        return client("s3").generate_presigned_url(
            "get_object", Params={"Bucket": self.name, "Key": key}, ExpiresIn=seconds
        )

    def delete_all(self, prefix: str) -> None:
        """Delete every object under a prefix; it is no error if there are none.

        Raises `Temporary` when S3 fails to delete some: its answer lists those with status 200.
        """
        pages = client("s3").get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self.name, Prefix=prefix):
            if keys := [found["Key"] for found in page.get("Contents", [])]:
                self._delete(keys)

    def _delete(self, keys: list[str]) -> None:
        answer = client("s3").delete_objects(
            Bucket=self.name, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
        )
        if kept := answer.get("Errors"):
            raise Temporary(f"S3 did not delete {len(kept)} objects: {kept[0].get('Code')}")


UPLOADS = Bucket("UPLOADS_BUCKET")
"""What clients upload."""
ARTIFACTS = Bucket("ARTIFACTS_BUCKET")
"""What functions make; no client writes here."""
