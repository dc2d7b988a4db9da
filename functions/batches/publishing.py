"""From parsed files to a published report: statistics, charts, page.

Nothing here holds a transaction; what is written to S3 has derived names and may be written twice.
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
    """What the gather leaves for the steps after it: figures, and the keys of the charts."""

    statistics: BatchStatistics
    charts: dict[str, str]


class Material(BaseModel):
    """Everything a report is made of."""

    batch: Batch
    gathered: Gathered
    diagnosis: Diagnosis
    progress: Sequence[BatchProgress]


def gather(tenant_id: UUID, batch_id: UUID, files: Sequence[FileState]) -> Gathered:
    """Merge the features of all files and draw the charts from their tables (V-07)."""
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
    """Write the HTML page and return the report it shows."""
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
    # Its files are those of the statistics: one list is enough.
    return report.model_dump(mode="json", exclude={"files"})


def stage_seconds(progress: Sequence[BatchProgress], now: datetime) -> dict[str, float]:
    """Return how long the batch was in each state, in the order it went through them."""
    entered: dict[BatchStatus, datetime] = {}
    for change in progress:
        entered.setdefault(change.status, change.at)
    left = [*list(entered.values())[1:], now]
    return {
        str(status): round((end - start).total_seconds(), 3)
        for (status, start), end in zip(entered.items(), left, strict=True)
    }


def cause(error: dict[str, Any]) -> str:
    """Return the readable part of a Step Functions error: its cause is often JSON in a string."""
    text = str(error.get("Cause", ""))
    try:
        return str(json.loads(text)["errorMessage"])
    except (ValueError, KeyError, TypeError):
        return text


def parsed_files(files: Sequence[FileState]) -> list[ParsedFile]:
    """Return the files with a result, as the analysis sees them; every file of a gather has one."""
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
