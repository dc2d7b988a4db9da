"""An endpoint that speaks OpenAI's protocol: its connections, its key, its errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from skald.models.interface import ModelBusy, ModelRefused, ModelUnreachable

if TYPE_CHECKING:
    import httpx

CONNECT_SECONDS = 5.0
QUOTED = 300
"""Characters of a provider's error text that are passed on."""


class Endpoint:
    """Sends requests to a base URL. Its errors name it `name`."""

    def __init__(self, name: str, url: str, api_key: str | None = None) -> None:
        self._name = name
        self._url = url
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client: httpx.Client | None = None
        self._guard = threading.Lock()

    def close(self) -> None:
        """Close the connections that stay open between requests."""
        if self._client is not None:
            self._client.close()
            self._client = None

    @contextmanager
    def response(self, path: str, body: dict[str, Any], seconds: float) -> Iterator[httpx.Response]:
        """Post a body and pass on the response, to be read inside the block.

        No part of it may take longer than `seconds` to arrive. Raises `ModelBusy`,
        `ModelUnreachable` (a retry may help) or `ModelRefused` (it will not).
        """
        import httpx

        timeout = httpx.Timeout(seconds, connect=min(CONNECT_SECONDS, seconds))
        try:
            with self._connected().stream(
                "POST", f"{self._url}{path}", json=body, timeout=timeout
            ) as response:
                if response.status_code >= 400:
                    response.read()
                    raise _complaint(self._name, response)
                yield response
        except httpx.TransportError as error:
            raise ModelUnreachable(f"{self._name}: {type(error).__name__}: {error}") from error

    def _connected(self) -> httpx.Client:
        import httpx

        with self._guard:
            if self._client is None:
                self._client = httpx.Client(headers=self._headers)
            return self._client


def _complaint(name: str, response: httpx.Response) -> Exception:
    detail = f"{name}: HTTP {response.status_code}: {response.text[:QUOTED]}"
    if response.status_code == 429:
        return ModelBusy(detail, _retry_after(response.headers.get("Retry-After")))
    if response.status_code >= 500 or response.status_code == 408:
        return ModelUnreachable(detail)
    return ModelRefused(detail)


def _retry_after(value: str | None) -> float | None:
    """Return the seconds of a `Retry-After` header, None when it holds a date."""
    try:
        return max(0.0, float(value)) if value else None
    except ValueError:
        return None
