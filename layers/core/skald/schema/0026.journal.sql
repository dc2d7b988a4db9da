-- The outbox is the journal of events too: one row says what was published and what caused it (W-08).
-- depends: 0025.retention

-- The journal repeated what the outbox says, by a trigger that took half as long again as the event
-- itself. From now on the outbox keeps its rows as long as the journal did, which makes it a copy;
-- what the outbox has forgotten before goes with it.
drop trigger note_event on skald.outbox;
drop function skald.note_event;
drop table skald.event_journal;

create index outbox_correlated on skald.outbox
    (tenant_id, (coalesce(envelope ->> 'correlation_id', event_id::text)));
