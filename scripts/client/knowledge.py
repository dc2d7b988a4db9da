"""The command line of scripts/knowledge: manages a tenant's knowledge base through the API."""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from itertools import batched
from pathlib import Path
from textwrap import indent
from typing import Any
from urllib.parse import quote

import requests
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from client.api import Client, Refused
from client.entries import Unreadable, read
from client.platform import NotReady, configured

ENTRIES_PER_REQUEST = 40
"""Even with the longest texts in the widest letters, a request stays below Lambda's 6 MB."""
POLL_SECONDS = 2.0
FAULTS_SHOWN = 20
_EPILOG = """\
FILE is CSV with a header (*.csv), or JSON lines. Columns or fields: kind, key, title, text, and
where they apply error_codes (in CSV separated by ;), platform, firmware (a pattern, v2.%), source.
  {"kind": "error_code", "key": "E2107", "title": "Brown-out", "text": "…", "platform": "J7"}

variables:
  SKALD_API_KEY  the tenant's key; export SKALD_API_KEY=$(scripts/apikey NAME) makes a new tenant
  SKALD_API_URL  where the API is (default: the stack that scripts/deploy has deployed)

Exit code 0: done; 1: the API refused it or was not reached; 2: the command or a file is wrong.
"""
_console = Console(stderr=True, highlight=False)


def main() -> int:
    """Run one command; return the exit code."""
    arguments = _parser().parse_args()
    try:
        with configured() as client:
            outcome = arguments.run(client, arguments)
    except Unreadable as faults:
        return _fail(
            2, *faults.args[:FAULTS_SHOWN], f"{len(faults.args)} faults, nothing is loaded"
        )
    except (Refused, NotReady, requests.RequestException) as error:
        return _fail(1, f"error: {error}")
    except KeyboardInterrupt:
        return 130
    print(json.dumps(outcome) if arguments.json else arguments.show(outcome))
    return 0


def _fail(code: int, *lines: str) -> int:
    print(*lines, sep="\n", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/knowledge",
        description="Load, search and re-embed what the agents look up.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print the outcome as JSON")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, show: Any, help: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, parents=[common], help=help, description=help)
        added.set_defaults(run=run, show=show)
        return added

    load = command("load", _load, _show_loaded, "add entries or supersede them; safe to repeat")
    load.add_argument("files", nargs="+", type=Path, metavar="FILE", help="CSV or JSON lines")

    search = command("search", _search, _show_found, "find entries by meaning and by words")
    search.add_argument("q", metavar="TEXT", help="a question or some words")
    search.add_argument("--code", dest="error_code", help="only entries for this error code")
    search.add_argument("--platform", help="only entries that hold for this platform")
    search.add_argument("--firmware", help="only entries that hold for this version: v2.4.1")
    search.add_argument("--kind", help="only entries of this kind")
    search.add_argument("--limit", type=int, default=10, help="how many (default: 10)")

    for name, run, help in (
        ("versions", _versions, "show what an entry says and has said"),
        ("retire", _retire, "remove an entry from searches; its versions stay readable"),
    ):
        added = command(name, run, _show_versions, help)
        added.add_argument("kind", metavar="KIND")
        added.add_argument("key", metavar="KEY")

    reembed = command(
        "re-embed",
        _reembed,
        _show_spaces,
        "embed all entries again, watch it, then switch to the result",
    )
    reembed.add_argument("embedder", metavar="EMBEDDER", help="local, or the one set up here")

    command("status", _status, _show_status, "show entries, vector spaces and waiting work")
    return parser


# Commands: each returns what --json prints -------------------------------------------------------


def _load(client: Client, arguments: argparse.Namespace) -> dict[str, int]:
    entries = read(arguments.files)
    outcome = Counter(added=0, changed=0, unchanged=0)
    with _progress() as bar:
        task = bar.add_task("load", total=len(entries))
        for chunk in batched(entries, ENTRIES_PER_REQUEST, strict=False):
            body = {"entries": [entry.model_dump() for entry in chunk]}
            outcome.update(client.call("POST", "/knowledge", json=body).json())
            bar.advance(task, len(chunk))
    return {name: outcome[name] for name in ("added", "changed", "unchanged")}


