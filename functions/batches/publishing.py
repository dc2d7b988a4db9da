"""Turns parsed files into a published report: statistics, charts and the HTML page.

No function here holds a transaction. The names of all S3 objects are derived, so a retry may write
an object again.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from batches import artifacts
from batches.analysis.findings import Diagnosis
from batches.analysis.statistics import BatchStatistics, ParsedFile, gather_statistics
from batches.domain import Batch, BatchProgress, BatchStatus, FileState
from skald.storage.objects import ARTIFACTS


class Gathered(BaseModel):
    """The result of the gather step for later steps: statistics, and the S3 keys of the charts."""

    statistics: BatchStatistics
    charts: dict[str, str]


class Material(BaseModel):
    """The input of a report."""

    batch: Batch
    gathered: Gathered
    diagnosis: Diagnosis
    progress: Sequence[BatchProgress]


def gather(tenant_id: UUID, batch_id: UUID, files: Sequence[FileState]) -> Gathered:
    """Merge the features of all files, and write the charts of their tables to S3 (V-07)."""
    from batches.analysis.charts import draw_charts

    def table(file_id: str, name: str) -> str | None:
        prefix = artifacts.tables_prefix(tenant_id, batch_id, file_id)
        body = ARTIFACTS.read(f"{prefix}{name}.csv")
        return None if body is None else body.decode()

    parsed = parsed_files(files)
    statistics = gather_statistics(parsed)
    charts: dict[str, str] = {}
    for name, image in draw_charts(parsed, statistics, table).items():
        charts[name] = artifacts.chart_key(tenant_id, batch_id, name)
        ARTIFACTS.write(charts[name], image, "image/png")
    return Gathered(statistics=statistics, charts=charts)


def write_page(tenant_id: UUID, material: Material) -> dict[str, Any]:
    """Write the HTML page to S3, and return the report that it shows, without its files."""
    from batches.analysis.report import Report, render_html

    batch = material.batch
    now = datetime.now(UTC)
    report = Report(
        batch_id=str(batch.batch_id),
        name=batch.name,
        outcome="partial" if batch.failed_files else "complete",
        created_at=batch.created_at,
        completed_at=now,
        statistics=material.gathered.statistics,
        diagnosis=material.diagnosis,
        charts=material.gathered.charts,
        stages=stage_seconds(material.progress, now),
    )
    images = {name: ARTIFACTS.read(key) or b"" for name, key in report.charts.items()}
    page = render_html(report, images)
    ARTIFACTS.write(
        artifacts.page_key(tenant_id, batch.batch_id), page.encode(), "text/html; charset=utf-8"
    )
    # The statistics hold the same list of files.
    return report.model_dump(mode="json", exclude={"files"})


def stage_seconds(progress: Sequence[BatchProgress], now: datetime) -> dict[str, float]:
    """Return the seconds that the batch spent in each state, in the order of the states."""
    entered: dict[BatchStatus, datetime] = {}
    for change in progress:
        entered.setdefault(change.status, change.at)
    left = [*list(entered.values())[1:], now]
    return {
        str(status): round((end - start).total_seconds(), 3)
        for (status, start), end in zip(entered.items(), left, strict=True)
    }


def cause(error: dict[str, Any]) -> str:
    """Return the message of a Step Functions error; its cause is often JSON in a string."""
    text = str(error.get("Cause", ""))
    try:
        return str(json.loads(text)["errorMessage"])
    except (ValueError, KeyError, TypeError):
        return text


def parsed_files(files: Sequence[FileState]) -> list[ParsedFile]:
    """Return the parsed and failed files for the analysis; at the gather step, these are all."""
    return [
        ParsedFile(
            file_id=str(file.file_id),
            name=file.name,
            status=file.status,
            reason=file.reason,
            size_bytes=file.size or 0,
            features=file.features,
        )
        for file in files
        if file.status in ("completed", "failed")
    ]
