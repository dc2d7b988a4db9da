"""V-13, V-10: a few calls run at a time, none is repeated, and each is charged to its tenant."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
import redis
from psycopg import Connection
from psycopg.rows import DictRow
from tests.integration.conftest import ROOT, Servers
from tests.integration.model_endpoint import (
    ModelEndpoint,
    Reply,
    always,
    in_turn,
    model_endpoint,
)
from tests.integration.support import call, proxy_event, retention, together, wait_until

from operations.api import tenant_handler
from skald.errors import TooLarge
from skald.models import Answer, Desk, ModelBusy, ModelRefused, ModelUnreachable, Question
from skald.models.openai_compatible import OpenAiCompatible
from skald.models.pace import ASKED_SECONDS, Pace
from skald.models.records import question_key, usage
from skald.postgres import Database
from skald.valkey import connect
from skald.valkey.semaphore import NoSlot, Semaphore

QUESTION = Question("judge", "Be brief.", "E2107 forty times", seconds=30.0)


@pytest.fixture
def endpoint(valkey: redis.Redis) -> Iterator[ModelEndpoint]:
    valkey.flushall()
    with model_endpoint(always(Reply("a sag"))) as endpoint:
        yield endpoint


@pytest.fixture
def model(endpoint: ModelEndpoint) -> Iterator[OpenAiCompatible]:
    with closing(OpenAiCompatible("fake", endpoint.url)) as model:
        yield model


@pytest.fixture
def desk(model: OpenAiCompatible, database: Database, valkey: redis.Redis) -> Desk:
    return Desk(model, database, valkey, places=3, wait_seconds=5)


def asking(
    servers: Servers, endpoint: ModelEndpoint, tenant: UUID, *arguments: str, **environ: str
) -> subprocess.Popen[str]:
    """Start a process that asks."""
    paths = [str(ROOT), str(ROOT / "layers" / "core"), str(ROOT / "functions")]
    return subprocess.Popen(  # noqa: S603 (our own script)
        [sys.executable, Path(__file__).with_name("asker.py"), *arguments],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": ":".join(paths),
            "POSTGRES_DSN": servers.app_dsn,
            "REDIS_DSN": servers.redis_dsn,
            "MODEL": endpoint.setting,
            "TENANT": str(tenant),
            "LOG_LEVEL": "ERROR",
            "POWERTOOLS_LOG_LEVEL": "ERROR",
        }
        | environ,
        stdout=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> list[str]:
    """Wait for the process and return what it printed, without the metrics."""
    return [line for line in process.communicate()[0].splitlines() if not line.startswith("{")]


def test_a_thousand_questions_never_more_than_n_at_once_none_lost(
    servers: Servers, endpoint: ModelEndpoint, tenant: UUID, database: Database
) -> None:
    """V-13: four processes ask a thousand questions; one is killed, and asks the rest again.

    At most five calls run at any time, and every question gets an answer.
    """
    endpoint.script = always(Reply("a sag", seconds=0.005))
    prompts = [f"question {number}" for number in range(1000)]
    shares = [prompts[number::4] for number in range(4)]
    processes = [asking(servers, endpoint, tenant, "5", "10", *share) for share in shares]
    wait_until(lambda: len(endpoint.asked) > 100, "some questions")
    processes[0].send_signal(signal.SIGKILL)
    processes[0].communicate()
    processes[0] = asking(servers, endpoint, tenant, "5", "10", *shares[0])
    lines = [line for process in processes for line in said(process)]
    assert [process.returncode for process in processes] == [0, 0, 0, 0]
    assert {line.split(" a sag")[0] for line in lines} == set(prompts)
    assert endpoint.most_at_once == 5
    # Only the calls of the killed process may be repeated.
    assert sum(endpoint.prompts.values()) <= 1000 + 5
    with database.transaction(tenant) as tx:
        (bill,) = usage(tx, "test", 1)
    paid = bill.calls - bill.repeated
    assert 1000 <= paid <= len(endpoint.asked)


def test_identical_questions_of_four_processes_are_one_call(
    servers: Servers, endpoint: ModelEndpoint, tenant: UUID
) -> None:
    """V-10: processes that ask the same at that time wait; later ones read the record."""
    endpoint.script = always(Reply("a sag", seconds=0.3))
    processes = [asking(servers, endpoint, tenant, "5", "30", "same") for _ in range(4)]
    answers = [line for process in processes for line in said(process)]
    assert sorted(answers) == ["same a sag False"] + ["same a sag True"] * 3
    assert len(endpoint.asked) == 1


def test_an_answer_survives_the_crash_right_after_it(
    servers: Servers, endpoint: ModelEndpoint, tenant: UUID
) -> None:
    """V-13, G-04: the record is committed before the caller gets the answer."""
    first = asking(servers, endpoint, tenant, "5", "30", "dear", KILLED_AFTER_ANSWER="yes")
    first.communicate()
    assert first.returncode == -signal.SIGKILL
    again = asking(servers, endpoint, tenant, "5", "30", "dear")
    assert said(again) == ["dear a sag True"]
    assert len(endpoint.asked) == 1


def test_a_killed_askers_question_is_taken_over(
    desk: Desk,
    endpoint: ModelEndpoint,
    tenant: UUID,
    admin: Connection[DictRow],
    servers: Servers,
    database: Database,
    valkey: redis.Redis,
) -> None:
    """V-13: when the lease of a dead process ends, another process may ask its question."""
    endpoint.script = in_turn(Reply("late", seconds=3), Reply("a sag"))
    dying = asking(servers, endpoint, tenant, "5", "20", QUESTION.prompt)
    wait_until(lambda: len(endpoint.asked) == 1, "the first call")
    dying.kill()
    dying.communicate()
    impatient = Desk(desk.model, database, valkey, wait_seconds=0.2)
    with pytest.raises(NoSlot, match="identical"):
        impatient.ask(replace(QUESTION, seconds=0.1), tenant_id=tenant, subject="test")
    admin.execute(
        "update skald.model_answers set leased_until = now() - interval '1 s' where tenant_id = %s",
        [tenant],
    )
    assert desk.ask(QUESTION, tenant_id=tenant, subject="test").text == "a sag"


def test_another_tenant_gets_its_own_answer(
    desk: Desk, endpoint: ModelEndpoint, tenant: UUID, other_tenant: UUID
) -> None:
    """Q-10: the same words of another tenant are another question."""
    for asker in (tenant, tenant, other_tenant):
        desk.ask(QUESTION, tenant_id=asker, subject="test")
    assert len(endpoint.asked) == 2


def test_an_hour_later_it_is_asked_again(
    desk: Desk, endpoint: ModelEndpoint, tenant: UUID, admin: Connection[DictRow]
) -> None:
    desk.ask(QUESTION, tenant_id=tenant, subject="test")
    admin.execute(
        "update skald.model_answers set answered_at = answered_at - interval '61 min'"
        " where tenant_id = %s",
        [tenant],
    )
    assert not desk.ask(QUESTION, tenant_id=tenant, subject="test").is_repeated
    assert len(endpoint.asked) == 2


def test_temporary_failures_are_repeated_and_recorded(
    desk: Desk, endpoint: ModelEndpoint, tenant: UUID, database: Database
) -> None:
    """V-13: a temporary failure of the provider is retried and does not reach the caller."""
    endpoint.script = in_turn(
        Reply(status=500), Reply(status=429, retry_after="0.3"), Reply("a sag")
    )
    began = time.monotonic()
    heard: list[str] = []
    answer = desk.ask(QUESTION, tenant_id=tenant, subject="b1", on_text=heard.append)
    assert answer == Answer("a sag", "openai:fake", 5, 2)
    assert time.monotonic() - began > 0.3
    with database.transaction(tenant) as tx:
        (bill,) = usage(tx, "b1", 1)
        assert usage(tx, "b2", 1) == []
    assert (bill.calls, bill.failed, bill.input_tokens, bill.output_tokens) == (3, 2, 5, 2)


def test_a_tenant_sees_the_tokens_it_pays_for(
    desk: Desk, tenant: UUID, api_key: str, other_api_key: str
) -> None:
    """V-13: tokens by day and model, for one subject or for all."""
    desk.ask(QUESTION, tenant_id=tenant, subject="b1")

    def bill(key: str, subject: str) -> list[dict[str, object]]:
        event = proxy_event(
            "GET", "/model-usage", query={"subject": subject}, headers={"X-Api-Key": key}
        )
        answer = call(tenant_handler, event)
        assert answer.status == 200
        found: list[dict[str, object]] = answer.body
        return found

    (mine,) = bill(api_key, "b1")
    assert (mine["model"], mine["calls"], mine["output_tokens"]) == ("openai:fake", 1, 2)
    assert bill(api_key, "b2") == bill(other_api_key, "b1") == []


@pytest.mark.parametrize(
    ("reply", "condition"),
    [
        (Reply(status=500), ModelUnreachable),
        (Reply(status=429, retry_after="60"), ModelBusy),
        (Reply(status=401), ModelRefused),
    ],
)
def test_what_does_not_end_frees_the_question(
    desk: Desk, endpoint: ModelEndpoint, tenant: UUID, reply: Reply, condition: type[Exception]
) -> None:
    endpoint.script = always(reply)
    with pytest.raises(condition):
        desk.ask(QUESTION, tenant_id=tenant, subject="test")
    endpoint.script = always(Reply("a sag"))
    assert desk.ask(QUESTION, tenant_id=tenant, subject="test").text == "a sag"


def test_a_refusal_halves_the_places_and_answers_win_them_back(
    valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V-13: after a 429 all callers slow down."""
    monkeypatch.setattr("skald.models.pace.ASKED_SECONDS", 0.0)
    pace = Pace(valkey, "openai:fake", 16)
    pace.slow()
    pace.slow()  # within the same second: one refusal
    assert pace.places() == 8
    for _ in range(9):
        pace.gain()
    assert pace.places() == 9
    for _ in range(200):
        pace.gain()
    assert pace.places() == 16
    slow = Pace(valkey, "slow", 1)
    slow.slow()
    assert slow.places() == 1


