-- Tickets: what a browser's EventSource shows in place of an API key, for a short while (V-11).
-- depends: 0001.kernel

create table skald.tickets (
    tenant_id   uuid not null,
    ticket_hash bytea not null check (octet_length(ticket_hash) = 32),
    path        text not null,
    actor_id    text not null,
    expires_at  timestamptz not null,
    primary key (tenant_id, ticket_hash)
);
create index tickets_age on skald.tickets using brin (expires_at);
call skald.isolate_tenants('skald.tickets');
grant select, insert on skald.tickets to skald_app;
create policy retention on skald.tickets to skald_relay using (expires_at <= now());
grant select (ctid, expires_at), delete on skald.tickets to skald_relay;
