-- Checkpoints of agent graphs: threads and their one writer, states, what they hold (G-02 to G-04).
-- A save or a restore is one statement and a transaction of its own.
-- depends: 0001.tenancy

-- A thread and who writes it. Tokens grow over all threads for ever, so a deleted row can go.
create table skald.checkpoint_threads (
    tenant_id     uuid not null,
    thread_id     text collate "C" not null,
    fencing_token bigint generated always as identity,
    leased_until  timestamptz not null,
    save_attempts integer not null default 0,
    last_error    text,
    -- Set when a save failed for the last time: no process writes until a person has looked at it.
    parked_at     timestamptz,
    last_written  date not null
                      generated always as ((leased_until at time zone 'UTC')::date) stored,
    primary key (tenant_id, thread_id),
    -- Makes the token a key column: taking a thread over waits for writes under the old token, which
    -- hold the row `for key share`, while renewing the lease does not.
    unique (tenant_id, thread_id, fencing_token)
) with (fillfactor = 70);
create index checkpoint_threads_parked on skald.checkpoint_threads (tenant_id, parked_at)
    where parked_at is not null;
-- Age by the day: the lease itself is in no index, it is renewed many times a run, in place as long
-- as none has it.
create index checkpoint_threads_last_written on skald.checkpoint_threads (last_written);
call skald.isolate_tenants('skald.checkpoint_threads');
grant select, insert, update, delete on skald.checkpoint_threads to skald_app;

-- `state` is the checkpoint with its small values; `value_sources` names, for each greater value,
-- the checkpoint that stored it. No foreign keys: each row would ask for its parent once more, and
-- all of them are written under the thread's row already. `taken_writes` are what the last task of a
-- step wrote: they have no rows of their own.
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
    taken_writes         bytea,
    taken_checksum       bigint,
    primary key (tenant_id, thread_id, checkpoint_ns, checkpoint_id)
);
create index checkpoints_of_runs on skald.checkpoints (tenant_id, (metadata ->> 'run_id'))
    where metadata ? 'run_id';
call skald.isolate_tenants('skald.checkpoints');
grant select, insert, update, delete on skald.checkpoints to skald_app;

