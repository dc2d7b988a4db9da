"""The keys of objects: `<context>/<tenant>/<owner>/<name>`, in every bucket.

The context comes first: S3 filters notifications by prefix, and IAM limits a function to a prefix,
so each context gets its own trigger and its own policy in a bucket that all of them share.
"""

from typing import Self
from uuid import UUID

from pydantic import BaseModel, Field, field_validator

from skald.messaging.envelope import derived_id

MAX_NAME = 200


class ObjectName(BaseModel, defer_build=True):
    """The parts of an uploaded object's key; `owner_id` is the id of its batch, submission …"""

    context: str = Field(pattern=r"^[a-z_]+$")
    tenant_id: UUID
    owner_id: UUID
    name: str = Field(min_length=1, max_length=MAX_NAME)

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        return plain_name(name)

    @property
    def key(self) -> str:
        return prefix(self.context, self.tenant_id, self.owner_id) + self.name

    @property
    def file_id(self) -> UUID:
        """The id of the file: the API and S3's trigger derive the same id from owner and name."""
        return derived_id("file", self.owner_id, self.name)

    @classmethod
    def of_key(cls, key: str) -> Self | None:
        """Parse a key; None if it is not a key of ours."""
        try:
            context, tenant, owner, name = key.split("/")
            read = cls(context=context, tenant_id=UUID(tenant), owner_id=UUID(owner), name=name)
        except ValueError:
            return None
        return read if read.key == key else None  # an id can be written in several ways


def prefix(context: str, tenant_id: UUID, owner_id: UUID) -> str:
    """Return the prefix of the keys of all objects of an owner."""
    return f"{context}/{tenant_id}/{owner_id}/"


def tenant_of(key: str) -> UUID | None:
    """Return the tenant in a key, None if the key holds no tenant."""
    _, _, rest = key.partition("/")
    try:
        return UUID(rest.partition("/")[0])
    except ValueError:
        return None


def plain_name(name: str) -> str:
    """Return a file name that cannot leave its folder or forge a log line; else `ValueError`."""
    if "/" in name or "\\" in name or not name.isprintable() or not name.strip(". "):
        raise ValueError("a file name has no slashes and no control characters")
    return name
