-- Fan-outs: the tasks of a saga that are worked on side by side, and what became of each (V-05).
-- depends: 0001.tenancy

-- One row a fan-out, with its counts: no arrival has to count tasks. `token` is the task token of
-- the step that waits since `awaited_at`; it was answered at `opened_at`.
create table skald.fanouts (
    tenant_id   uuid not null,
    saga_id     text not null,
    name        text not null,
    total       integer not null default 0 check (total >= 0),
    finished    integer not null default 0 check (finished between 0 and total),
    failed      integer not null default 0 check (failed between 0 and finished),
    token       text,
    created_at  timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    awaited_at  timestamptz,
    opened_at   timestamptz,
    primary key (tenant_id, saga_id, name),
    check (finished_at is null or finished = total),
    check ((awaited_at is null) = (token is null))
) with (fillfactor = 50);
-- The sweep looks across tenants for gates that a crash left closed. No index has a count.
create index fanouts_closed on skald.fanouts (finished_at)
    where finished_at is not null and awaited_at is not null and opened_at is null;
call skald.isolate_tenants('skald.fanouts');
grant select, insert, update on skald.fanouts to skald_app;
create policy lookout on skald.fanouts for select to skald_relay using (true);
grant select (tenant_id, saga_id, name, total, finished, failed, created_at, finished_at,
              awaited_at, opened_at)
    on skald.fanouts to skald_relay;

-- The source of truth of every barrier.
create table skald.task_executions (
    tenant_id   uuid not null,
    saga_id     text not null,
    name        text not null,
    task_id     text not null,
    status      text not null default 'pending'
                    check (status in ('pending', 'processing', 'completed', 'failed')),
    attempts    integer not null default 0 check (attempts >= 0),
    worker      uuid,
    reason      text,
    result      jsonb,
    created_at  timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    primary key (tenant_id, saga_id, name, task_id),
    foreign key (tenant_id, saga_id, name) references skald.fanouts,
    check ((status = 'failed') = (reason is not null)),
    check ((status = 'completed') = (result is not null)),
    check ((status in ('completed', 'failed')) = (finished_at is not null))
) with (fillfactor = 70);
call skald.isolate_tenants('skald.task_executions');
grant select, insert, update on skald.task_executions to skald_app;
