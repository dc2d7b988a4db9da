-- Who inserts an event or a dead letter does not choose its number: numbers are unique over all
-- tenants, so a refused one would tell that another tenant has it (Q-10).
-- depends: 0001.kernel

revoke insert on skald.outbox, skald.dead_letters from skald_app;
grant insert (tenant_id, event_id, event_type, aggregate, envelope) on skald.outbox to skald_app;
grant insert (tenant_id, event_id, source, envelope, error) on skald.dead_letters to skald_app;
