-- Tenants, their API keys and tickets, and how a transaction is bound to one tenant (C-03).
-- Run as skald_migrator, which owns everything. skald_app works for one tenant at a time and sees
-- no other; skald_relay moves events and looks for stuck work across tenants.

create schema skald;
grant usage on schema skald to skald_app, skald_relay;

create function skald.current_tenant() returns uuid
    language sql stable parallel safe
    return nullif(current_setting('app.current_tenant', true), '')::uuid;

-- Every table with a tenant_id goes through here: a row is visible and writable for the tenant of
-- the transaction only. A transaction without a tenant sees no row, and the owner is no exception.
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

-- For a function that is called outside a transaction of its tenant: it brings the tenant, and
-- row-level security holds for that tenant until the transaction ends. Inside a tenant's
-- transaction no other can be brought.
create function skald.act_for(tenant uuid) returns void
    language plpgsql
as $$
declare
    bound text; -- assigned, not performed: an expression alone is evaluated without a plan
begin
    if skald.current_tenant() is null then
        bound := set_config('app.current_tenant', tenant::text, true);
        bound := set_config('lock_timeout', '10s', true);
    elsif skald.current_tenant() <> tenant then
        raise insufficient_privilege using message = 'this transaction is of another tenant';
    end if;
end
$$;


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


-- Tickets: what a browser's EventSource shows in place of an API key, for a short while (V-11). ---

-- A ticket ends with the key that fetched it (P-07).
create table skald.tickets (
    tenant_id   uuid not null,
    ticket_hash bytea not null check (octet_length(ticket_hash) = 32),
    key_hash    bytea not null,
    path        text not null,
    actor_id    text not null,
    expires_at  timestamptz not null,
    primary key (tenant_id, ticket_hash)
);
-- Ages are B-trees here and in every table: new rows go to their end. A block range index keeps the
-- oldest time a page has ever held, so it matches every page once pages are used again.
create index tickets_age on skald.tickets (expires_at);
call skald.isolate_tenants('skald.tickets');
grant select, insert on skald.tickets to skald_app;
create policy retention on skald.tickets to skald_relay using (expires_at <= now());
grant select (ctid, expires_at), delete on skald.tickets to skald_relay;
