"""scripts/stack starts, shows and stops the platform, and reports an error in one sentence."""

import os
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from shutil import copy
from typing import Any

import psycopg
import pytest

from .conftest import ROOT, Deploy, Function, Platform, alive, wait_until

PARTS = ("postgres", "valkey", "localstack")


def test_up_leaves_running_parts_alone(platform: Platform) -> None:
    before = [platform.pid(part) for part in PARTS]
    platform.up()
    assert [platform.pid(part) for part in PARTS] == before
    assert platform.run("stack", "status").returncode == 0


def test_up_restarts_dead_parts_only(breakable_platform: Platform) -> None:
    postgres, valkey = breakable_platform.pid("postgres"), breakable_platform.pid("valkey")
    os.kill(valkey, signal.SIGKILL)
    status = breakable_platform.run("stack", "status")
    assert status.returncode == 1
    assert "valkey     down" in status.stdout
    breakable_platform.up()
    assert breakable_platform.pid("postgres") == postgres
    assert breakable_platform.pid("valkey") != valkey


def test_taken_port_is_explained_and_nothing_stays_started(other_platform: Platform) -> None:
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        port = str(squatter.getsockname()[1])
        outcome = other_platform.run("stack", "up", SKALD_AWS_PORT=port)
    assert outcome.returncode == 1
    assert f"port {port} is taken" in outcome.stderr
    assert "set SKALD_AWS_PORT to a free port" in outcome.stderr
    assert _states(other_platform) == ["down"] * 3


def test_part_that_dies_while_starting_takes_the_others_down(other_platform: Platform) -> None:
    # PostgreSQL refuses its data folder if PG_VERSION is not a version.
    data = other_platform.state / "postgres"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("1")
    outcome = other_platform.run("stack", "up")
    assert outcome.returncode == 1
    assert "error: postgres stopped while starting: " in outcome.stderr
    assert _states(other_platform) == ["down"] * 3


def test_servers_of_the_user_replace_the_parts(
    platform: Platform, other_platform: Platform
) -> None:
    other_platform.state.mkdir()
    # The roles on the shared server keep their password.
    copy(platform.state / "database-password", other_platform.state)
    own = {name: platform.env[name] for name in ("POSTGRES_DSN", "REDIS_DSN", "AWS_ENDPOINT_URL")}
    up = other_platform.run("stack", "up", **own)
    assert up.returncode == 0, up.stderr
    assert not list((other_platform.state / "run").glob("*.pid"))
    status = other_platform.run("stack", "status", **own)
    assert status.returncode == 0
    assert status.stdout.count("yours, up") == 3


def test_server_of_the_user_that_is_away_is_named(other_platform: Platform) -> None:
    outcome = other_platform.run("stack", "up", REDIS_DSN="redis://127.0.0.1:1/0")
    assert outcome.returncode == 1
    assert "REDIS_DSN is set, but 127.0.0.1:1 does not answer" in outcome.stderr


def test_evaluated_variables_do_not_count_as_servers_of_the_user(platform: Platform) -> None:
    status = platform.run("stack", "status", **platform.env)
    assert status.returncode == 0
    assert "yours" not in status.stdout


