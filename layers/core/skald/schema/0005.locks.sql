-- Distributed locks: who holds what until when, and the fencing token that guards its writes.
-- depends: 0001.tenancy

-- A row is a held lock; tokens grow over all locks for ever, so a released row can go.
create table skald.locks (
    tenant_id    uuid not null,
    resource     text not null,
    token        bigint generated always as identity,
    leased_until timestamptz not null,
    primary key (tenant_id, resource),
    -- Makes the token a key column: taking a lock over waits for writes under the old token, which
    -- hold the row `for key share`, while renewing it does not.
    unique (tenant_id, resource, token)
);
call skald.isolate_tenants('skald.locks');
grant select, insert, update, delete on skald.locks to skald_app;
