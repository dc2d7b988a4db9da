-- Messages that their consumers gave back too often, among them such that are no event (Q-05, V-12).
-- depends: 0020.identities

-- `message` is what could not be read as an event; `message_id` is the queue's own.
alter table skald.dead_letters
    alter column event_id drop not null,
    alter column envelope drop not null,
    add column message_id text,
    add column message text,
    add column receive_count integer,
    add check ((envelope is null) = (event_id is null)),
    add check ((envelope is null) = (message is not null));
create unique index dead_letters_once on skald.dead_letters (tenant_id, source, message_id)
    where message_id is not null;
grant insert (message_id, message, receive_count) on skald.dead_letters to skald_app;

-- Sends the event of a letter once more by way of the outbox, which may have forgotten it meanwhile.
create or replace function skald.replay(letter bigint, actor text) returns uuid
    language sql security definer
    set search_path = pg_catalog
begin atomic
    with replayed as (
        update skald.dead_letters set replayed_at = now(), replayed_by = actor
        where tenant_id = (select skald.current_tenant())
          and dead_letter_id = letter and replayed_at is null and envelope is not null
        returning tenant_id, event_id, envelope
    )
    insert into skald.outbox as event (tenant_id, event_id, event_type, aggregate, envelope)
    select tenant_id, event_id, envelope ->> 'event_type',
           concat(envelope ->> 'target_type', ':', envelope ->> 'target_id'), envelope
    from replayed
    on conflict (tenant_id, event_id) do update
    set status = 'pending', attempts = 0, available_at = now()
    returning event_id;
end;
