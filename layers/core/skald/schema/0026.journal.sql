-- The outbox is the journal of events too: one row says what was published and what caused it (W-08).
-- depends: 0025.retention

-- The journal repeated what the outbox says, by a trigger that took half as long again as the event
-- itself. The outbox keeps its rows as long as the journal did, so that nothing is lost but the copy.
drop trigger note_event on skald.outbox;
drop function skald.note_event;
drop table skald.event_journal;

create index outbox_correlated on skald.outbox
    (tenant_id, (coalesce(envelope ->> 'correlation_id', event_id::text)));