def test_env_can_be_evaluated(platform: Platform) -> None:
    exports = platform.run("stack", "env").stdout
    shell = subprocess.run(  # noqa: S603 (our own text)
        ["/bin/sh", "-c", f'{exports}\nprintf %s "$SKALD_APP_DSN"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shell.stdout == platform.env["SKALD_APP_DSN"]


def test_roles_cannot_get_round_row_level_security(platform: Platform) -> None:
    for role in ("migrator", "app", "relay"):
        with psycopg.connect(platform.env[f"SKALD_{role.upper()}_DSN"]) as connection:
            attributes = connection.execute(
                "SELECT current_user, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb "
                "FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
        assert attributes == (f"skald_{role}", False, False, False, False)


def test_only_the_migrator_may_create(platform: Platform) -> None:
    with psycopg.connect(platform.env["SKALD_MIGRATOR_DSN"]) as connection:
        connection.execute("CREATE SCHEMA mine CREATE TABLE thing (embedding vector(3))")
        connection.rollback()
    for role in ("APP", "RELAY"):
        with psycopg.connect(platform.env[f"SKALD_{role}_DSN"]) as connection:
            for statement in ("CREATE SCHEMA mine", "CREATE TABLE public.thing ()"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement)
                connection.rollback()


def test_password_file_is_private(platform: Platform) -> None:
    assert (platform.state / "database-password").stat().st_mode & 0o777 == 0o600


def test_queue_addresses_work_on_a_moved_port(platform: Platform) -> None:
    sqs = platform.client("sqs")
    address = sqs.create_queue(QueueName="addressed")["QueueUrl"]
    sqs.close()
    assert address.startswith(platform.env["AWS_ENDPOINT_URL"] + "/queue/")


def test_logs_of_servers_and_functions(platform: Platform, deploy: Deploy) -> None:
    see = deploy("probe.see")
    see()
    assert "to stdout" in platform.run("stack", "logs", see.name).stdout
    assert "Ready to accept connections" in platform.run("stack", "logs", "valkey").stdout
    unknown = platform.run("stack", "logs", "nobody")
    assert (unknown.returncode, "there is no log of nobody" in unknown.stderr) == (1, True)


def test_down_ends_every_process_even_a_busy_function(
    breakable_platform: Platform, deploy: Deploy, tmp_path: Path
) -> None:
    servers = [breakable_platform.pid(part) for part in PARTS]
    with ThreadPoolExecutor() as pool:
        pids = _occupy(pool, deploy, tmp_path)
        assert breakable_platform.run("stack", "down").returncode == 0
        ended = (*servers, *pids)
        wait_until(lambda: not any(alive(pid) for pid in ended), "the end of all")


def test_functions_die_with_localstack(
    breakable_platform: Platform, deploy: Deploy, tmp_path: Path
) -> None:
    with ThreadPoolExecutor() as pool:
        pids = [*_occupy(pool, deploy, tmp_path), deploy("probe.see")().payload["pid"]]
        os.kill(breakable_platform.pid("localstack"), signal.SIGKILL)
        wait_until(lambda: not any(alive(pid) for pid in pids), "the end of the functions")


def test_executor_that_is_not_loaded_is_noticed(other_platform: Platform) -> None:
    # With an unknown name LocalStack uses Docker instead; only its log says so.
    misnamed = (
        "import sys; from stack import __main__, localstack; localstack.EXECUTOR = 'nowhere'; "
        "sys.argv[1:] = ['up']; sys.exit(__main__.main())"
    )
    outcome = subprocess.run(  # noqa: S603 (our own text)
        [ROOT / ".local" / "venv" / "bin" / "python", "-c", misnamed],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "scripts" / "platform"),
            "SKALD_ROOT": str(ROOT),
            **other_platform.settings,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 1
    assert "did not load the process executor" in outcome.stderr
    assert _states(other_platform) == ["down"] * 3


def _states(platform: Platform) -> list[str]:
    table = platform.run("stack", "status").stdout.splitlines()
    return [line.split()[1] for line in table]


def _occupy(pool: ThreadPoolExecutor, deploy: Deploy, folder: Path) -> list[int]:
    """Keep a function busy for a long time. Returns its pid and its child's."""
    linger = deploy("probe.linger", Timeout=300)
    pool.submit(_invoke_in_vain, linger, {"pids": str(folder), "seconds": 250})
    wait_until(lambda: len(list(folder.iterdir())) == 2, "a function at work")
    return [int(path.name) for path in folder.iterdir()]


def _invoke_in_vain(function: Function, event: Any) -> None:
    with suppress(Exception):  # the connection breaks
        function(event)
