-- The kernel's tables: tenants and keys, outbox, inbox, dead letters, saga log.
-- Run as skald_migrator, which owns them. skald_app works for one tenant at a time and sees no
-- other; skald_relay moves events and looks for stuck work across tenants.

create schema skald;
grant usage on schema skald to skald_app, skald_relay;

create function skald.current_tenant() returns uuid
    language sql stable parallel safe
    return nullif(current_setting('app.current_tenant', true), '')::uuid;

-- Every table with a tenant_id goes through here: a row is visible and writable for the tenant of
-- the transaction, for nobody without one, and its owner is no exception.
create procedure skald.isolate_tenants(relation regclass)
    language plpgsql
    set search_path = pg_catalog
as $$
begin
    execute format('alter table %s enable row level security', relation);
    execute format('alter table %s force row level security', relation);
    execute format(
        'create policy tenant_isolation on %s
             using (tenant_id = (select skald.current_tenant()))
             with check (tenant_id = (select skald.current_tenant()))', relation);
end
$$;
revoke all on procedure skald.isolate_tenants from public;


-- Tenants and API keys: written by an operator, never read by a function. ----------------------

create table skald.tenants (
    tenant_id  uuid primary key,
    name       text not null,
    created_at timestamptz not null default now()
);
call skald.isolate_tenants('skald.tenants');
create policy administration on skald.tenants to skald_migrator using (true) with check (true);

create table skald.api_keys (
    key_hash   bytea primary key check (octet_length(key_hash) = 32),
    tenant_id  uuid not null references skald.tenants,
    name       text not null,
    created_at timestamptz not null default now(),
    revoked_at timestamptz
);
call skald.isolate_tenants('skald.api_keys');
create policy administration on skald.api_keys to skald_migrator using (true) with check (true);

-- The one door from a key to its tenant: takes a hash, gives nothing but a match.
create function skald.authenticate(digest bytea) returns table (tenant_id uuid, name text)
    language sql stable security definer
    set search_path = pg_catalog
begin atomic
    select k.tenant_id, k.name from skald.api_keys as k
    where k.key_hash = digest and k.revoked_at is null;
end;
revoke all on function skald.authenticate from public;
grant execute on function skald.authenticate to skald_app;


-- Outbox. ---------------------------------------------------------------------------------------

-- A row is written three times (put in, leased, published) and then stays until retention takes
-- it. Room in its page makes the lease an update in place (HOT), so no column a lease changes may
-- be indexed. Vacuum goes by rows, not by share: a backlog of millions must not delay it.
create table skald.outbox (
    position     bigint generated always as identity primary key,
    tenant_id    uuid not null,
    event_id     uuid not null,
    event_type   text not null,
    aggregate    text not null,
    envelope     jsonb not null,
    status       text not null default 'pending' check (status in ('pending', 'published', 'failed')),
    attempts     integer not null default 0,
    available_at timestamptz not null default now(),
    lease_token  uuid,
    leased_until timestamptz,
    last_error   text,
    created_at   timestamptz not null default now(),
    published_at timestamptz,
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
call skald.isolate_tenants('skald.outbox');
create policy relay on skald.outbox to skald_relay using (true) with check (true);
grant select, insert on skald.outbox to skald_app;
grant select, update, delete on skald.outbox to skald_relay;

create table skald.dead_letters (
    dead_letter_id bigint generated always as identity primary key,
    tenant_id      uuid not null,
    event_id       uuid not null,
    source         text not null,
    envelope       jsonb not null,
    error          text not null,
    failed_at      timestamptz not null default now(),
    replayed_at    timestamptz,
    replayed_by    text,
    check ((replayed_at is null) = (replayed_by is null))
);
create index dead_letters_by_tenant on skald.dead_letters (tenant_id, dead_letter_id);
call skald.isolate_tenants('skald.dead_letters');
create policy relay on skald.dead_letters to skald_relay using (true) with check (true);
grant select, insert on skald.dead_letters to skald_app, skald_relay;

-- The one way back for a dead letter, which also says who opened it and when. Returns the event,
-- null for a letter that is unknown to the tenant or was replayed before.
create function skald.replay(letter bigint, actor text) returns uuid
    language sql security definer
    set search_path = pg_catalog
begin atomic
    with replayed as (
        update skald.dead_letters set replayed_at = now(), replayed_by = actor
        where tenant_id = (select skald.current_tenant())
          and dead_letter_id = letter and replayed_at is null
        returning tenant_id, event_id
    )
    update skald.outbox as event set status = 'pending', attempts = 0, available_at = now()
    from replayed
    where event.tenant_id = replayed.tenant_id and event.event_id = replayed.event_id
      and event.status = 'failed'
    returning event.event_id;
end;
revoke all on function skald.replay from public;
grant execute on function skald.replay to skald_app;


-- Inbox. ----------------------------------------------------------------------------------------

create table skald.inbox (
    tenant_id   uuid not null,
    event_id    uuid not null,
    consumer    text not null,
    received_at timestamptz not null default now(),
    primary key (tenant_id, event_id, consumer)
);
create index inbox_age on skald.inbox using brin (received_at);
call skald.isolate_tenants('skald.inbox');
create policy retention on skald.inbox to skald_relay using (true);
grant select, insert on skald.inbox to skald_app;
grant select (ctid, received_at), delete on skald.inbox to skald_relay;


-- Saga log. -------------------------------------------------------------------------------------

-- `steps` are the names of the planned steps in their order; `execution` is the ARN of the Step
-- Functions execution, null where the coordinator runs the saga in a process of ours.
create table skald.saga_transactions (
    tenant_id     uuid not null,
    saga_id       text not null,
    kind          text not null,
    status        text not null default 'running' check (status in (
                      'running', 'completed', 'compensating', 'compensated', 'manual_intervention')),
    steps         jsonb not null,
    input         jsonb not null,
    execution     text,
    trace_id      text not null,
    error_message text,
    recoveries    integer not null default 0,
    started_at    timestamptz not null default clock_timestamp(),
    updated_at    timestamptz not null default clock_timestamp(),
    completed_at  timestamptz,
    primary key (tenant_id, saga_id)
) with (fillfactor = 70);
-- Not on updated_at: every step changes that.
create index saga_transactions_unfinished on skald.saga_transactions (started_at)
    where status in ('running', 'compensating');
call skald.isolate_tenants('skald.saga_transactions');
grant select, insert, update on skald.saga_transactions to skald_app;
-- The reconciler looks for dead sagas across tenants and sees no input of theirs.
create policy lookout on skald.saga_transactions for select to skald_relay using (true);
grant select (tenant_id, saga_id, kind, status, execution, started_at, updated_at)
    on skald.saga_transactions to skald_relay;

create table skald.saga_steps (
    tenant_id      uuid not null,
    saga_id        text not null,
    step           text not null,
    status         text not null default 'completed' check (status in (
                       'failed', 'completed', 'compensated', 'compensation_failed')),
    attempts       integer not null default 1,
    result         jsonb not null default '{}',
    error          text,
    started_at     timestamptz not null default clock_timestamp(),
    completed_at   timestamptz,
    compensated_at timestamptz,
    primary key (tenant_id, saga_id, step)
);
call skald.isolate_tenants('skald.saga_steps');
grant select, insert, update on skald.saga_steps to skald_app;
