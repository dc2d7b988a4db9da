"""The settings of the platform: folders, ports and addresses, from the environment."""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from .errors import StackError

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Settings:
    """The ports, the folders and the user's own servers; checkouts use different ones."""

    root: Path
    state: Path
    postgres_port: int
    valkey_port: int
    aws_port: int
    own_postgres: str | None
    own_redis: str | None
    own_aws: str | None
    freeze: bool  # whether idle functions are frozen, as on AWS

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read SKALD_* and the user's POSTGRES_DSN, REDIS_DSN and AWS_ENDPOINT_URL.

        Raises `StackError` for a port that is not a number from 1 to 65535.
        """
        root = Path(environ["SKALD_ROOT"])
        return cls(
            root=root,
            state=Path(environ.get("SKALD_STATE_DIR") or root / ".local").resolve(),
            postgres_port=_port(environ, "SKALD_POSTGRES_PORT", 54329),
            valkey_port=_port(environ, "SKALD_VALKEY_PORT", 63799),
            aws_port=_port(environ, "SKALD_AWS_PORT", 4566),
            own_postgres=environ.get("POSTGRES_DSN") or None,
            own_redis=environ.get("REDIS_DSN") or None,
            own_aws=environ.get("AWS_ENDPOINT_URL") or None,
            freeze=environ.get("SKALD_LAMBDA_FREEZE") != "0",
        )

    @property
    def environments(self) -> Path:
        """Folder of the virtual environments, which all state folders of a checkout share."""
        return self.root / ".local"

    @property
    def run(self) -> Path:
        """Folder of pid files and locks."""
        return self.state / "run"

    @property
    def logs(self) -> Path:
        """Folder of the log files, one per part; the functions' logs are in a folder below."""
        return self.state / "logs"

    @property
    def lambda_logs(self) -> Path:
        """Folder of the captured logs of Lambda functions, one file per function."""
        return self.logs / "lambda"

    def password(self) -> str:
        """Return the password of the local database roles; each state folder has its own."""
        path = self.state / "database-password"
        if not path.exists():
            self.state.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(18))
        return path.read_text()


def _port(environ: Mapping[str, str], variable: str, default: int) -> int:
    value = environ.get(variable) or str(default)
    if not value.isdecimal() or not 0 < int(value) < 65536:
        raise StackError(f"{variable} must be a port number from 1 to 65535, not {value!r}")
    return int(value)
