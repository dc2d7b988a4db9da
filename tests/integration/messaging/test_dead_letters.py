"""V-12, Q-05: a tenant sees its dead letters and replays each once; each replay is audited."""

from typing import Any
from uuid import UUID

import pytest
from psycopg import Connection
from psycopg.rows import DictRow
from tests.integration.messaging.conftest import Publish
from tests.integration.support import Answer, call, event, proxy_event, retention, together

from operations.operator_api import handler
from skald.errors import Conflict
from skald.messaging import dead_letters
from skald.messaging.dead_letters import Undelivered
from skald.messaging.queues import Failure
from skald.messaging.relay import drain
from skald.postgres import Database


class Refusing:
    """A sender that refuses number 0 of every target until the test allows it."""

    def __init__(self) -> None:
        self.refuses = True
        self.sent: list[tuple[str, int]] = []

    def send(self, events: Any) -> dict[str, Failure]:
        refused = [e for e in events if self.refuses and e.payload["number"] == 0]
        self.sent += [(e.target_id, e.payload["number"]) for e in events if e not in refused]
        return {str(e.event_id): Failure("no such queue", temporary=False) for e in refused}


@pytest.fixture
def sender(publish: Publish, relay_database: Database, tenant: UUID) -> Refusing:
    """A sender that has just refused the head of `a`; two events wait behind it."""
    publish(tenant, ["a"], 3)
    refusing = Refusing()
    assert drain(relay_database, refusing).parked == 1
    return refusing


def ask(key: str, method: str, path: str) -> Answer:
    return call(handler, proxy_event(method, path, headers={"X-Api-Key": key}))


def test_a_dead_letter_shows_event_error_and_time(
    sender: Refusing, tenant: UUID, api_key: str
) -> None:
    """V-12: an operator sees what failed, why and when."""
    answer = ask(api_key, "GET", "/dead-letters")
    assert answer.status == 200, answer.text
    assert answer.body["total"] == 1
    (letter,) = answer.body["items"]
    assert letter["error"] == "no such queue"
    assert letter["event_id"] == str(event(tenant, "a", 0).event_id)
    assert letter["failed_at"]
    assert letter["replayed_at"] is None


def test_replay_unblocks_the_aggregate_and_says_who_asked(
    sender: Refusing, relay_database: Database, api_key: str
) -> None:
    """Q-05: the head is sent first, its followers after it; the letter records who and when."""
    (letter,) = ask(api_key, "GET", "/dead-letters").body["items"]
    drain(relay_database, sender)
    assert sender.sent == []
    sender.refuses = False
    answer = ask(api_key, "POST", f"/dead-letters/{letter['dead_letter_id']}/replay")
    assert answer.status == 202, answer.text
    assert answer.body["replayed_by"] == "key:test"
    assert answer.body["replayed_at"]
    drain(relay_database, sender)
    assert sender.sent == [("a", 0), ("a", 1), ("a", 2)]


def test_an_event_that_fails_again_makes_another_letter(
    sender: Refusing, relay_database: Database, api_key: str
) -> None:
    """Q-05: the audit of the first replay stays, the second failure has its own letter."""
    (letter,) = ask(api_key, "GET", "/dead-letters").body["items"]
    ask(api_key, "POST", f"/dead-letters/{letter['dead_letter_id']}/replay")
    drain(relay_database, sender)
    again, first = ask(api_key, "GET", "/dead-letters").body["items"]
    assert first["replayed_by"] == "key:test"
    assert again["replayed_at"] is None
    assert again["event_id"] == first["event_id"]


def test_a_letter_is_replayed_once(
    sender: Refusing, database: Database, api_key: str, tenant: UUID
) -> None:
    """Q-05: several operators replay at once; one succeeds, the others get a refusal."""
    (letter,) = ask(api_key, "GET", "/dead-letters").body["items"]

    def replay(operator: str) -> bool:
        try:
            with database.transaction(tenant) as tx:
                dead_letters.replay(tx, letter["dead_letter_id"], operator)
        except Conflict:
            return False
        return True

    # Not through the handler: a Lambda environment serves one request at a time.
    assert sorted(together(*[lambda: replay("first")] * 4)) == [False, False, False, True]
    with pytest.raises(Conflict, match="first"), database.transaction(tenant) as tx:
        dead_letters.replay(tx, letter["dead_letter_id"], "late")


def test_a_foreign_letter_does_not_exist(
    sender: Refusing, admin: Connection[DictRow], api_key: str, other_api_key: str
) -> None:
    """Q-10: another tenant neither sees nor replays it."""
    (letter,) = ask(api_key, "GET", "/dead-letters").body["items"]
    assert ask(other_api_key, "GET", "/dead-letters").body["items"] == []
    path = f"/dead-letters/{letter['dead_letter_id']}/replay"
    assert ask(other_api_key, "POST", path).status == 404
    row = admin.execute("select replayed_at from skald.dead_letters").fetchone()
    assert row == {"replayed_at": None}


def test_old_letters_are_deleted_except_those_that_block_an_aggregate(
    sender: Refusing,
    relay_database: Database,
    tenant: UUID,
    api_key: str,
    admin: Connection[DictRow],
) -> None:
    """V-12: letters that were replayed or collected from a queue are deleted after 90 days.

    A parked event in the outbox needs its letter for a replay, so that letter stays at any age.
    """
    letters = retention("dead_letters")
    for name in ("old", "young"):
        message = Undelivered(source="q", message_id=name, receive_count=6, body=name)
        with relay_database.transaction(tenant) as tx:
            assert dead_letters.keep(tx, message, None, "never dealt with")
    admin.execute(
        "update skald.dead_letters set failed_at = failed_at - %s where message_id is distinct"
        " from 'young'",
        (letters.kept,),
    )

    def forget() -> int:
        with relay_database.transaction(None) as tx:
            return letters.delete(tx, letters.kept)

    assert forget() == 1
    young, parked = ask(api_key, "GET", "/dead-letters").body["items"]
    assert young["message"] == "young"
    ask(api_key, "POST", f"/dead-letters/{parked['dead_letter_id']}/replay")
    assert forget() == 1
    assert ask(api_key, "GET", "/dead-letters").body["items"] == [young]
