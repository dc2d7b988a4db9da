-- A search finds by one index what its filters and words leave, and compares that exactly, by plans
-- made once; HNSW adds what is near without a word in common, where filters leave much (V-09).
-- depends: 0011.search

-- Every combination of a code, a tenant, a kind and a platform, as a number: an entry has its own,
-- a search looks for those that suit it. What two of them have in common by chance is sorted out by
-- the conditions themselves.
create function skald.search_keys(codes text[], tenants uuid[], kinds text[], platforms text[])
    returns bigint[]
    language plpgsql immutable parallel safe cost 1000
    set search_path = pg_catalog
as $$
declare
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
                place := hashtextextended(tenant::text || kind || ' ' || platform, 0);
                foreach code in array codes loop
                    keys := keys || hashtextextended(code, place);
                end loop;
            end loop;
        end loop;
    end loop;
    return keys;
end
$$;

-- '*' is any code, kind or platform, '-' the platform of what holds for all. The index takes the
-- place of those on codes alone and on words alone, which lead to the entries of all tenants.
create index knowledge_entries_search on skald.knowledge_entries using gin (
    skald.search_keys(array_append(error_codes, '*'), array[tenant_id], array[kind, '*'],
                      array[coalesce(platform, '-'), '*']),
    words) where valid_until is null;
-- Its plans are made once, whatever is sought: counting the keys would only cost each analyze.
alter index skald.knowledge_entries_search alter column 1 set statistics 0;
drop index skald.knowledge_entries_codes, skald.knowledge_entries_words,
    skald.knowledge_embeddings_codes;

-- Written so that no other index can serve it: one that led through all of a tenant's entries would
-- make the keys of each.
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

-- Entries near the question in each active space, by its HNSW index; it misses some.
create function skald.entries_near(
    readable uuid[], vectors jsonb, wanted_codes text[], wanted_kinds text[], wanted_platform text,
    wanted_firmware text, most integer
)
    returns table (tenant_id uuid, entry_id uuid)
    language plpgsql
    set search_path = pg_catalog
as $$
declare
    filters text := '';
    space record;
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
    for space in
        select s.embedder, s.dimensions, array_agg(s.tenant_id) as tenants,
               vectors ->> s.embedder as vector
        from skald.knowledge_spaces as s
        where s.tenant_id = any(readable) and s.is_active and vectors ->> s.embedder is not null
        group by s.embedder, s.dimensions
    loop
        return query execute format(
            'select tenant_id, entry_id from skald.knowledge_embeddings
             where tenant_id = any($1) and embedder = %L and dimensions = %2$s %3$s
             order by embedding::public.halfvec(%2$s) operator(public.<=>) %4$L::public.halfvec
             limit %5$s', space.embedder, space.dimensions, filters, space.vector, most)
        using space.tenants, wanted_codes, wanted_kinds, wanted_platform, wanted_firmware;
    end loop;
end
$$;
revoke all on function skald.entries_within, skald.entries_near from public;

create type skald.candidate as (tenant_id uuid, entry_id uuid, closeness real);

-- The one door to searching. Row-level security lets no index but those of leakproof operators be
-- used, which neither distance nor text search has; so the tenant is checked in here instead, by
-- the owner's rights. It ranks by meaning in each active space and by words, and fuses the ranks:
-- spaces are ranked apart, their distances cannot be compared.
create or replace function skald.search_knowledge(
    vectors jsonb, question text, wanted_codes text[], wanted_platform text,
    wanted_firmware text, wanted_kinds text[], depth integer, meaning float8, wording float8
)
    returns table (tenant_id uuid, entry_id uuid, score float8, by_meaning bigint, by_words bigint)
    language plpgsql security definer rows 20
    set search_path = pg_catalog
    set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    few constant integer := 2000;
    readable constant uuid[] := array[skald.current_tenant(), skald.shared_tenant()];
    keys constant bigint[] := skald.search_keys(
        case wanted_codes when '{}' then '{*}' else wanted_codes end, readable,
        case wanted_kinds when '{}' then '{*}' else wanted_kinds end,
        case when wanted_platform is null then '{*}' else array[wanted_platform, '-'] end);
    asked tsquery := replace(plainto_tsquery('english', question)::text, '&', '|')::tsquery;
    candidates skald.candidate[];
begin
    if wanted_codes <> '{}' or few >= skald.expected_rows(
        'skald.knowledge_entries where valid_until is null and tenant_id = any($1)
             and ($3 = ''{}'' or kind = any($3))
             and ($4 is null or platform is null or platform = $4)',
        readable, wanted_codes, wanted_kinds, wanted_platform)
    then
        candidates := array(
            select row(tenant_id, entry_id,
                       case when words @@ asked then ts_rank(words, asked, 1) end)::skald.candidate
            from skald.entries_within(readable, wanted_codes, wanted_kinds, wanted_platform,
                                      wanted_firmware, keys)
            limit few + 1);
    end if;
    if candidates is null or cardinality(candidates) > few then
        candidates := array(
            select row(tenant_id, entry_id, ts_rank(words, asked, 1))::skald.candidate
            from skald.entries_within(readable, wanted_codes, wanted_kinds, wanted_platform,
                                      wanted_firmware, keys)
            where words @@ asked
            limit few + 1);
        if cardinality(candidates) > few then
            asked := skald.telling_words(question, few);
            candidates := array(
                select row(tenant_id, entry_id, ts_rank(words, asked, 1))::skald.candidate
                from skald.entries_within(readable, wanted_codes, wanted_kinds, wanted_platform,
                                          wanted_firmware, keys)
                where words @@ asked
                order by ts_rank(words, asked, 1) desc
                limit few);
        end if;
        candidates := array(
            select row(tenant_id, entry_id, max(closeness))::skald.candidate
            from (select tenant_id, entry_id, closeness from unnest(candidates)
                  union all
                  select tenant_id, entry_id, null
                  from skald.entries_near(readable, vectors, wanted_codes, wanted_kinds,
                      wanted_platform, wanted_firmware, depth / 2)) as found
            group by tenant_id, entry_id);
    end if;
    return query
    with vector as materialized (
        select embedder, numbers::public.halfvec as vector
        from jsonb_each_text(vectors) as asked (embedder, numbers)
    ),
    space as materialized (
        select tenant_id, embedder, vector
        from skald.knowledge_spaces join vector using (embedder)
        where tenant_id = any(readable) and is_active
    ),
    compared as materialized (
        select tenant_id, entry_id, closeness, embedder,
               embedding operator(public.<=>) vector as distance
        from unnest(candidates)
        left join space using (tenant_id)
        left join skald.knowledge_embeddings using (tenant_id, embedder, entry_id)
    ),
    ranked as (
        select tenant_id, entry_id,
               case when distance is not null then row_number() over (
                   partition by embedder order by distance, entry_id) end as near,
               case when closeness is not null then row_number() over (
                   order by closeness desc nulls last, entry_id) end as worded
        from compared
    ),
    placed as (
        select tenant_id, entry_id, case when near <= depth then near end as near,
               case when worded <= depth then worded end as worded
        from ranked
    )
    select tenant_id, entry_id,
           coalesce(meaning / (60 + near), 0) + coalesce(wording / (60 + worded), 0), near, worded
    from placed
    where near is not null or worded is not null
    order by 3 desc, 2
    limit depth;
end
$$;
