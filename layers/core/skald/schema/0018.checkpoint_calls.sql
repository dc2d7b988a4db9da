-- Checkpoints in one call: a save or a restore is one statement and a transaction of its own (G-02).
-- depends: 0006.checkpoints

-- A value may be made of another channel's: the first one of a channel is part of the run's input.
-- What a task wrote may be made of a value of the checkpoint it was written after.
alter table skald.checkpoint_values add column base_channel text collate "C";
alter table skald.checkpoint_writes add column base_channel text collate "C";
-- What the last task of a step wrote lies in the checkpoint that took it along: no rows of its own.
alter table skald.checkpoints add column taken_writes bytea;
alter table skald.checkpoints add column taken_checksum bigint;

-- Such a call brings its tenant, for whom row-level security then holds until its transaction ends.
-- Inside a tenant's transaction it can be for no other.
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

-- Stores what tasks wrote. Returns false without the thread's token; whoever takes the thread over
-- waits for the end of the transaction.
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
-- Returns false without the thread's token; whoever takes the thread over waits for the end of the
-- transaction.
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
-- the next checkpoint has `taken` along. Values are looked up one by one, whatever the statistics
-- were when this was planned: a chain is short.
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
