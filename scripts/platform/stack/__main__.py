"""The command line of scripts/stack."""

import argparse
import subprocess
import sys
from pathlib import Path

from .environment import as_json, as_shell, variables
from .errors import StackError
from .settings import Settings
from .stack import Stack

_SERVERS = ("postgres", "valkey", "localstack")
_EPILOG = """\
variables:
  SKALD_POSTGRES_PORT  port of PostgreSQL (54329)    POSTGRES_DSN      your own server instead
  SKALD_VALKEY_PORT    port of Valkey (63799)        REDIS_DSN         your own server instead
  SKALD_AWS_PORT       port of LocalStack (4566)     AWS_ENDPOINT_URL  your own endpoint instead
  SKALD_STATE_DIR      folder of all state (.local)  SKALD_LAMBDA_FREEZE  0: idle functions run on
"""


def main() -> int:
    """Run one command; return the exit code."""
    arguments = _parser().parse_args()
    try:
        return _run(arguments)
    except StackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/stack",
        description="PostgreSQL, Valkey and LocalStack on this machine, without Docker or root.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("up", help="start what is not running; safe to repeat")
    commands.add_parser("down", help="stop everything this checkout started")
    commands.add_parser("status", help="show each part; exit code 0 only when all are up")
    commands.add_parser("reset", help="stop everything and delete its state")
    logs = commands.add_parser("logs", help="show log files")
    logs.add_argument("name", nargs="?", help="postgres, valkey, localstack or a Lambda function")
    logs.add_argument("-f", "--follow", action="store_true", help="keep printing new lines")
    env = commands.add_parser("env", help="print the variables of the platform for eval")
    env.add_argument("--json", action="store_true", help="as one JSON object")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    settings = Settings.from_environment()
    stack = Stack(settings)
    match arguments.command:
        case "status":
            return _status(stack)
        case "logs":
            _logs(settings, arguments.name, arguments.follow)
        case "env":
            values = variables(settings)
            print(as_json(values) if arguments.json else as_shell(values))
        case command:
            getattr(stack, command)()
    return 0


def _status(stack: Stack) -> int:
    conditions = [(part, part.condition()) for part in stack.parts]
    for part, condition in conditions:
        print(f"{part.name:<11}{condition.state:<17}{part.endpoint:<24}{condition.pid or '-'}")
    return 0 if all(condition.up for _, condition in conditions) else 1


def _logs(settings: Settings, name: str | None, follow: bool) -> None:
    files = [_log_file(settings, name)] if name else _server_logs(settings)
    if not files:
        raise StackError("there are no logs yet: run scripts/stack up")
    sys.stdout.flush()
    subprocess.run(["tail", "-n", "200", *(["-F"] if follow else []), *files], check=False)


def _server_logs(settings: Settings) -> list[Path]:
    paths = (settings.logs / f"{name}.log" for name in _SERVERS)
    return [path for path in paths if path.exists()]


def _log_file(settings: Settings, name: str) -> Path:
    folder = settings.logs if name in _SERVERS else settings.lambda_logs
    path = folder / f"{name}.log"
    if not path.exists():
        known = sorted(file.stem for file in settings.lambda_logs.glob("*.log"))
        raise StackError(f"there is no log of {name}; functions with a log: {known or 'none'}")
    return path


if __name__ == "__main__":
    sys.exit(main())
