"""G-09: a metric is the line that Powertools would write."""

import json
import time
from typing import Any

import pytest
from aws_lambda_powertools import single_metric
from aws_lambda_powertools.metrics import MetricUnit

from skald.telemetry.metrics import NAMESPACE, metrics

type Output = pytest.CaptureFixture[str]


def written(output: Output) -> dict[str, Any]:
    """Return the only line, without its time."""
    (line,) = output.readouterr().out.splitlines()
    document: dict[str, Any] = json.loads(line)
    assert abs(time.time() * 1000 - document["_aws"].pop("Timestamp")) < 60_000
    return document


@pytest.mark.parametrize("value", [1, 0, 2.5, 1e-7, 1e22])
@pytest.mark.parametrize(
    "dimensions", [{}, {"operation": 'POST "/ä"', "outcome": "miss"}, {"kind": "1.0]}"}]
)
def test_a_line_is_powertools_own(capsys: Output, value: float, dimensions: dict[str, str]) -> None:
    """G-09: CloudWatch reads the same from it as from the line of Powertools."""
    metrics.seconds("waits_seconds", value, **dimensions)
    ours = written(capsys)
    with single_metric("waits_seconds", MetricUnit.Seconds, value, namespace=NAMESPACE) as metric:
        for name, text in (dimensions or {"service": "skald"}).items():
            metric.add_dimension(name, text)
    assert ours == written(capsys)
