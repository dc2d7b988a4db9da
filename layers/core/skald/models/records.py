"""SQL of the models: stored answers, and calls with their cost."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID, uuid4

from pydantic import BaseModel, Field

from skald.models.interface import Answer, Question
from skald.postgres import Transaction
from skald.telemetry import current_trace_id

KEPT = timedelta(hours=1)
"""How long an identical question gets the stored answer (V-10)."""

type CallOutcome = Literal["answered", "repeated", "busy", "unreachable", "refused"]


def question_key(model: str, question: Question) -> bytes:
    """Return the hash of everything that decides the answer (32 bytes)."""
    parts = [model, question.instructions, question.prompt, question.max_tokens]
    return hashlib.sha256(json.dumps(parts).encode()).digest()


def claim(tx: Transaction, key: bytes, owner: UUID, lease: timedelta) -> bool:
    """Take the question, unless it is answered or another living asker has it."""
    taken = tx.value(
        """
        insert into skald.model_answers as known (tenant_id, question, owner, leased_until)
        values (%(tenant)s, %(key)s, %(owner)s, clock_timestamp() + %(lease)s)
        on conflict (tenant_id, question) do update
            set owner = excluded.owner, leased_until = excluded.leased_until,
                answer = null, answered_at = null
            where coalesce(known.answered_at + %(kept)s, known.leased_until) < clock_timestamp()
        returning true
        """,
        {
            "tenant": tx.tenant_id,
            "key": key,
            "owner": owner,
            "lease": lease,
            "kept": KEPT,
        },
    )
    return bool(taken)


def find(tx: Transaction, key: bytes) -> Answer | None:
    """Return the answer that was stored within the last hour."""
    row = tx.execute(
        """
        select answer as text, model, input_tokens, output_tokens, is_estimated
        from skald.model_answers
        where tenant_id = %s and question = %s and answered_at > clock_timestamp() - %s
        """,
        (tx.tenant_id, key, KEPT),
    ).fetchone()
    return Answer(**row, is_repeated=True) if row else None


def store(tx: Transaction, key: bytes, owner: UUID, answer: Answer) -> bool:
    """Store the answer if the owner still has the question, and say whether it had."""
    return tx.changed(
        """
            update skald.model_answers
            set answer = %s, model = %s, input_tokens = %s, output_tokens = %s, is_estimated = %s,
                answered_at = clock_timestamp()
            where tenant_id = %s and question = %s and owner = %s and answer is null
            """,
        (
            answer.text,
            answer.model,
            answer.input_tokens,
            answer.output_tokens,
            answer.is_estimated,
            tx.tenant_id,
            key,
            owner,
        ),
    )


def give_up(tx: Transaction, key: bytes, owner: UUID) -> None:
    """Free the question for the next asker."""
    tx.execute(
        "delete from skald.model_answers"
        " where tenant_id = %s and question = %s and owner = %s and answer is null",
        (tx.tenant_id, key, owner),
    )


@dataclass(frozen=True)
class ModelCall:
    """A question that passed the desk. A repeated one cost nothing."""

    subject: str
    role: str
    model: str
    outcome: CallOutcome
    duration_ms: int
    input_tokens: int = 0
    output_tokens: int = 0
    is_estimated: bool = False


def note(tx: Transaction, call: ModelCall) -> None:
    """Record a call with its cost, for its subject."""
    tx.execute(
        """
        insert into skald.model_calls
            (tenant_id, call_id, subject, role, model, outcome, input_tokens, output_tokens,
             is_estimated, duration_ms, trace_id)
        values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        """,
        (
            tx.tenant_id,
            uuid4(),
            call.subject,
            call.role,
            call.model,
            call.outcome,
            call.input_tokens,
            call.output_tokens,
            call.is_estimated,
            call.duration_ms,
            current_trace_id(),
        ),
    )


class Usage(BaseModel):
    """The calls of one model on one day."""

    day: datetime = Field(description="The day, in UTC.")
    model: str = Field(description="The name of the model.")
    calls: int = Field(description="Questions that were asked.")
    repeated: int = Field(description="Questions that got a stored answer; they cost nothing.")
    failed: int = Field(
        description="Questions without an answer: the model was busy, away or refused."
    )
    input_tokens: int = Field(description="Tokens of the questions.")
    output_tokens: int = Field(description="Tokens of the answers.")


def usage(tx: Transaction, subject: str | None, days: int) -> list[Usage]:
    """Sum the calls of the last `days`, newest day first, of one subject or of all."""
    return tx.all(
        Usage,
        """
        select date_trunc('day', at, 'UTC') as day, model, count(*) as calls,
               count(*) filter (where outcome = 'repeated') as repeated,
               count(*) filter (where outcome in ('busy', 'unreachable', 'refused')) as failed,
               sum(input_tokens) as input_tokens, sum(output_tokens) as output_tokens
        from skald.model_calls
        where tenant_id = %(tenant)s and at > now() - make_interval(days => %(days)s)
          and (%(subject)s::text is null or subject = %(subject)s)
        group by 1, 2 order by 1 desc, 2
        """,
        {"tenant": tx.tenant_id, "days": days, "subject": subject},
    )
