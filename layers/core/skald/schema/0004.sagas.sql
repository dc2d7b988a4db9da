-- Sagas: their log, what persons did about them, their progress and their signals (G-07, G-14).
-- depends: 0001.tenancy


-- The log. ----------------------------------------------------------------------------------------

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
create index saga_transactions_newest on skald.saga_transactions (tenant_id, started_at desc);
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


-- Interventions: what persons did about sagas that no process could end (G-07, G-16). -------------

-- One per saga, because a saga that a person has resolved is over. No role may change or delete it.
create table skald.interventions (
    tenant_id   uuid not null,
    saga_id     text not null,
    actor_id    text not null,
    note        text not null,
    resolved_at timestamptz not null default clock_timestamp(),
    primary key (tenant_id, saga_id)
);
call skald.isolate_tenants('skald.interventions');
grant select, insert on skald.interventions to skald_app;


-- Progress behind Redis (G-14). -------------------------------------------------------------------

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
-- The reconciler looks across tenants for what a crash left unanswered, and sees no payload.
create policy lookout on skald.signals for select to skald_relay
    using (answered_at is null and payload is not null and task_token is not null);
grant select (tenant_id, saga_id, name, received_at) on skald.signals to skald_relay;
