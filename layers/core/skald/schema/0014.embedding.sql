-- What a remote embedder has to do is written down, for a schedule that does it between
-- transactions; entries are committed at once and found by words meanwhile (V-09).
-- depends: 0008.knowledge

create table skald.knowledge_waiting (
    tenant_id uuid not null primary key,
    since     timestamptz not null default clock_timestamp()
);
call skald.isolate_tenants('skald.knowledge_waiting');
grant select, insert, delete on skald.knowledge_waiting to skald_app;
create policy lookout on skald.knowledge_waiting for select to skald_relay using (true);
grant select (tenant_id, since) on skald.knowledge_waiting to skald_relay;
