"""Pages of a list."""

from collections.abc import Sequence

from pydantic import BaseModel, Field


class Page[Item](BaseModel):
    """One page of a list and where it stands in the whole."""

    items: Sequence[Item]
    page: int = Field(ge=1)
    page_size: int = Field(ge=1)
    total: int = Field(ge=0)
