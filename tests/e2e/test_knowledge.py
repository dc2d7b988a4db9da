"""V-09: scripts/knowledge against the deployed API."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.e2e.conftest import Tenant
from tests.e2e.deployment import Deployment, wait_for

from client.knowledge import main

AWAY = "openai:away@http://127.0.0.1:9/v1"
ROWS = [
    "kind,key,title,text,error_codes",
    "note,pump/stuck,Pump stuck,The pump does not turn: look for ice in its housing.,E4711;PUMP",
    "note,tyre,Tyre,A tyre that loses air heats up.,",
]


class Done(NamedTuple):
    """How the script ended and what it printed."""

    code: int
    out: str
    err: str


class Knowledge:
    """Runs scripts/knowledge for one tenant."""

    def __init__(
        self,
        api_url: str,
        api_key: str,
        patch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        patch.setenv("SKALD_API_URL", api_url)
        patch.setenv("SKALD_API_KEY", api_key)
        self._patch = patch
        self._capsys = capsys

    def run(self, *arguments: str) -> Done:
        self._patch.setattr(sys, "argv", ["knowledge", *arguments])
        try:
            code = main()
        except SystemExit as end:
            code = int(end.code or 0)
        return Done(code, *self._capsys.readouterr())

    def __call__(self, *arguments: str) -> Any:
        """Return the output of `--json`."""
        done = self.run(*arguments, "--json")
        assert done.code == 0, done.err
        return json.loads(done.out)


@pytest.fixture
def knowledge(
    skald: Deployment,
    tenant: Tenant,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Knowledge:
    return Knowledge(skald.api_url, tenant.api_key, monkeypatch, capsys)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "notes.csv"
    path.write_text("\n".join(ROWS))
    return path


def test_the_way_of_an_entry(knowledge: Knowledge, table: Path) -> None:
    """V-09: an entry is loaded once, superseded, found, read in its versions, and retired."""
    assert knowledge("load", str(table)) == {"added": 2, "changed": 0, "unchanged": 0}
    assert knowledge("load", str(table)) == {"added": 0, "changed": 0, "unchanged": 2}
    table.write_text("\n".join(ROWS).replace("ice", "dirt"))
    assert knowledge("load", str(table)) == {"added": 0, "changed": 1, "unchanged": 1}

    (found,) = knowledge("search", "the pump is stuck", "--code", "E4711", "--kind", "note")
    assert (found["key"], found["version"]) == ("pump/stuck", 2)
    old, new = reversed(knowledge("versions", "note", "pump/stuck")["versions"])
    assert ("ice" in old["text"], "dirt" in new["text"]) == (True, True)
    (space,) = knowledge("status")["spaces"]
    assert (space["is_active"], space["embedded"], space["waiting"]) == (True, 2, 0)

    assert not knowledge("retire", "note", "pump/stuck")["is_current"]
    assert knowledge("search", "the pump is stuck", "--code", "E4711") == []
    assert knowledge("status")["entries"] == 1


def test_what_people_read(knowledge: Knowledge, table: Path) -> None:
    """V-09: one line gives the result of a load; the progress does not disturb a pipe."""
    loaded = knowledge.run("load", str(table))
    assert loaded.out == "2 added, 0 changed, 0 unchanged\n"
    assert "2/2 entries" in loaded.err
    found = knowledge.run("search", "the pump is stuck", "--code", "E4711").out
    assert found.splitlines()[0] == "Pump stuck"
    assert "note pump/stuck, version 1, your own, by meaning and words, E4711 PUMP" in found
    versions = knowledge.run("versions", "note", "pump/stuck").out
    assert versions.startswith("note pump/stuck, your own, current\nversion 1, from ")
    assert knowledge.run("status").out.splitlines() == [
        "2 entries of your own",
        "local: searched, 2 embedded, 0 waiting",
    ]


def test_a_reembedding_is_watched_to_its_end(
    skald: Deployment, tenant: Tenant, knowledge: Knowledge, table: Path
) -> None:
    """V-09: searches change to the chosen embedder, then the script ends."""
    knowledge("load", str(table))
    skald.sql("set session_replication_role = replica")  # else no space can be renamed
    for rename in (
        "update skald.knowledge_spaces set embedder = %s where tenant_id = %s",
        "update skald.knowledge_embeddings set embedder = %s where tenant_id = %s",
    ):
        skald.sql(rename, AWAY, tenant.tenant_id)
    skald.sql("set session_replication_role = default")
    with ThreadPoolExecutor(1) as pool:
        with skald.throttled("EmbedWaiting"):  # the schedule could end the change too early
            script = pool.submit(knowledge, "re-embed", "local")
            spaces = "/knowledge/spaces"
            wait_for("two spaces", lambda: len(tenant.client.call("GET", spaces).json()) == 2)
        skald.invoke("EmbedWaiting", {})
        (space,) = script.result()
    assert (space["embedder"], space["is_active"], space["embedded"]) == ("local", True, 2)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["retire", "note", "nothing"], 1, "404 no such entry of your own"),
        (["re-embed", AWAY], 1, "these are known: local"),
        (["load", "nowhere.csv"], 2, "nothing is loaded"),
        (["search"], 2, "usage:"),
    ],
)
def test_what_cannot_be_done(
    knowledge: Knowledge, arguments: list[str], code: int, said: str
) -> None:
    """V-09: a sentence and an exit code, no traceback."""
    done = knowledge.run(*arguments)
    assert done.code == code
    assert said in done.err


def test_from_a_shell(skald: Deployment, tenant: Tenant, table: Path) -> None:
    """V-09: the script finds the deployed API by itself; without a key it says how to get one."""
    done = skald.run("knowledge", "status")
    assert (done.returncode, done.stdout) == (1, "")
    assert "SKALD_API_KEY=$(scripts/apikey" in done.stderr
    shell = Deployment({**skald.environ, "SKALD_API_KEY": tenant.api_key})
    done = shell.run("knowledge", "load", str(table), "--json")
    assert json.loads(done.stdout)["added"] == 2, done.stderr
