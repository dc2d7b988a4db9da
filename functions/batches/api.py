"""HTTP routes of vehicle-log batches (V-01, V-02, V-10, V-11)."""

from typing import Annotated, Any
from uuid import UUID, uuid4

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Header, Path, Query

from batches import progress, repository, uploads, watching
from batches.artifacts import page_key
from batches.domain import Batch, BatchStatus, FileState, NewBatch, batch_event
from batches.wording import counted
from skald.access import tickets
from skald.access.tickets import Ticket
from skald.entrypoints import sse
from skald.entrypoints.http import Api, Caller, Listed, Tx
from skald.errors import Conflict, NotFound
from skald.listing import Page
from skald.messaging import outbox
from skald.postgres import Transaction, database
from skald.storage.files import File, NewFile, Upload
from skald.storage.objects import ARTIFACTS
from skald.telemetry import current_trace_id
from skald.valkey.cache import cache
from skald.valkey.feed import BEGINNING, ITEM_ID

REPORT_CACHE_SECONDS = 600

BatchId = Annotated[UUID, Path(description="The id of the batch.")]
FileId = Annotated[UUID, Path(description="The id of the file.")]

api = Api()
handler = api.handler


@api.route("POST", "/batches", status=201, idempotent="header", rows_first=True)
def create_batch(new: NewBatch, tx: Tx) -> Batch:
    """Create a batch. Nothing is processed before the batch is completed."""
    batch_id = uuid4()
    repository.create_batch(tx, batch_id, new, current_trace_id())
    return _found(repository.find_batch(tx, batch_id))


@api.route("GET", "/batches")
def list_batches(
    tx: Tx,
    query: Listed,
    status: Annotated[BatchStatus | None, Query(description="Only batches in this state.")] = None,
) -> Page[Batch | dict[str, Any]]:
    """List batches, newest first by default."""
    return repository.list_batches(tx, query.also("status", status))


@api.route("GET", "/batches/<batch_id>")
def get_batch(batch_id: BatchId, tx: Tx) -> Batch:
    """Get a batch and its state."""
    return _found(repository.find_batch(tx, batch_id))


@api.route("POST", "/batches/<batch_id>/files", problems=(409,), status=201)
def register_file(batch_id: BatchId, new: NewFile, caller: Caller) -> Upload:
    """Register a file and get signed URLs for its parts.

    Send each missing part to its URL with PUT, in any order, then complete the file. The same
    request again resumes the upload.
    """
    return uploads.files.register(caller.tenant_id, batch_id, new)


@api.route("GET", "/batches/<batch_id>/files")
def list_files(batch_id: BatchId, tx: Tx) -> list[FileState]:
    """List the files of a batch, each with its state."""
    _found(repository.find_batch(tx, batch_id))
    return repository.list_files(tx, batch_id)


@api.route("GET", "/batches/<batch_id>/files/<file_id>/parts", problems=(409,))
def get_upload(batch_id: BatchId, file_id: FileId, caller: Caller) -> Upload:
    """Get the parts of a file that have arrived, and signed URLs for the others."""
    return uploads.files.state(caller.tenant_id, batch_id, file_id)


@api.route("POST", "/batches/<batch_id>/files/<file_id>/complete", problems=(409,))
def complete_file(batch_id: BatchId, file_id: FileId, caller: Caller) -> File:
    """Complete a file from its parts. 409 names the missing parts."""
    return uploads.files.complete(caller.tenant_id, batch_id, file_id)


@api.route("POST", "/batches/<batch_id>/complete", problems=(409,), status=202)
def complete_batch(batch_id: BatchId, caller: Caller) -> Batch:
    """Complete a batch and start its processing. 409 names the missing files.

    The same request again changes nothing and returns the state of the batch.
    """
    uploads.files.catch_up(caller.tenant_id, batch_id)
    with database().transaction(caller.tenant_id) as tx:
        batch = _found(repository.lock_batch(tx, batch_id))
        if batch.status is BatchStatus.PENDING:
            _close(tx, batch)
        elif batch.status is BatchStatus.FAILED:
            raise Conflict(
                f"the batch has failed: {batch.failure_detail}", batch_status=batch.status
            )
        return _found(repository.find_batch(tx, batch_id))


@api.route("POST", "/batches/<batch_id>/cancel", problems=(409,))
def cancel_batch(batch_id: BatchId, tx: Tx) -> Batch:
    """Cancel a batch in any state but completed. It fails with the code `cancelled`."""
    batch = _found(repository.lock_batch(tx, batch_id))
    if batch.status is BatchStatus.COMPLETED:
        raise Conflict("the batch is completed and cannot be cancelled")
    if repository.fail(tx, batch_id, "cancelled", "cancelled by its owner"):
        outbox.publish(tx, batch_event("batch.cancelled", tx.tenant_id, batch_id, batch.trace_id))
    return _found(repository.find_batch(tx, batch_id))


