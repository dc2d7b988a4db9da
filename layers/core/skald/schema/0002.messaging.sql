-- Events on their way out (outbox), in (inbox), and what could not be delivered (dead letters).
-- depends: 0001.tenancy


-- Outbox: each event a transaction has published, until retention takes it. Also the journal of
-- events: what was published and what caused it (W-08). -----------------------------------------

-- A session reads a domain's check once, a column's for every statement, which costs a seventh of an
-- insert. No enumeration: its comparison is not leakproof, so row-level security would keep the
-- condition from an index.
create domain skald.event_status as text check (value in ('pending', 'published', 'failed'));

-- A row is written three times (put in, leased, published) and then stays until retention takes
-- it. Room in its page makes the lease an update in place (HOT), so no column a lease changes may
-- be indexed. Vacuum goes by rows, not by share: a backlog of millions must not delay it.
-- `envelope` is json: jsonb of a document that is read whole costs an insert a twentieth more.
-- `correlation_id` repeats the envelope's, or the event's own id where a chain begins: row-level
-- security lets no condition that is not leakproof reach an index, such as one on an expression.
create table skald.outbox (
    position       bigint generated always as identity primary key,
    tenant_id      uuid not null,
    event_id       uuid not null,
    event_type     text not null,
    aggregate      text not null,
    correlation_id text not null,
    envelope       json not null,
    status         skald.event_status not null default 'pending',
    attempts       integer not null default 0,
    available_at   timestamptz not null default now(),
    lease_token    uuid,
    leased_until   timestamptz,
    last_error     text,
    created_at     timestamptz not null default now(),
    published_at   timestamptz,
    unique (tenant_id, event_id)
) with (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0
);
create index outbox_due on skald.outbox (tenant_id, position) where status = 'pending';
create index outbox_unsent on skald.outbox (tenant_id, aggregate, position)
    where status <> 'published';
create index outbox_correlated on skald.outbox (tenant_id, correlation_id);
call skald.isolate_tenants('skald.outbox');
create policy relay on skald.outbox to skald_relay using (true) with check (true);
-- Who inserts an event or a dead letter does not choose its number: numbers are unique over all
-- tenants, so a refused one would tell that another tenant has it (Q-10).
grant select, insert (tenant_id, event_id, event_type, aggregate, correlation_id, envelope)
    on skald.outbox to skald_app;
grant select, update, delete on skald.outbox to skald_relay;


-- Dead letters: events that could not be sent, and messages that their consumers gave back too
-- often, among them such that are no event (Q-05, V-12). ------------------------------------------

-- `message` is what could not be read as an event; `message_id` is the queue's own.
create table skald.dead_letters (
    dead_letter_id bigint generated always as identity primary key,
    tenant_id      uuid not null,
    event_id       uuid,
    source         text not null,
    message_id     text,
    envelope       json,
    message        text,
    receive_count  integer,
    error          text not null,
    failed_at      timestamptz not null default now(),
    replayed_at    timestamptz,
    replayed_by    text,
    check ((replayed_at is null) = (replayed_by is null)),
    check ((envelope is null) = (event_id is null)),
    check ((envelope is null) = (message is not null))
);
create index dead_letters_by_tenant on skald.dead_letters (tenant_id, dead_letter_id);
create unique index dead_letters_once on skald.dead_letters (tenant_id, source, message_id)
    where message_id is not null;
create index dead_letters_age on skald.dead_letters (failed_at);
call skald.isolate_tenants('skald.dead_letters');
create policy relay on skald.dead_letters to skald_relay using (true) with check (true);
grant select, insert (tenant_id, event_id, source, envelope, error, message_id, message,
                      receive_count)
    on skald.dead_letters to skald_app;
grant select, insert, delete on skald.dead_letters to skald_relay;

-- The one way back for a dead letter, which also says who opened it and when. The outbox sends the
-- event again, and stores it again if retention has deleted it. Returns the event, null for a letter
-- that is unknown to the tenant, holds no event or was replayed before.
create function skald.replay(letter bigint, actor text) returns uuid
    language sql security definer
    set search_path = pg_catalog
begin atomic
    with replayed as (
        update skald.dead_letters set replayed_at = now(), replayed_by = actor
        where tenant_id = (select skald.current_tenant())
          and dead_letter_id = letter and replayed_at is null and envelope is not null
        returning tenant_id, event_id, envelope
    )
    insert into skald.outbox as event
        (tenant_id, event_id, event_type, aggregate, correlation_id, envelope)
    select tenant_id, event_id, envelope ->> 'event_type',
           concat(envelope ->> 'target_type', ':', envelope ->> 'target_id'),
           coalesce(envelope ->> 'correlation_id', event_id::text), envelope
    from replayed
    on conflict (tenant_id, event_id) do update
    set status = 'pending', attempts = 0, available_at = now()
    returning event_id;
end;
revoke all on function skald.replay from public;
grant execute on function skald.replay to skald_app;


-- Inbox: what each consumer has taken in, so that it takes nothing in twice. ----------------------

create table skald.inbox (
    tenant_id   uuid not null,
    event_id    uuid not null,
    consumer    text not null,
    received_at timestamptz not null default now(),
    primary key (tenant_id, event_id, consumer)
);
create index inbox_age on skald.inbox (received_at);
call skald.isolate_tenants('skald.inbox');
create policy retention on skald.inbox to skald_relay using (true);
grant select, insert on skald.inbox to skald_app;
grant select (ctid, received_at), delete on skald.inbox to skald_relay;
