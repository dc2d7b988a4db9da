-- Threads nobody has written for long are deleted, by the relay's role, with all that is theirs.
-- depends: 0018.checkpoint_calls

create index checkpoint_threads_age on skald.checkpoint_threads using brin (leased_until);
create policy retention on skald.checkpoint_threads to skald_relay
    using (leased_until < now() and parked_at is null);
create policy retention on skald.checkpoints to skald_relay using (true);
create policy retention on skald.checkpoint_values to skald_relay using (true);
create policy retention on skald.checkpoint_writes to skald_relay using (true);
grant select (ctid, tenant_id, thread_id, leased_until), delete
    on skald.checkpoint_threads to skald_relay;
grant select (tenant_id, thread_id), delete
    on skald.checkpoints, skald.checkpoint_values, skald.checkpoint_writes to skald_relay;
