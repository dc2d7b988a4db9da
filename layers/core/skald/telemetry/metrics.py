"""Metrics in CloudWatch's embedded format: one log line, no call on the request's path."""

from aws_lambda_powertools import single_metric
from aws_lambda_powertools.metrics import MetricUnit

NAMESPACE = "Skald"


class Metrics:
    """Counts and durations, named `<noun>_<unit>`, each with the dimensions given."""

    def count(self, name: str, value: float = 1, **dimensions: str) -> None:
        self._put(name, MetricUnit.Count, value, dimensions)

    def seconds(self, name: str, value: float, **dimensions: str) -> None:
        self._put(name, MetricUnit.Seconds, value, dimensions)

    @staticmethod
    def _put(name: str, unit: MetricUnit, value: float, dimensions: dict[str, str]) -> None:
        with single_metric(name=name, unit=unit, value=value, namespace=NAMESPACE) as metric:
            for key, text in (dimensions or {"service": "skald"}).items():
                metric.add_dimension(key, text)


metrics = Metrics()
