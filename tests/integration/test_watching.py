"""V-13, Q-10: clients watch the agents work, and PostgreSQL gives the result without Redis."""

import json
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
import redis
from tests.integration.batches import Fleet
from tests.integration.streams import Told, ask, read, transcript, watch
from tests.integration.support import Client, MortalValkey, together

from batches import repository, watching
from batches.analysis.findings import Diagnosis, ReasoningStep
from batches.watching import OVER, PIECE_CHARACTERS, RedisWatcher
from skald.valkey import connect, feed

PATH = [ReasoningStep(node="logs", summary="a sag"), ReasoningStep(node="verdict", summary="sure")]
MAX_ANSWER_BYTES = 6 * 1024 * 1024


@pytest.fixture
def batch_id(fleet: Fleet) -> UUID:
    """A batch whose agents are at work."""
    return fleet.diagnosing("a.log")


@pytest.fixture
def watcher(tenant: UUID, batch_id: UUID) -> RedisWatcher:
    """The agents' side of the stream."""
    return RedisWatcher(tenant, batch_id)


def texts(told: list[Told]) -> list[tuple[str, str]]:
    """Return node and text of each piece of text."""
    return [(event.data["node"], event.data["text"]) for event in told if event.name == "said"]


def conclude(fleet: Fleet, batch_id: UUID) -> None:
    diagnosis = Diagnosis(method="agents", summary="It is the battery.", path=PATH)
    fleet.do(repository.save_diagnosis, batch_id, diagnosis.model_dump(mode="json"))


# Events of the stream -----------------------------------------------------------------------------


