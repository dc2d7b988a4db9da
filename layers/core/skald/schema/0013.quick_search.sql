-- A search finds by an index what its filters leave, and compares that exactly, by plans made once;
-- HNSW adds what is near without a word in common, where filters leave much (V-09).
-- depends: 0011.search 0018.checkpoint_calls

-- Every combination of a code, a tenant, a kind and a platform, as a number: an entry has its own,
-- a search looks for those that suit it. What two of them have in common by chance is sorted out by
-- the conditions themselves. A number begins with its code, so that all a search looks for of one
-- lies on a page or two of the index.
create function skald.search_keys(codes text[], tenants uuid[], kinds text[], platforms text[])
    returns bigint[]
    language plpgsql immutable parallel safe cost 1000
    set search_path = pg_catalog
as $$
declare
    low_half constant bigint := 4294967295;
    keys bigint[];
    tenant uuid;
    kind text;
    platform text;
    code text;
    place bigint;
begin
    foreach tenant in array tenants loop
        foreach kind in array kinds loop
            foreach platform in array platforms loop
                place := hashtextextended(tenant::text || kind || ' ' || platform, 0) & low_half;
                foreach code in array codes loop
                    keys := keys || (hashtextextended(code, 0) & ~low_half | place);
                end loop;
            end loop;
        end loop;
    end loop;
    return keys;
end
$$;

-- '*' is any code, kind or platform, '-' the platform of what holds for all. These indexes take the
-- place of those on codes alone and on words alone, which lead to the entries of all tenants.
create index knowledge_entries_search on skald.knowledge_entries using gin (
    skald.search_keys(array_append(error_codes, '*'), array[tenant_id], array[kind, '*'],
                      array[coalesce(platform, '-'), '*']),
    words) where valid_until is null;
create index knowledge_embeddings_search on skald.knowledge_embeddings using gin (
    skald.search_keys(array_append(error_codes, '*'), array[tenant_id], array[kind, '*'],
                      array[coalesce(platform, '-'), '*']));
-- Its plans are made once, whatever is sought: counting the keys would only cost each analyze.
alter index skald.knowledge_entries_search alter column 1 set statistics 0;
alter index skald.knowledge_embeddings_search alter column 1 set statistics 0;
drop index skald.knowledge_entries_codes, skald.knowledge_entries_words,
    skald.knowledge_embeddings_codes;

-- Written so that no other index can serve them: one that led through all of a tenant's entries
-- would make the keys of each.
create function skald.entries_within(
    readable uuid[], wanted_codes text[], wanted_kinds text[], wanted_platform text,
    wanted_firmware text, keys bigint[]
)
    returns setof skald.knowledge_entries
    language sql stable
begin atomic
    select * from skald.knowledge_entries
    where skald.search_keys(array_append(error_codes, '*'), array[tenant_id], array[kind, '*'],
                            array[coalesce(platform, '-'), '*']) && keys
      and valid_until is null and array[tenant_id] <@ readable
      and (wanted_codes = '{}' or error_codes && wanted_codes)
      and (wanted_kinds = '{}' or kind = any(wanted_kinds))
      and (wanted_platform is null or platform is null or platform = wanted_platform)
      and (wanted_firmware is null or firmware is null or wanted_firmware like firmware);
end;
create function skald.embeddings_within(
    readable uuid[], wanted_codes text[], wanted_kinds text[], wanted_platform text,
    wanted_firmware text, keys bigint[]
)
    returns setof skald.knowledge_embeddings
    language sql stable
begin atomic
    select * from skald.knowledge_embeddings
    where skald.search_keys(array_append(error_codes, '*'), array[tenant_id], array[kind, '*'],
                            array[coalesce(platform, '-'), '*']) && keys
      and array[tenant_id] <@ readable
      and (wanted_codes = '{}' or error_codes && wanted_codes)
      and (wanted_kinds = '{}' or kind = any(wanted_kinds))
      and (wanted_platform is null or platform is null or platform = wanted_platform)
      and (wanted_firmware is null or firmware is null or wanted_firmware like firmware);
