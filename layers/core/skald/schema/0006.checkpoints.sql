-- Checkpoints of agent graphs: threads and their one writer, states, what they hold (G-02 to G-04).
-- depends: 0001.kernel

-- A thread and who writes it. Tokens grow over all threads for ever, so a deleted row can go.
create table skald.checkpoint_threads (
    tenant_id     uuid not null,
    thread_id     text collate "C" not null,
    fencing_token bigint generated always as identity,
    leased_until  timestamptz not null,
    save_attempts integer not null default 0,
    last_error    text,
    -- Set when a save failed for the last time: nobody writes until a person has looked at it.
    parked_at     timestamptz,
    primary key (tenant_id, thread_id),
    -- Makes the token a key column: taking a thread over waits for writes under the old token, which
    -- hold the row `for key share`, while renewing the lease does not.
    unique (tenant_id, thread_id, fencing_token)
) with (fillfactor = 70);
create index checkpoint_threads_parked on skald.checkpoint_threads (tenant_id, parked_at)
    where parked_at is not null;
call skald.isolate_tenants('skald.checkpoint_threads');
grant select, insert, update, delete on skald.checkpoint_threads to skald_app;

-- `state` is the checkpoint with its small values; `value_sources` names, for each greater value,
-- the checkpoint that stored it. No foreign keys: each row would ask for its parent once more, and
-- all of them are written under the thread's row already.
create table skald.checkpoints (
    tenant_id            uuid not null,
    thread_id            text collate "C" not null,
    checkpoint_ns        text collate "C" not null,
    checkpoint_id        text collate "C" not null,
    parent_checkpoint_id text collate "C",
    state                bytea not null,
    checksum             bigint not null,
    value_sources        jsonb not null,
    metadata             jsonb not null,
    primary key (tenant_id, thread_id, checkpoint_ns, checkpoint_id)
);
create index checkpoints_of_runs on skald.checkpoints (tenant_id, (metadata ->> 'run_id'))
    where metadata ? 'run_id';
call skald.isolate_tenants('skald.checkpoints');
grant select, insert, update, delete on skald.checkpoints to skald_app;

-- A value of a channel, stored by the checkpoint that brought it: whole, or as what it takes to
-- make it of the value in `base_checkpoint_id`. The checksum is of the whole value either way.
create table skald.checkpoint_values (
    tenant_id          uuid not null,
    thread_id          text collate "C" not null,
    checkpoint_ns      text collate "C" not null,
    channel            text collate "C" not null,
    checkpoint_id      text collate "C" not null,
    base_checkpoint_id text collate "C",
    is_delta           boolean generated always as (base_checkpoint_id is not null) stored,
    is_compressed      boolean not null,
    data_size_bytes    integer not null,
    checksum           bigint not null,
    data               bytea not null,
    primary key (tenant_id, thread_id, checkpoint_ns, channel, checkpoint_id)
);
call skald.isolate_tenants('skald.checkpoint_values');
grant select, insert, update, delete on skald.checkpoint_values to skald_app;

-- What the nodes of the next step have written already, so that none of them runs again.
create table skald.checkpoint_writes (
    tenant_id       uuid not null,
    thread_id       text collate "C" not null,
    checkpoint_ns   text collate "C" not null,
    checkpoint_id   text collate "C" not null,
    task_id         text collate "C" not null,
    idx             integer not null,
    task_path       text collate "C" not null,
    channel         text collate "C" not null,
    is_compressed   boolean not null,
    data_size_bytes integer not null,
    checksum        bigint not null,
    data            bytea not null,
    primary key (tenant_id, thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
);
call skald.isolate_tenants('skald.checkpoint_writes');
grant select, insert, update, delete on skald.checkpoint_writes to skald_app;