def test_nodes_are_streamed_as_they_begin_speak_and_end(
    api: Client, batch_id: UUID, watcher: RedisWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V-13: nodes are sent when they begin and finish, text when it comes, past events first."""
    monkeypatch.setattr(watching, "PIECE_SECONDS", 3600.0)
    watcher.entered("logs")
    for token in ("The battery ", "sags."):
        watcher.said("logs", token)
    assert [event.name for event in read(ask(api, batch_id))] == ["began", "entered"]
    watcher.finished("logs", "a sag")
    told = read(ask(api, batch_id))
    assert [event.name for event in told] == ["began", "entered", "said", "finished"]
    assert texts(told) == [("logs", "The battery sags.")]
    assert told[-1].data == {"run": told[0].id, "node": "logs", "summary": "a sag"}
    assert {event.data["run"] for event in told} == {told[0].id}


def test_a_reader_resumes_after_any_event_until_204(
    api: Client, fleet: Fleet, batch_id: UUID, watcher: RedisWatcher
) -> None:
    """V-13: `Last-Event-ID` continues exactly; after the last event the answer is 204."""
    watcher.entered("logs")
    watcher.finished("logs", "a sag")
    conclude(fleet, batch_id)
    everything = read(ask(api, batch_id))
    for position, event in enumerate(everything[:-1]):
        assert read(ask(api, batch_id, event.id)) == everything[position + 1 :]
    assert (everything[-1].id, everything[-1].name) == (OVER, "ended")
    end = ask(api, batch_id, OVER)
    assert (end.status, end.text) == (204, "")


def test_the_end_holds_the_whole_path(api: Client, fleet: Fleet, batch_id: UUID) -> None:
    """V-13: after Redis has lost the stream, a reader gets the path from PostgreSQL."""
    conclude(fleet, batch_id)
    (ended,) = watch(api, batch_id)
    assert ended.name == "ended"
    assert ended.data["path"] == [step.model_dump(mode="json") for step in PATH]
    assert (ended.data["method"], ended.data["summary"]) == ("agents", "It is the battery.")
    assert (ended.data["status"], ended.data["findings"]) == ("diagnosing", 0)


def test_a_batch_that_fails_ends_the_stream_too(
    api: Client, fleet: Fleet, batch_id: UUID, watcher: RedisWatcher
) -> None:
    """V-13: no reader waits for agents that have ended."""
    watcher.entered("logs")
    fleet.do(repository.fail, batch_id, "pipeline_failed", "no model answered")
    ended = watch(api, batch_id)[-1]
    assert (ended.data["status"], ended.data["failure"]) == ("failed", "no model answered")


def test_a_batch_not_yet_diagnosed_says_nothing_new(api: Client, fleet: Fleet) -> None:
    """V-13: a client may open the stream before the agents begin."""
    quiet = ask(api, fleet.scattering("a.log"), wait=0.01)
    assert (quiet.status, quiet.text[0]) == (200, ":")


def test_the_stream_waits_for_news(
    api: Client, batch_id: UUID, watcher: RedisWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V-13: a waiting stream sends an event when it happens."""
    monkeypatch.setattr("skald.entrypoints.sse.time.sleep", lambda _: watcher.entered("logs"))
    assert [event.name for event in read(ask(api, batch_id, wait=5))] == ["began", "entered"]


# Runs ---------------------------------------------------------------------------------------------


def test_a_second_run_has_another_number_than_the_first(
    api: Client, tenant: UUID, batch_id: UUID, watcher: RedisWatcher
) -> None:
    """V-13: after a crash a node is sent again, and a client drops its first run."""
    watcher.entered("logs")
    watcher.said("logs", "One sag.")
    watcher.finished("logs", "a sag")  # its checkpoint was not written
    watcher.entered("verdict")
    watcher.said("verdict", "x" * PIECE_CHARACTERS)  # the function died here
    second = RedisWatcher(tenant, batch_id)
    for node, text in (("logs", "One sag."), ("verdict", "It is the battery.")):
        second.entered(node)
        second.said(node, text)
        watcher.finished(node, "says a function that was only asleep")
        second.finished(node, f"{node} done")

    shown = transcript(read(ask(api, batch_id)))
    assert shown.finished == {"logs": "logs done", "verdict": "verdict done"}
    assert shown.text == {"logs": "One sag.", "verdict": "It is the battery."}


def test_branches_side_by_side_do_not_mix(
    api: Client, batch_id: UUID, watcher: RedisWatcher
) -> None:
    """V-08, V-13: parallel nodes write from their own threads, in one run."""

    def speak(node: str) -> None:
        watcher.entered(node)
        for number in range(50):
            watcher.said(node, f"{node}{number} ")
        watcher.finished(node, node)

    together(*(lambda node=node: speak(node) for node in "abcd"))
    told = read(ask(api, batch_id))
    assert len({event.data["run"] for event in told}) == 1
    for node in "abcd":
        own = [event for event in told if event.data.get("node") == node]
        assert (own[0].name, own[-1].name) == ("entered", "finished")
        assert "".join(text for _, text in texts(own)) == "".join(f"{node}{n} " for n in range(50))


# Sizes --------------------------------------------------------------------------------------------


def test_many_tokens_cost_few_messages(
    api: Client, batch_id: UUID, watcher: RedisWatcher, valkey: redis.Redis
) -> None:
    """V-13: tokens are joined before they are sent to Redis."""
    before = int(valkey.info("commandstats")["cmdstat_xadd"]["calls"]) if _has_xadd(valkey) else 0
    for _ in range(5_000):
        watcher.said("logs", "word ")
    watcher.finished("logs", "done")
    assert int(valkey.info("commandstats")["cmdstat_xadd"]["calls"]) - before < 100
    assert "".join(text for _, text in texts(read(ask(api, batch_id)))) == "word " * 5_000


def _has_xadd(valkey: redis.Redis) -> bool:
    return "cmdstat_xadd" in valkey.info("commandstats")


def test_a_long_stream_comes_in_answers_of_limited_size(
    api: Client, fleet: Fleet, batch_id: UUID, watcher: RedisWatcher
) -> None:
    """V-13: an answer stays below the 6 MB of Lambda, for all characters."""
    text = "\N{FIRE}" * (PIECE_CHARACTERS * (feed.PAGE + 10))
    watcher.said("logs", text)
    watcher.finished("logs", text)
    conclude(fleet, batch_id)
    answer = ask(api, batch_id)
    assert len(json.dumps({"body": answer.text})) < MAX_ANSWER_BYTES
    assert len(read(answer)) == feed.PAGE
    told = watch(api, batch_id)
    assert "".join(said for _, said in texts(told)) == text
    assert told[-1].name == "ended"


def test_a_feed_is_short_and_expires(
    tenant: UUID, batch_id: UUID, watcher: RedisWatcher, valkey: redis.Redis
) -> None:
    """G-15: Redis keeps the newest events of a feed for a short time, under the tenant's key."""
    watcher.said("logs", "x" * (PIECE_CHARACTERS * 2 * feed.LENGTH))
    key = f"batch:{tenant}:{batch_id}:diagnosis"
    assert feed.LENGTH <= valkey.xlen(key) < 1.2 * feed.LENGTH
    assert 0 < int(valkey.ttl(key)) <= feed.KEPT_SECONDS


def test_a_feed_without_its_beginning_is_understood(
    api: Client, fleet: Fleet, batch_id: UUID, watcher: RedisWatcher, valkey: redis.Redis
) -> None:
    """V-13: a reader after many events, or after a flush of Redis, sees what follows."""
    watcher.entered("logs")
    valkey.delete(f"batch:{fleet.tenant}:{batch_id}:diagnosis")
    watcher.finished("logs", "a sag")
    assert transcript(read(ask(api, batch_id))).finished == {"logs": "a sag"}


def test_half_a_character_does_not_fail_the_stream(
    api: Client, batch_id: UUID, watcher: RedisWatcher
) -> None:
    """V-13: a token may end inside a character; the work continues with any text."""
    watcher.said("logs", "on \ud83d")
    watcher.said("logs", "\udd25\x00\n\n")
    watcher.finished("logs", "\ud83d")
    assert texts(read(ask(api, batch_id))) == [("logs", "on \N{FIRE}\x00\n\n")]


# Other tenants ------------------------------------------------------------------------------------


def test_a_foreign_diagnosis_is_not_watched(
    api: Client, foreign_api: Client, batch_id: UUID, watcher: RedisWatcher
) -> None:
    """Q-10: the batch of another tenant does not exist."""
    watcher.entered("logs")
    for unknown in (batch_id, uuid4()):
        answer = ask(foreign_api, unknown)
        assert (answer.status, answer.body["detail"]) == (404, "no such batch")
    assert ask(foreign_api, batch_id, OVER).status == 404


@pytest.mark.parametrize("since", ["x", "1", "-1-1", f"{'9' * 20}-0", "over!", "(0-0"])
def test_a_made_up_position_is_refused(api: Client, batch_id: UUID, since: str) -> None:
    """Errors: an unknown id is 422, and is not treated as a loss of Redis."""
    assert ask(api, batch_id, since).status == 422


# Without Redis ------------------------------------------------------------------------------------


@pytest.fixture
def mortal(own_valkey: MortalValkey, monkeypatch: pytest.MonkeyPatch) -> Iterator[MortalValkey]:
    """A Valkey for watchers and readers that the test stops."""
    client = connect(own_valkey.dsn)
    monkeypatch.setattr("batches.watching.valkey", lambda: client)
    monkeypatch.setattr("skald.valkey.client.PAUSE_SECONDS", 0.0)
    yield own_valkey
    client.close()


def test_agents_and_readers_work_without_redis(
    api: Client, fleet: Fleet, tenant: UUID, mortal: MortalValkey
) -> None:
    """V-13: Redis stops in the middle of a text; the work continues and its end is sent."""
    batch_id = fleet.diagnosing("a.log")
    watcher = RedisWatcher(tenant, batch_id)
    watcher.entered("logs")
    mortal.stop()
    watcher.said("logs", "x" * PIECE_CHARACTERS)
    watcher.finished("logs", "not sent")
    assert ask(api, batch_id).text.startswith(":"), "nothing new is not an error"
    mortal.start()
    watcher.entered("verdict")
    assert "verdict" in {event.data.get("node") for event in read(ask(api, batch_id))}
    mortal.stop()
    conclude(fleet, batch_id)
    (ended,) = watch(api, batch_id)
    assert [step["node"] for step in ended.data["path"]] == ["logs", "verdict"]


def test_a_run_that_began_without_redis_is_streamed_once_redis_is_back(
    api: Client, fleet: Fleet, tenant: UUID, mortal: MortalValkey
) -> None:
    """V-13: every event names its run."""
    batch_id = fleet.diagnosing("a.log")
    watcher = RedisWatcher(tenant, batch_id)
    mortal.stop()
    watcher.entered("logs")
    mortal.start()
    watcher.finished("logs", "a sag")
    told = read(ask(api, batch_id))
    assert [event.name for event in told] == ["began", "finished"]
    assert {event.data["run"] for event in told} == {told[0].id}