end;

-- Entries near the question in a space of some tenants, by its HNSW index; it misses some.
create function skald.entries_near(
    tenants uuid[], space text, vector public.halfvec, wanted_codes text[], wanted_kinds text[],
    wanted_platform text, wanted_firmware text, most integer
)
    returns table (tenant_id uuid, entry_id uuid)
    language plpgsql
    set search_path = pg_catalog
as $$
declare
    filters text := '';
begin
    if wanted_codes <> '{}' then filters := filters || ' and error_codes && $2'; end if;
    if wanted_kinds <> '{}' then filters := filters || ' and kind = any($3)'; end if;
    if wanted_platform is not null then
        filters := filters || ' and (platform is null or platform = $4)';
    end if;
    if wanted_firmware is not null then
        filters := filters || ' and (firmware is null or $5 like firmware)';
    end if;
    -- The index goes on until the filters have let enough through.
    perform set_config('hnsw.iterative_scan', 'relaxed_order', true);
    perform set_config('hnsw.ef_search', greatest(100, most)::text, true);
    return query execute format(
        'select tenant_id, entry_id from skald.knowledge_embeddings
         where tenant_id = any($1) and embedder = %L and dimensions = %2$s %3$s
         order by embedding::public.halfvec(%2$s) operator(public.<=>) $6
         limit %4$s', space, public.vector_dims(vector), filters, most)
    using tenants, wanted_codes, wanted_kinds, wanted_platform, wanted_firmware, vector;
end
$$;
revoke all on function skald.entries_within, skald.embeddings_within, skald.entries_near
    from public;

-- `measure` is a distance, or how well words fit.
create type skald.candidate as (tenant_id uuid, entry_id uuid, measure float8);

-- The one door to searching. Row-level security lets no index but those of leakproof operators be
-- used, which neither distance nor text search has; so the tenant is checked in here instead, by
-- the owner's rights. It ranks by meaning in the active spaces and by words, and fuses the ranks:
-- two spaces are ranked apart, their distances cannot be compared.
--
-- A question reads some hundred pages, which PostgreSQL or the kernel mostly has: handing each to an
-- I/O worker, as PostgreSQL 18 does, takes longer than to read it.
--
-- There is a vector of each embedder that is named, null where it gave none. As long as an active
-- space's embedder is not named, it is returned as missing and nothing is searched.
drop function skald.search_knowledge;
create function skald.search_knowledge(
    tenant uuid, embedders text[], vector public.halfvec, other_vector public.halfvec,
    question text, wanted_codes text[], wanted_platform text, wanted_firmware text,
    wanted_kinds text[], depth integer, most integer, meaning float8, wording float8
)
    returns table (missing text[], sources text)
    language plpgsql security definer rows 1
    set search_path = pg_catalog
    set plan_cache_mode = force_generic_plan
    set effective_io_concurrency = 0
as $$
#variable_conflict use_column
declare
    few constant integer := 2000;
    shared constant uuid := skald.shared_tenant();
    readable constant uuid[] := array[tenant, shared];
    own_space constant text := (
        select embedder from skald.knowledge_spaces where tenant_id = tenant and is_active);
    shared_space constant text := (
        select embedder from skald.knowledge_spaces where tenant_id = shared and is_active);
    own_vector constant public.halfvec :=
        case own_space when embedders[1] then vector when embedders[2] then other_vector end;
    shared_vector constant public.halfvec :=
        case shared_space when embedders[1] then vector when embedders[2] then other_vector end;
    keys constant bigint[] := skald.search_keys(
        case wanted_codes when '{}' then '{*}' else wanted_codes end, readable,
        case wanted_kinds when '{}' then '{*}' else wanted_kinds end,
        case when wanted_platform is null then '{*}' else array[wanted_platform, '-'] end);
    asked tsquery := replace(plainto_tsquery('english', question)::text, '&', '|')::tsquery;
    near skald.candidate[];
    worded skald.candidate[];
begin
    perform skald.act_for(tenant);
    if own_space <> all(embedders) or shared_space <> all(embedders) then
        missing := array(select distinct space from unnest(array[own_space, shared_space]) as space
                         where space <> all(embedders));
        sources := '[]';
        return next;
        return;
    end if;
    if wanted_codes <> '{}' or few >= skald.expected_rows(
        'skald.knowledge_entries where valid_until is null and tenant_id = any($1)
             and ($3 = ''{}'' or kind = any($3))
             and ($4 is null or platform is null or platform = $4)',
        readable, wanted_codes, wanted_kinds, wanted_platform)
    then
        near := array(
            select row(tenant_id, entry_id, embedding operator(public.<=>)
                case tenant_id when tenant then own_vector else shared_vector end)::skald.candidate
            from skald.embeddings_within(readable, wanted_codes, wanted_kinds, wanted_platform,
                                         wanted_firmware, keys)
            where embedder = case tenant_id when tenant then own_space else shared_space end
            limit few + 1);
    end if;
    worded := array(
        select row(tenant_id, entry_id, ts_rank(words, asked, 1))::skald.candidate
        from skald.entries_within(readable, wanted_codes, wanted_kinds, wanted_platform,
                                  wanted_firmware, keys)
        where words @@ asked
        limit few + 1);
    if cardinality(worded) > few then
        asked := skald.telling_words(question, few);
        worded := array(
            select row(tenant_id, entry_id, ts_rank(words, asked, 1))::skald.candidate
            from skald.entries_within(readable, wanted_codes, wanted_kinds, wanted_platform,
                                      wanted_firmware, keys)
            where words @@ asked
            order by ts_rank(words, asked, 1) desc
            limit few);
    end if;
    if near is null or cardinality(near) > few then
        near := array(
            select row(tenant_id, entry_id, embedding operator(public.<=>)
                case tenant_id when tenant then own_vector else shared_vector end)::skald.candidate
            from (
                select found.tenant_id, found.entry_id
                from (values (readable[:case own_space when shared_space then 2 else 1 end],
                              own_space, own_vector),
                             (array[shared], nullif(shared_space, own_space), shared_vector))
                         as space (tenants, name, vector),
                     skald.entries_near(space.tenants, space.name, space.vector, wanted_codes,
                         wanted_kinds, wanted_platform, wanted_firmware, depth / 2) as found
                where space.name is not null and space.vector is not null
                union
                select tenant_id, entry_id from unnest(worded)) as found
            join skald.knowledge_embeddings using (tenant_id, entry_id)
            where embedder = case tenant_id when tenant then own_space else shared_space end);
    end if;
    return query
    with ranked as (
        select tenant_id, entry_id, 'meaning' as way, meaning as weight, row_number() over (
                   partition by tenant_id = tenant and own_space <> shared_space
                   order by measure, entry_id) as place
        from unnest(near) where measure is not null
        union all
        select tenant_id, entry_id, 'words', wording,
               row_number() over (order by measure desc, entry_id)
        from unnest(worded)
    ),
    found as materialized (
        select tenant_id, entry_id, sum(weight / (60 + place)) as score,
               array_agg(way order by way) as found_by
        from ranked
        where place <= depth
        group by tenant_id, entry_id
        order by score desc, entry_id
        limit most
    )
    select '{}'::text[], coalesce(json_agg(entry order by score desc, entry_id)::text, '[]')
    from (select entry_id, version, kind, key, title, text, error_codes, source, score, found_by,
                 tenant_id = shared as is_shared
          from found join skald.knowledge_entries using (tenant_id, entry_id)
          where valid_until is null) as entry;
end
$$;
revoke all on function skald.search_knowledge from public;
grant execute on function skald.search_knowledge to skald_app;