-- A value of a channel, stored by the checkpoint that brought it: whole, or as what it takes to
-- make it of the value in `base_checkpoint_id`. That may be of another channel, `base_channel`: the
-- first value of a channel is part of the run's input. The checksum is always of the whole value.
create table skald.checkpoint_values (
    tenant_id          uuid not null,
    thread_id          text collate "C" not null,
    checkpoint_ns      text collate "C" not null,
    channel            text collate "C" not null,
    checkpoint_id      text collate "C" not null,
    base_channel       text collate "C",
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

-- What the nodes of the next step have written already, so that none of them runs again. A write may
-- be made of the value of `base_channel` in the checkpoint before it.
create table skald.checkpoint_writes (
    tenant_id       uuid not null,
    thread_id       text collate "C" not null,
    checkpoint_ns   text collate "C" not null,
    checkpoint_id   text collate "C" not null,
    task_id         text collate "C" not null,
    idx             integer not null,
    task_path       text collate "C" not null,
    channel         text collate "C" not null,
    base_channel    text collate "C",
    is_compressed   boolean not null,
    data_size_bytes integer not null,
    checksum        bigint not null,
    data            bytea not null,
    primary key (tenant_id, thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
);
call skald.isolate_tenants('skald.checkpoint_writes');
grant select, insert, update, delete on skald.checkpoint_writes to skald_app;


-- Retention deletes threads that were not written for long, with all that is theirs, except those
-- that wait for a person. -------------------------------------------------------------------------

create policy retention on skald.checkpoint_threads to skald_relay
    using (leased_until < now() and parked_at is null);
create policy retention on skald.checkpoints to skald_relay using (true);
create policy retention on skald.checkpoint_values to skald_relay using (true);
create policy retention on skald.checkpoint_writes to skald_relay using (true);
grant select (ctid, tenant_id, thread_id, leased_until, last_written), delete
    on skald.checkpoint_threads to skald_relay;
grant select (tenant_id, thread_id), delete
    on skald.checkpoints, skald.checkpoint_values, skald.checkpoint_writes to skald_relay;


-- Calls. ------------------------------------------------------------------------------------------

-- Makes a writer the thread's only one until its lease ends: returns the token; or nothing while
-- another's lease lasts; or what a parked thread waits for a person with. Of a new thread nothing
-- is stored: all that is a thread's was written under its row, and is deleted with it.
create function skald.take_checkpoint_thread(tenant uuid, thread text, lease interval)
    returns table (token bigint, is_new boolean, error text)
    language plpgsql
as $$
begin
    perform skald.act_for(tenant);
    return query
    insert into skald.checkpoint_threads (tenant_id, thread_id, leased_until)
    values (tenant, thread, clock_timestamp() + lease)
    on conflict (tenant_id, thread_id) do nothing
    returning fencing_token, true, null::text;
    if found then
        return;
    end if;
    return query
    update skald.checkpoint_threads
    set fencing_token = default, leased_until = clock_timestamp() + lease
    where tenant_id = tenant and thread_id = thread
      and leased_until < clock_timestamp() and parked_at is null
    returning fencing_token, false, null::text;
    if found then
        return;
    end if;
    return query
    select null::bigint, false, last_error from skald.checkpoint_threads
    where tenant_id = tenant and thread_id = thread and parked_at is not null;
end
$$;

-- Lets others write the thread, if it is still the writer's.
create function skald.leave_checkpoint_thread(tenant uuid, thread text, token bigint) returns void
    language plpgsql
as $$
begin
    perform skald.act_for(tenant);
    update skald.checkpoint_threads set leased_until = clock_timestamp()
    where tenant_id = tenant and thread_id = thread and fencing_token = token;
end
$$;

-- Rows come as documents of what they are and, in the same order, as bytes of what they hold.

-- Stores what tasks wrote. Returns false without the thread's token; a writer that takes the thread
-- over waits for the end of the transaction.
create function skald.save_checkpoint_writes(
    tenant uuid, thread text, token bigint, ns text, id text, heads jsonb, contents bytea[],
    is_replacing boolean
)
    returns boolean
    language plpgsql
as $$
begin
    perform skald.act_for(tenant);
    perform from skald.checkpoint_threads
    where tenant_id = tenant and thread_id = thread and fencing_token = token
    for key share;
    if not found then
        return false;
    end if;
    if is_replacing then
        delete from skald.checkpoint_writes as old
        using jsonb_to_recordset(heads) as new (task text, idx integer)
        where old.tenant_id = tenant and old.thread_id = thread and old.checkpoint_ns = ns
          and old.checkpoint_id = id and old.task_id = new.task and old.idx = new.idx;
    end if;
    insert into skald.checkpoint_writes
        (tenant_id, thread_id, checkpoint_ns, checkpoint_id, task_id, idx, task_path, channel,
         base_channel, is_compressed, data_size_bytes, checksum, data)
    select tenant, thread, ns, id, written.*
    from rows from (
        jsonb_to_recordset(heads) as (task text, idx integer, path text, channel text, base text,
            is_compressed boolean, size integer, checksum bigint),
        unnest(contents)) as written
    on conflict do nothing;
    return true;
end
$$;

-- Stores a checkpoint with the values it brings and what it takes along of the step before it.
-- Returns false without the thread's token; a writer that takes the thread over waits for the end of
-- the transaction.
create function skald.save_checkpoint(
    tenant uuid, thread text, token bigint, ns text, id text, parent text, content bytea,
    content_checksum bigint, sources jsonb, notes jsonb, heads_of_values jsonb,
    data_of_values bytea[], taken bytea, checksum_of_taken bigint
)
    returns boolean
    language plpgsql
as $$
begin
    perform skald.act_for(tenant);
    insert into skald.checkpoints as kept
        (tenant_id, thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, state, checksum,
         value_sources, metadata, taken_writes, taken_checksum)
    select tenant, thread, ns, id, parent, content, content_checksum, sources, notes,
           taken, checksum_of_taken
    from skald.checkpoint_threads
    where tenant_id = tenant and thread_id = thread and fencing_token = token
    for key share
    on conflict (tenant_id, thread_id, checkpoint_ns, checkpoint_id) do update
        set metadata = excluded.metadata,
            taken_writes = coalesce(kept.taken_writes, excluded.taken_writes),
            taken_checksum = coalesce(kept.taken_checksum, excluded.taken_checksum);
    if not found then
        return false;
    end if;
    if data_of_values is not null then
        insert into skald.checkpoint_values
            (tenant_id, thread_id, checkpoint_ns, checkpoint_id, channel, base_channel,
             base_checkpoint_id, is_compressed, data_size_bytes, checksum, data)
        select tenant, thread, ns, id, brought.*
        from rows from (
            jsonb_to_recordset(heads_of_values) as (channel text, base_channel text, base text,
                is_compressed boolean, size integer, checksum bigint),
            unnest(data_of_values)) as brought
        on conflict do nothing;
    end if;
    return true;
end
$$;

-- Returns a checkpoint, or where `id` is null the newest before another, with all it takes to read
-- it, each content with its checksum and what it is made of: the `checkpoint` itself, made after
-- another; every `value` and those it is made of; each `write` of a task after it; and those that
-- the next checkpoint has `taken` along. Values are looked up one by one, with any statistics at the
-- time of planning: a chain is short.
create function skald.restore_checkpoint(
    tenant uuid, thread text, ns text, id text, before text
)
    returns table (
        part text, name text, made_by text, base_name text, base_made_by text, notes jsonb,
        is_compressed boolean, checksum bigint, data bytea
    )
    language plpgsql
as $$
#variable_conflict use_column
declare
    kept skald.checkpoints;
begin
    perform skald.act_for(tenant);
    if id is null then
        select * into kept from skald.checkpoints
        where tenant_id = tenant and thread_id = thread and checkpoint_ns = ns
          and (before is null or checkpoint_id < before)
        order by checkpoint_id desc limit 1;
    else
        select * into kept from skald.checkpoints
        where tenant_id = tenant and thread_id = thread and checkpoint_ns = ns
          and checkpoint_id = id;
    end if;
    if not found then
        return;
    end if;
    return query
    with recursive chain as (
        select stored.* from jsonb_each_text(kept.value_sources) as source
        cross join lateral (
            select * from skald.checkpoint_values
            where tenant_id = tenant and thread_id = thread and checkpoint_ns = ns
              and channel = source.key and checkpoint_id = source.value
            limit 1) as stored
        union all
        select base.* from chain
        cross join lateral (
            select * from skald.checkpoint_values
            where tenant_id = tenant and thread_id = thread and checkpoint_ns = ns
              and channel = coalesce(chain.base_channel, chain.channel)
              and checkpoint_id = chain.base_checkpoint_id
            limit 1) as base
    )
    select 'checkpoint', null, kept.checkpoint_id, null, kept.parent_checkpoint_id,
           jsonb_build_array(kept.value_sources, kept.metadata), false, kept.checksum, kept.state
    union all
    select 'value', channel, checkpoint_id, base_channel, base_checkpoint_id, null,
           is_compressed, checksum, data
    from chain
    union all
    select 'write', channel, task_id, base_channel, null, jsonb_build_array(idx, task_path),
           is_compressed, checksum, data
    from skald.checkpoint_writes
    where tenant_id = tenant and thread_id = thread and checkpoint_ns = ns
      and checkpoint_id = kept.checkpoint_id
    union all
    (select 'taken', null, checkpoint_id, null, null, null, false, taken_checksum, taken_writes
     from skald.checkpoints
     where tenant_id = tenant and thread_id = thread and checkpoint_ns = ns
       and checkpoint_id > kept.checkpoint_id and parent_checkpoint_id = kept.checkpoint_id
     order by checkpoint_id limit 1);
end
$$;