def test_fewer_calls_run_at_once_after_a_429(
    desk: Desk, endpoint: ModelEndpoint, tenant: UUID, valkey: redis.Redis
) -> None:
    """V-13: the semaphore follows the pace."""
    valkey.set("pace:openai:fake", "1.0")
    endpoint.script = always(Reply("a sag", seconds=0.05))

    def ask(number: int) -> Answer:
        question = replace(QUESTION, prompt=f"question {number}")
        return desk.ask(question, tenant_id=tenant, subject="test")

    together(lambda: ask(1), lambda: ask(2))
    assert endpoint.most_at_once == 1
    valkey.delete("pace:openai:fake")
    time.sleep(ASKED_SECONDS)
    both = threading.Barrier(2)

    def answer_both(_: str) -> Reply:
        both.wait(20)
        return Reply("a sag")

    endpoint.script = answer_both
    together(lambda: ask(3), lambda: ask(4))
    assert endpoint.most_at_once == 2


def test_no_call_is_made_without_a_place(
    desk: Desk, endpoint: ModelEndpoint, tenant: UUID, database: Database, valkey: redis.Redis
) -> None:
    impatient = Desk(desk.model, database, valkey, places=1, wait_seconds=0.1)
    with Semaphore(valkey, "model:openai:fake", 1).held(), pytest.raises(NoSlot):
        impatient.ask(QUESTION, tenant_id=tenant, subject="test")
    assert endpoint.asked == []


