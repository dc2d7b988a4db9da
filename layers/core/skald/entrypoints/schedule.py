"""Work started by a schedule or a doorbell: a function whose only input is its time left."""

from collections.abc import Callable
from typing import Any, Protocol

from aws_lambda_powertools.utilities.typing import LambdaContext

from skald.entrypoints.entry import entry
from skald.telemetry import Kind, new_context

SPARE_MILLISECONDS = 5_000


class ScheduledHandler(Protocol):
    """A Lambda handler for a rule, a doorbell queue, or a call by hand."""

    def __call__(self, event: Any, context: LambdaContext, /) -> dict[str, Any]: ...


def schedule(function: Callable[[Callable[[], bool]], dict[str, Any]]) -> ScheduledHandler:
    """Make a handler of a function that can ask whether time is left before it begins more work."""

    def handler(_: Any, context: LambdaContext, /) -> dict[str, Any]:
        def is_time_left() -> bool:
            return context.get_remaining_time_in_millis() > SPARE_MILLISECONDS

        with entry(Kind.SCHEDULE, function.__name__, new_context()):
            return function(is_time_left)

    return handler
