"""The main use as a client sees it: logs are uploaded, and one report comes out."""

import json
from itertools import pairwise
from pathlib import Path

import requests
from tests.e2e import flows
from tests.e2e.conftest import Tenant
from tests.e2e.deployment import Deployment

from client.upload import upload
from fleet import generate

PNG = b"\x89PNG\r\n\x1a\n"


def test_fleet_becomes_a_report(skald: Deployment, tenant: Tenant, tmp_path: Path) -> None:
    """V-01 to V-11, C-09: counts and faults equal the truth of the fleet; one event is sent."""
    truth = generate(tmp_path, vehicles=4)
    client = tenant.client
    batch_id = client.open_batch("fleet")
    for file in truth.files:
        upload(client, batch_id, tmp_path / file.name)
    assert client.complete(batch_id)["status"] == "uploaded"

    changes = list(client.progress(batch_id))
    states = [change.data["status"] for change in changes]
    assert [state for state, after in pairwise([*states, ""]) if state != after] == flows.STATES
    versions = [int(change.id) for change in changes]
    assert versions == sorted(set(versions))
    assert changes[-1].data["percentage"] == 100.0
    # A client that comes back with its last event id gets the rest, and nothing twice.
    seen = versions[len(versions) // 2]
    rest = client.call(
        "GET", f"/batches/{batch_id}/progress", headers={"Last-Event-ID": str(seen)}
    ).text
    identifiers = [int(line[4:]) for line in rest.splitlines() if line.startswith("id: ")]
    assert identifiers == [version for version in versions if version > seen]

    expected = {file.name: file.lines for file in truth.files}
    report = flows.assert_ended_once(skald, tenant, batch_id, events=expected)
    rows = {row["name"]: row for row in report["statistics"]["files"]}
    texts = [file for file in truth.files if file.kind == "text"]
    assert len(texts) == 4
    for file in texts:
        assert (rows[file.name]["errors"], rows[file.name]["warnings"]) == (
            file.errors,
            file.warnings,
        )
    assert {finding["rule"] for finding in report["diagnosis"]["findings"]} == truth.expected_rules

    assert report["chart_urls"]
    for url in report["chart_urls"].values():
        assert requests.get(url, timeout=30).content.startswith(PNG)
    page = client.report_page(batch_id)
    for finding in report["diagnosis"]["findings"]:
        assert finding["title"] in page


def test_demo_prints_what_it_found(skald: Deployment, tmp_path: Path) -> None:
    """V-01: `scripts/demo --json FILES` ends with a JSON object that describes the files."""
    (tmp_path / "a.log").write_bytes(flows.lines(120, errors=7))
    (tmp_path / "b.log").write_bytes(flows.lines(30))
    (tmp_path / "empty.log").write_bytes(b"")
    done = skald.run("demo", "--json", "--name", "e2e", str(tmp_path))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["status"], result["outcome"]) == ("completed", "partial")
    assert (result["files_total"], result["files_parsed"], result["files_failed"]) == (3, 2, 1)
    assert (result["events"], result["errors"]) == (150, 7)
    assert result["top_error_codes"] == {"E4711": 7}
    assert result["failures"] == {"empty.log": "the file is empty"}
    assert Path(result["report_html"]).read_text().startswith("<!")
    assert result["charts"]
    for chart in result["charts"]:
        assert Path(chart).read_bytes().startswith(PNG)