def test_without_redis_no_call_is_made(
    desk: Desk, endpoint: ModelEndpoint, tenant: UUID, database: Database, no_valkey: str
) -> None:
    """V-13: without Redis calls cannot be counted, so none is made; the caller retries."""
    blind = Desk(desk.model, database, connect(no_valkey))
    with pytest.raises(redis.ConnectionError):
        blind.ask(QUESTION, tenant_id=tenant, subject="test")
    assert endpoint.asked == []


def test_logs_are_no_prompt(desk: Desk, tenant: UUID) -> None:
    with pytest.raises(TooLarge):
        desk.ask(Question("judge", "", "word " * 4001), tenant_id=tenant, subject="test")


def test_who_no_longer_wants_an_answer_stops_waiting(
    desk: Desk, endpoint: ModelEndpoint, tenant: UUID
) -> None:
    class Gone(Exception):
        pass

    def gone() -> None:
        raise Gone

    may_answer = threading.Event()

    def answer_later(_: str) -> Reply:
        may_answer.wait(20)
        return Reply("a sag")

    endpoint.script = answer_later
    first = threading.Thread(target=lambda: desk.ask(QUESTION, tenant_id=tenant, subject="test"))
    first.start()
    wait_until(lambda: len(endpoint.asked) == 1, "the first call")
    with pytest.raises(Gone):
        desk.ask(QUESTION, tenant_id=tenant, subject="test", renew=gone)
    may_answer.set()
    first.join()


def test_old_answers_and_calls_are_forgotten(
    desk: Desk, tenant: UUID, admin: Connection[DictRow], relay_database: Database
) -> None:
    """V-10: the schedule deletes answers that cannot be used any more, and keeps the rest."""
    for prompt in ("old", "new"):
        desk.ask(replace(QUESTION, prompt=prompt), tenant_id=tenant, subject=prompt)
    key = question_key(desk.model.name, replace(QUESTION, prompt="old"))
    admin.execute(
        "update skald.model_answers set leased_until = now() - interval '2 days'"
        " where tenant_id = %s and question = %s",
        [tenant, key],
    )
    admin.execute(
        "update skald.model_calls set at = now() - interval '91 days'"
        " where tenant_id = %s and subject = 'old'",
        [tenant],
    )
    with relay_database.transaction(None) as tx:
        for old in (retention("model_answers"), retention("model_calls")):
            old.delete(tx, old.kept)
    left = "select count(*) as answers from skald.model_answers where tenant_id = %s"
    assert admin.execute(left, [tenant]).fetchone() == {"answers": 1}
    kept = "select subject from skald.model_calls where tenant_id = %s"
    assert admin.execute(kept, [tenant]).fetchall() == [{"subject": "new"}]
