"""V-02: uploads in parts to S3 survive the loss of a client."""

import os

import pytest
import requests
from tests.e2e import flows
from tests.e2e.conftest import Tenant
from tests.e2e.deployment import Deployment, wait_for

from client.api import Client, Refused

MIB = 1024 * 1024


def test_broken_upload_is_resumed(skald: Deployment, tenant: Tenant) -> None:
    """V-02: a client sends one part of a 12 MiB file and disappears; another sends the rest.

    It asks which parts have arrived, and the file is complete.
    """
    data = (flows.lines(1) * (12 * MIB // len(flows.lines(1)) + 1))[: 12 * MIB]
    batch_id = tenant.client.open_batch("resumed")
    first = tenant.client.register(batch_id, "long.log", len(data))
    assert (first["parts_total"], first["arrived"]) == (3, [])
    assert [part["size"] for part in first["missing"]] == [5 * MIB, 5 * MIB, 2 * MIB]
    middle = first["missing"][1]
    requests.put(middle["url"], data=data[5 * MIB : 10 * MIB], timeout=60).raise_for_status()

    other = Client(skald.api_url, tenant.api_key)
    file_id = first["file_id"]
    with pytest.raises(Refused) as refused:
        other.complete_file(batch_id, file_id)
    assert (refused.value.status, refused.value.problem["missing_parts"]) == (409, [1, 3])
    with pytest.raises(Refused) as refused:
        other.complete(batch_id)
    assert (refused.value.status, refused.value.problem["missing_files"]) == (409, ["long.log"])

    state = other.parts(batch_id, file_id)
    assert state["arrived"] == [2]
    assert [part["number"] for part in state["missing"]] == [1, 3]
    # A client may also register the file again: it gets the same upload, not a new one.
    again = other.register(batch_id, "long.log", len(data))
    assert (again["file_id"], again["arrived"]) == (file_id, [2])
    for part in state["missing"]:
        start = (part["number"] - 1) * state["part_size"]
        body = data[start : start + part["size"]]
        requests.put(part["url"], data=body, timeout=60).raise_for_status()
    file = other.complete_file(batch_id, file_id)
    other.session.close()
    assert file["arrived_at"]
    assert file["size"] == len(data)
    assert skald.read("UploadsBucket", file["key"]) == data
    tenant.client.cancel(batch_id)


def test_object_put_directly_registers_itself(skald: Deployment, tenant: Tenant) -> None:
    """C-06: an object put below a pending batch's prefix becomes a file of the batch.

    An object whose key names no batch changes nothing.
    """
    batch_id = tenant.client.open_batch("direct")
    s3, bucket = skald.client("s3"), skald.resources["UploadsBucket"]
    prefix = f"batches/{tenant.tenant_id}/{batch_id}"
    s3.put_object(Bucket=bucket, Key=f"{prefix}/pump log ä.log", Body=flows.lines(40))
    s3.put_object(Bucket=bucket, Key=f"{prefix}/deeper/x.log", Body=b"x")
    wait_for(
        "registered file",
        lambda: [file for file in tenant.client.files(batch_id) if file["arrived_at"]],
    )
    tenant.client.complete(batch_id)
    flows.assert_ended_once(skald, tenant, batch_id, events={"pump log ä.log": 40})
    # Too late: the batch takes no more files.
    s3.put_object(Bucket=bucket, Key=f"{prefix}/late.log", Body=os.urandom(10))
    assert [file["name"] for file in tenant.client.files(batch_id)] == ["pump log ä.log"]


def test_size_must_stay_what_it_was(tenant: Tenant) -> None:
    """V-02: a file registered twice with different sizes is a conflict that names the first."""
    batch_id = tenant.client.open_batch("sizes")
    tenant.client.register(batch_id, "a.log", 10)
    with pytest.raises(Refused) as refused:
        tenant.client.register(batch_id, "a.log", 11)
    assert (refused.value.status, refused.value.problem["registered"]) == (409, 10)
