-- What persons did about sagas that no process could end (G-07, G-16).
-- depends: 0001.kernel

-- One per saga, for what a person has resolved is over; nobody may change or delete it.
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

create index saga_transactions_newest on skald.saga_transactions (tenant_id, started_at desc);
