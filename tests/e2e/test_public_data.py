"""Real recordings of real vehicles and systems, compared with their published truth."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from tests.e2e import flows
from tests.e2e.conftest import Tenant
from tests.e2e.deployment import Deployment

from client.upload import upload

FOLDERS = ("ulog", "can", "comma2k19", "loghub")
WHEELS = ("front_right", "front_left", "rear_right", "rear_left")
FRAMES = {
    "issue_1256.asc": 1_457,
    "logfile.asc": 20,
    "test_CanFdMessage64.asc": 2,
    "test_CanMessage.asc.gz": 2,
    "test_CanMessage.blf": 2,
    "test_CanFdMessage.blf": 2,
    "test_CanMessage_V2_1.trc": 11,
    "raw_can_00-30s.candump.log": 67_741,
}
SYSTEM_LINES = {
    "Android_2k.log": 2_000,
    "Linux_2k.log": 2_000,
    "HDFS_2k.log": 2_000,
    "Hadoop_2k.log": 2_000,
    "Thunderbird_2k.log": 2_000,
    "BGL_1k.log": 1_000,
}
FLIGHT_ROWS = {"sample.ulg": 64_542, "sample_px4_events.ulg": 29_480}


def car_database() -> bytes:
    """Write down the formulas of the data set's README as a DBC file."""
    scale, offset = 0.01 / 3.6, -67.67 / 3.6
    wheels = "".join(
        f' SG_ {wheel} : {7 + 16 * word}|16@0+ ({scale!r},{offset!r}) [0|100] "m/s" CAR\n'
        for word, wheel in enumerate(WHEELS)
    )
    return (
        f'VERSION ""\n\nBU_: CAR\n\nBO_ 170 WHEELS: 8 CAR\n{wheels}\n'
        "BO_ 37 STEERING: 8 CAR\n"
        ' SG_ coarse : 3|12@0- (1.5,0) [-3072|3072] "deg" CAR\n'
        ' SG_ fine : 39|4@0- (0.1,0) [-1|1] "deg" CAR\n'
    ).encode()


def logs(recordings: Path) -> dict[str, Path]:
    patterns = ("ulg", "asc", "asc.gz", "blf", "trc", "log")
    found = [
        path
        for folder in FOLDERS
        for end in patterns
        for path in (recordings / folder).rglob(f"*.{end}")
    ]
    return {path.name: path for path in found}


def table(skald: Deployment, folder: str, name: str) -> csv.DictReader[str]:
    """Read a CSV that the pipeline has written to the artifacts bucket."""
    key = f"{folder}/{name}.csv"
    return csv.DictReader(io.StringIO(skald.read("ArtifactsBucket", key).decode()))


def published(path: Path) -> csv.DictReader[str]:
    return csv.DictReader(io.StringIO(path.read_text()))


def assert_close(found: Sequence[float], truth: Sequence[float]) -> None:
    assert len(found) == len(truth) == 2_487
    assert max(abs(one - other) for one, other in zip(found, truth, strict=True)) < 1e-6


def test_public_recordings(skald: Deployment, tenant: Tenant, real_data: Path) -> None:
    """V-04, V-07: every public file is parsed in one batch.

    Events, ULog rows and the decoded signals of a real drive equal the published ones.
    """
    client = tenant.client
    batch_id = client.open_batch("public recordings")
    recordings = real_data / "vehicle"
    paths = logs(recordings)
    assert set(paths) == {*FRAMES, *SYSTEM_LINES, *FLIGHT_ROWS}
    for path in paths.values():
        upload(client, batch_id, path)
    flows.send(tenant, batch_id, "car.dbc", car_database())
    client.complete(batch_id)
    batch = flows.wait_until_ended(tenant, batch_id)
    assert (batch["status"], batch["outcome"]) == ("completed", "complete")

    parsed = flows.tasks(skald, batch_id)
    features = {name: task["features"] for name, task in parsed.items()}
    rows = {name: features[name]["details"]["rows"] for name in FLIGHT_ROWS}
    assert rows == FLIGHT_ROWS
    flights = {name: rows[name] + features[name]["details"]["messages"] for name in FLIGHT_ROWS}
    expected = FRAMES | SYSTEM_LINES | flights | {"car.dbc": 0}
    flows.assert_ended_once(skald, tenant, batch_id, events=expected)

    info = (recordings / "ulog" / "sample_info.txt").read_text()
    topics = re.findall(r"^ (\w+) \((\d+), \d+\) +(\d+) ", info, re.M)
    assert len(topics) == 15
    tables = f"batches/{tenant.tenant_id}/{batch_id}/tables"
    flight = f"{tables}/{parsed['sample.ulg']['task_id']}"
    for topic, instance, count in topics:
        name = topic if instance == "0" else f"{topic}_{instance}"
        assert len(list(table(skald, flight, name))) == int(count)

    drive = f"{tables}/{parsed['raw_can_00-30s.candump.log']['task_id']}"
    on_bus = [row for row in table(skald, drive, "signals_WHEELS") if row["channel"] == "can0"]
    truth = list(published(recordings / "comma2k19/wheel_speed_00-30s.csv"))
    for wheel in WHEELS:
        speeds = [float(row[wheel]) for row in on_bus]
        assert_close(speeds, [float(row[f"{wheel}_mps"]) for row in truth])
    angles = [
        float(row["coarse"]) + float(row["fine"])
        for row in table(skald, drive, "signals_STEERING")
        if row["channel"] == "can0"
    ]
    steering = published(recordings / "comma2k19/steering_angle_00-30s.csv")
    assert_close(angles, [float(row["steering_deg"]) for row in steering])