def _search(client: Client, arguments: argparse.Namespace) -> Any:
    names = ("q", "error_code", "platform", "firmware", "kind", "limit")
    return client.call("GET", "/knowledge/search", params=_given(arguments, names)).json()


def _versions(client: Client, arguments: argparse.Namespace) -> Any:
    return client.call("GET", _path(arguments)).json()


def _retire(client: Client, arguments: argparse.Namespace) -> Any:
    return client.call("DELETE", _path(arguments)).json()


def _reembed(client: Client, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    body = {"embedder": arguments.embedder}
    spaces: list[dict[str, Any]] = client.call("POST", "/knowledge/reembed", json=body).json()
    with _progress() as bar:
        task = bar.add_task("embed", total=None)
        while len(spaces) > 1 or _waiting(spaces[0]):
            bar.update(task, completed=spaces[-1]["embedded"], total=spaces[-1]["entries"])
            time.sleep(POLL_SECONDS)
            spaces = _spaces(client)
    return spaces


def _status(client: Client, _: argparse.Namespace) -> dict[str, Any]:
    own = {"filter": "is_shared:eq:false", "page_size": 1}
    return {
        "entries": client.call("GET", "/knowledge", params=own).json()["total"],
        "spaces": [space | {"waiting": _waiting(space)} for space in _spaces(client)],
    }


def _given(arguments: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}


def _path(arguments: argparse.Namespace) -> str:
    return f"/knowledge/{quote(arguments.kind, safe='')}/{quote(arguments.key, safe='')}"


def _spaces(client: Client) -> list[dict[str, Any]]:
    spaces: list[dict[str, Any]] = client.call("GET", "/knowledge/spaces").json()
    return spaces


def _waiting(space: dict[str, Any]) -> int:
    return int(space["entries"]) - int(space["embedded"])


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TextColumn("entries"), TimeElapsedColumn(), console=_console)


# Output for people -------------------------------------------------------------------------------


def _show_loaded(outcome: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in outcome.items())


def _show_found(sources: list[dict[str, Any]]) -> str:
    return "\n".join(map(_found, sources)) or "nothing found"


def _found(source: dict[str, Any]) -> str:
    about = [
        f"{source['kind']} {source['key']}",
        f"version {source['version']}",
        "shared" if source["is_shared"] else "your own",
        f"by {' and '.join(source['found_by'])}",
        " ".join(source["error_codes"]),
    ]
    return f"{source['title']}\n    {', '.join(filter(None, about))}"


def _show_versions(entry: dict[str, Any]) -> str:
    state = "current" if entry["is_current"] else "retired"
    whose = "shared" if entry["is_shared"] else "your own"
    return "\n".join(
        [f"{entry['kind']} {entry['key']}, {whose}, {state}", *map(_version, entry["versions"])]
    )


def _version(version: dict[str, Any]) -> str:
    until = f" until {version['valid_until']}" if version["valid_until"] else ""
    span = f"version {version['version']}, from {version['valid_from']}{until}"
    return f"{span}\n{indent(f'{version["title"]}\n{version["text"]}', '    ')}"


def _show_spaces(spaces: list[dict[str, Any]]) -> str:
    return "\n".join(
        f"{space['embedder']}: {'searched' if space['is_active'] else 'being filled'}, "
        f"{space['embedded']} embedded, {_waiting(space)} waiting"
        for space in spaces
    )


def _show_status(outcome: dict[str, Any]) -> str:
    spaces = _show_spaces(outcome["spaces"]) or "none of them embedded yet"
    return f"{outcome['entries']} entries of your own\n{spaces}"


if __name__ == "__main__":
    sys.exit(main())