@api.route("POST", "/batches/<batch_id>/stream-ticket", status=201)
def issue_stream_ticket(batch_id: BatchId, tx: Tx, caller: Caller) -> Ticket:
    """Get a ticket that opens the streams of a batch without a key.

    The EventSource of a browser sends no key. It opens `…/progress?ticket=…` and
    `…/diagnosis/stream?ticket=…` until the ticket expires. No other route takes the ticket.
    """
    _found(repository.find_batch(tx, batch_id))
    return tickets.issue(tx, caller, f"/batches/{batch_id}")


@api.route(
    "GET",
    "/batches/<batch_id>/progress",
    media_type=sse.MEDIA_TYPE,
    may_be_empty=True,
    takes_tickets=True,
)
def stream_progress(
    batch_id: BatchId,
    caller: Caller,
    wait: sse.Wait = 10,
    last_event_id: Annotated[
        int, Header(alias="Last-Event-ID", ge=0, description="The id of the last event you have.")
    ] = 0,
) -> Response[str]:
    """Stream the changes of a batch after `Last-Event-ID`, as server-sent events.

    An answer ends after the changes that there are. EventSource reconnects by itself with the id
    of its last event. After the last change of a batch the answer is 204, and it stops.
    """
    return sse.respond(
        lambda: progress.news(database(), caller.tenant_id, batch_id, last_event_id), wait
    )


@api.route(
    "GET",
    "/batches/<batch_id>/diagnosis/stream",
    media_type=sse.MEDIA_TYPE,
    may_be_empty=True,
    takes_tickets=True,
)
def stream_diagnosis(
    batch_id: BatchId,
    caller: Caller,
    wait: sse.Wait = 10,
    last_event_id: Annotated[
        str,
        Header(
            alias="Last-Event-ID",
            pattern=f"^({watching.OVER}|{ITEM_ID})$",
            description="The id of the last event you have.",
        ),
    ] = BEGINNING,
) -> Response[str]:
    """Stream the work of the agents after `Last-Event-ID`, as server-sent events.

    The events are `began`, then `entered`, `said` and `finished` for each node, then `ended`.
    After the last event the answer is 204. Every event but `ended` names its `run`; after a crash
    there is a second run. When a node is entered again, drop what it said before. After a new
    `began`, drop the events of older runs. `ended` holds the whole path, so a client that missed
    events has all of it.
    """
    return sse.respond(
        lambda: watching.news(database(), caller.tenant_id, batch_id, last_event_id), wait
    )


@api.route("GET", "/batches/<batch_id>/report", problems=(409,))
def get_report(batch_id: BatchId, caller: Caller) -> dict[str, Any]:
    """Get the report, with links to its charts. 409 while there is none."""
    report = _report(caller.tenant_id, batch_id)
    links = {name: ARTIFACTS.url(key) for name, key in report["charts"].items()}
    return report | {"chart_urls": links}


@api.route("GET", "/batches/<batch_id>/report.html", media_type="text/html", problems=(409,))
def get_report_page(batch_id: BatchId, caller: Caller) -> Response[str]:
    """Get the report as one page that loads nothing else."""
    _report(caller.tenant_id, batch_id)
    page = ARTIFACTS.read(page_key(caller.tenant_id, batch_id))
    if page is None:
        raise NotFound("the page of this report is gone")
    return Response(status_code=200, content_type="text/html; charset=utf-8", body=page.decode())


def _report(tenant_id: UUID, batch_id: UUID) -> dict[str, Any]:
    def load() -> dict[str, Any]:
        with database().transaction(tenant_id) as tx:
            report = repository.find_report(tx, batch_id)
            if report is None:
                batch = _found(repository.find_batch(tx, batch_id))
                raise Conflict(
                    batch.failure_detail or f"the batch is {batch.status}, there is no report yet",
                    batch_status=batch.status,
                )
            return report

    cached: dict[str, Any] = cache().get_or_load(
        f"report:{tenant_id}:{batch_id}", load, REPORT_CACHE_SECONDS
    )
    return cached


def _found[T](thing: T | None) -> T:
    if thing is None:
        raise NotFound("no such batch or file")
    return thing


def _close(tx: Transaction, batch: Batch) -> None:
    if batch.total_files == 0:
        raise Conflict("the batch has no files", missing_files=[])
    if absent := repository.FILES.absent(tx, batch.batch_id):
        raise Conflict(
            f"still missing: {counted(len(absent), 'file')}",
            missing_files=[file.name for file in absent],
        )
    repository.enter(tx, batch.batch_id, BatchStatus.UPLOADED)
    event = batch_event("batch.uploaded", tx.tenant_id, batch.batch_id, batch.trace_id)
    timeout = {"timeout_seconds": batch.timeout_seconds}
    outbox.publish(tx, event.model_copy(update={"payload": event.payload | timeout}))
