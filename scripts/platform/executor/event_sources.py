"""Patches LocalStack's SQS event source mappings to behave more like those of AWS.

LocalStack polls for messages, sleeps up to ten seconds if there are none, and runs one batch after
the other. AWS waits inside ReceiveMessage, and runs as many batches in parallel as the mapping's
MaximumConcurrency allows. With this patch, code that is wrong under concurrency also fails here.
"""

import logging
from threading import Semaphore, Thread
from typing import Any

from localstack.services.lambda_.event_source_mapping import esm_worker
from localstack.services.lambda_.event_source_mapping.esm_worker import EsmWorker
from localstack.services.lambda_.event_source_mapping.pollers.sqs_poller import SqsPoller
from localstack.utils.backoff import ExponentialBackoff

from . import activity

_LOG = logging.getLogger(__name__)
_LONG_POLL_SECONDS = 2
_BATCHES_AT_A_TIME = 5  # the concurrency with which AWS begins

_create_worker = EsmWorker.__init__
_poll_in_loop = EsmWorker.poller_loop
_poll = SqsPoller.poll_events
_handle = SqsPoller.handle_messages


def improve() -> None:
    """Patch LocalStack; call this once, before any mapping is created."""
    esm_worker.ExponentialBackoff = _capped_backoff
    EsmWorker.__init__ = _prepare_worker
    SqsPoller.poll_events = _poll_when_free
    SqsPoller.handle_messages = _handle_in_thread
    EsmWorker.poller_loop = _poll_until_stopped


def _capped_backoff(initial_interval: float, max_interval: float) -> ExponentialBackoff:
    # LocalStack begins with one second, even if the configured maximum is lower.
    initial = min(initial_interval, max_interval)
    return ExponentialBackoff(initial_interval=initial, max_interval=max_interval)


def _prepare_worker(self: EsmWorker, *args: Any, **kwargs: Any) -> None:
    _create_worker(self, *args, **kwargs)
    if isinstance(self.poller, SqsPoller):
        scaling = self.esm_config.get("ScalingConfig") or {}
        self.poller.batches = scaling.get("MaximumConcurrency") or _BATCHES_AT_A_TIME
        self.poller.slots = Semaphore(self.poller.batches)
        # The poller uses a window of up to 20 s as its WaitTimeSeconds. The queue answers as soon
        # as it has a message.
        window = self.poller.maximum_batching_window
        self.poller.maximum_batching_window = max(window, _LONG_POLL_SECONDS)


def _poll_until_stopped(self: EsmWorker, *args: Any, **kwargs: Any) -> None:
    # LocalStack reports a mapping as Disabled while its last poll and batches still run.
    with activity.POLLING.one_more(self.uuid):
        _poll_in_loop(self, *args, **kwargs)
        if isinstance(self.poller, SqsPoller):
            for _ in range(self.poller.batches):
                self.poller.slots.acquire()


def _poll_when_free(self: SqsPoller) -> None:
    # Without a free slot, received messages would wait here until their visibility timeout ends.
    # Only this thread takes slots, so a slot that is free now stays free.
    with self.slots:
        pass
    _poll(self)


def _handle_in_thread(self: SqsPoller, messages: list[dict[str, Any]]) -> None:
    if self.is_fifo_queue:
        _handle(self, messages)
        return
    self.slots.acquire()
    Thread(target=_handle_and_release, args=(self, messages), daemon=True).start()


def _handle_and_release(poller: SqsPoller, messages: list[dict[str, Any]]) -> None:
    try:
        _handle(poller, messages)
    except Exception as error:
        # Failed messages stay in the queue and become visible again later, as on AWS.
        _LOG.warning("A batch of %s failed: %s", poller.source_arn, error)
    finally:
        poller.slots.release()
