-- Idempotency records: what a request with a key was answered (W-02).
-- depends: 0001.tenancy

-- A row without a result is a claim. One that another transaction can see was left by an owner who
-- works outside the database; it is the owner's until its lease is over.
create table skald.idempotency_cache (
    tenant_id    uuid not null,
    key          text not null,
    operation    text not null,
    payload_hash text not null,
    owner        uuid not null,
    leased_until timestamptz not null,
    -- json, not jsonb: an answer is given back as it was written.
    result       json,
    created_at   timestamptz not null default clock_timestamp(),
    expires_at   timestamptz not null,
    primary key (tenant_id, key, operation)
);
create index idempotency_cache_expiry on skald.idempotency_cache (expires_at);
call skald.isolate_tenants('skald.idempotency_cache');
grant select, insert, update, delete on skald.idempotency_cache to skald_app;

-- Retention works across tenants and sees nothing but the keys of what is over.
create policy retention on skald.idempotency_cache to skald_relay using (expires_at <= now());
grant select (tenant_id, key, operation, expires_at), delete on skald.idempotency_cache
    to skald_relay;
-- PostgreSQL asks for this to lock a row; the policy leaves nothing of use to be done with it.
grant update (expires_at) on skald.idempotency_cache to skald_relay;

-- A claim may travel in one message with the statements that depend on it. This keeps the rest of
-- the message from running where the claim has found the key taken.
create function skald.refuse_taken_key() returns boolean
    language plpgsql
as $$
begin
    raise exception sqlstate 'SK001' using message = 'this idempotency key is taken';
end
$$;
