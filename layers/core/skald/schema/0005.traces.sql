-- Tracing, the journal of events, workflow progress and signals (G-09, G-14, G-15, W-08).
-- depends: 0001.kernel

-- Spans. ------------------------------------------------------------------------------------------

create table skald.trace_spans (
    tenant_id      uuid not null,
    trace_id       text not null,
    span_id        text not null,
    parent_span_id text,
    kind           text not null,
    name           text not null,
    start_time     timestamptz not null,
    end_time       timestamptz not null check (end_time >= start_time),
    duration_ms    double precision not null
                       generated always as (extract(epoch from end_time - start_time) * 1000) stored,
    status         text not null check (status in ('ok', 'error')),
    attributes     jsonb not null default '{}',
    primary key (tenant_id, trace_id, span_id)
);
create index trace_spans_newest on skald.trace_spans (tenant_id, start_time desc);
create index trace_spans_age on skald.trace_spans using brin (start_time);
call skald.isolate_tenants('skald.trace_spans');
grant select, insert on skald.trace_spans to skald_app;

-- What spans sum up to, kept when they are forgotten: the counters of the Prometheus endpoint.
-- `bucket` is the upper bound in seconds of the histogram's bucket, infinity for the last.
create table skald.span_totals (
    tenant_id uuid not null,
    kind      text not null,
    name      text not null,
    status    text not null,
    bucket    double precision not null,
    spans     bigint not null,
    seconds   double precision not null,
    primary key (tenant_id, kind, name, status, bucket)
);
call skald.isolate_tenants('skald.span_totals');
grant select, insert, update on skald.span_totals to skald_app;


-- The journal of events: what caused what, kept when the outbox has let go of them (W-08). The
-- database writes it, so it holds every event that was published and none that was rolled back.

create table skald.event_journal (
    tenant_id      uuid not null,
    event_id       uuid not null,
    event_type     text not null,
    target_type    text not null,
    target_id      text not null,
    correlation_id text not null,
    causation_id   uuid,
    trace_id       text not null,
    parent_span_id text,
    occurred_at    timestamptz not null,
    primary key (tenant_id, event_id)
);
create index event_journal_correlated
    on skald.event_journal (tenant_id, correlation_id, occurred_at);
create index event_journal_age on skald.event_journal using brin (occurred_at);
call skald.isolate_tenants('skald.event_journal');
grant select, insert on skald.event_journal to skald_app;

-- An event without a correlation id takes that of its cause, or begins a chain of its own.
create function skald.note_event() returns trigger
    language plpgsql
    set search_path = pg_catalog
as $$
declare
    cause uuid := (new.envelope ->> 'causation_id')::uuid;
    correlation text := new.envelope ->> 'correlation_id';
begin
    if correlation is null and cause is not null then
        select journal.correlation_id into correlation from skald.event_journal as journal
        where journal.tenant_id = new.tenant_id and journal.event_id = cause;
    end if;
    insert into skald.event_journal
    values (
        new.tenant_id, new.event_id, new.event_type,
        new.envelope ->> 'target_type', new.envelope ->> 'target_id',
        coalesce(correlation, new.event_id::text), cause,
        new.envelope ->> 'trace_id', new.envelope ->> 'parent_span_id',
        (new.envelope ->> 'timestamp')::timestamptz)
    on conflict do nothing;
    return null;
end
$$;
create trigger note_event after insert on skald.outbox
    for each row execute function skald.note_event();


-- Workflow progress behind Redis (G-14). ----------------------------------------------------------

create table skald.workflow_state_cache (
    tenant_id   uuid not null,
    workflow_id text not null,
    state       jsonb not null,
    version     bigint not null default 1,
    updated_at  timestamptz not null default clock_timestamp(),
    primary key (tenant_id, workflow_id)
);
call skald.isolate_tenants('skald.workflow_state_cache');
grant select, insert, update on skald.workflow_state_cache to skald_app;


-- Signals: an external event and the step that waits for it meet in one row, so neither can miss
-- the other (G-14). -------------------------------------------------------------------------------

create table skald.signals (
    tenant_id   uuid not null,
    saga_id     text not null,
    name        text not null,
    payload     jsonb,
    received_at timestamptz,
    task_token  text,
    answered_at timestamptz,
    primary key (tenant_id, saga_id, name),
    check ((payload is null) = (received_at is null)),
    check (answered_at is null or (payload is not null and task_token is not null))
);
create index signals_unanswered on skald.signals (received_at)
    where answered_at is null and payload is not null and task_token is not null;
call skald.isolate_tenants('skald.signals');
grant select, insert, update on skald.signals to skald_app;
-- Whoever answers what a crash left unanswered looks across tenants, and sees no payload.
create policy lookout on skald.signals for select to skald_relay
    using (answered_at is null and payload is not null and task_token is not null);
grant select (tenant_id, saga_id, name, received_at) on skald.signals to skald_relay;


-- What is old goes: once a day, across tenants, and nothing but its age is seen. ------------------

create policy upkeep on skald.trace_spans to skald_relay using (true);
grant select (start_time), delete on skald.trace_spans to skald_relay;
create policy upkeep on skald.event_journal to skald_relay using (true);
grant select (occurred_at), delete on skald.event_journal to skald_relay;
