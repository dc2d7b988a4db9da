-- A search whose error codes leave few entries compares those few exactly, by a plan made once (V-09).
-- depends: 0011.search

-- What most searches of a diagnosis are: the codes leave some dozens of entries. The index on codes
-- finds them, everything else looks at them alone.
create function skald.search_few(
    readable uuid[], vectors jsonb, asked tsquery, wanted_codes text[], wanted_platform text,
    wanted_firmware text, wanted_kinds text[], depth integer, meaning float8, wording float8
)
    returns table (tenant_id uuid, entry_id uuid, score float8, by_meaning bigint, by_words bigint)
    language plpgsql
    set search_path = pg_catalog
    set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
    return query
    with space as materialized (
        select tenant_id, embedder, (vectors ->> embedder)::public.halfvec as vector
        from skald.knowledge_spaces
        where tenant_id = any(readable) and is_active and vectors ? embedder
    ),
    kept as materialized (
        select tenant_id, entry_id, words
        from skald.knowledge_entries
        where error_codes && wanted_codes and valid_until is null and tenant_id = any(readable)
          and (wanted_kinds = '{}' or kind = any(wanted_kinds))
          and (wanted_platform is null or platform is null or platform = wanted_platform)
          and (wanted_firmware is null or firmware is null or wanted_firmware like firmware)
    ),
    near as (
        select tenant_id, entry_id,
               row_number() over (partition by embedder
                   order by embedding operator(public.<=>) vector, entry_id) as place
        from kept
        join space using (tenant_id)
        join skald.knowledge_embeddings using (tenant_id, embedder, entry_id)
    ),
    worded as (
        select tenant_id, entry_id,
               row_number() over (order by ts_rank(words, asked, 1) desc, entry_id) as place
        from kept
        where words @@ asked
    )
    select tenant_id, entry_id,
           coalesce(meaning / (60 + near.place), 0) + coalesce(wording / (60 + worded.place), 0),
           near.place, worded.place
    from (select * from near where place <= depth) as near
    full join (select * from worded where place <= depth) as worded using (tenant_id, entry_id)
    order by 3 desc, 2
    limit depth;
end
$$;

-- Filters that leave many: each part takes the way the statistics promise to be short. HNSW misses
-- some of the nearest, so the entries that words find are given their place among them too.
create function skald.search_many(
    readable uuid[], vectors jsonb, question text, asked tsquery, wanted_codes text[],
    wanted_platform text, wanted_firmware text, wanted_kinds text[], depth integer,
    meaning float8, wording float8
)
    returns table (tenant_id uuid, entry_id uuid, score float8, by_meaning bigint, by_words bigint)
    language plpgsql
    set search_path = pg_catalog
as $$
#variable_conflict use_column
declare
    filters text := '';
    near text := '';
    sought text;
    matching text := 'skald.knowledge_entries where words @@ $7 and valid_until is null';
    most_compared constant integer := 3000;
    most_ranked constant integer := 2500;
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
    for space in
        select s.embedder, s.dimensions, array_agg(s.tenant_id) as tenants,
               vectors ->> s.embedder as vector
        from skald.knowledge_spaces as s
        where s.tenant_id = any(readable) and s.is_active and vectors ? s.embedder
        group by s.embedder, s.dimensions
    loop
        sought := format('skald.knowledge_embeddings
                   where tenant_id = any(%L) and embedder = %L and dimensions = %s %s',
            space.tenants, space.embedder, space.dimensions, filters);
        near := near || format(
            'union all
             select tenant_id, entry_id, row_number() over (order by distance, entry_id)
             from ((select tenant_id, entry_id, %1$s operator(public.<=>) %2$L as distance
                    from %3$s
                    order by distance limit $6)
                   union
                   select tenant_id, entry_id, embedding operator(public.<=>) %2$L
                   from worded join skald.knowledge_embeddings using (tenant_id, entry_id)
                   where embedder = %4$L) as nearest
             ',
            -- Few vectors are compared one by one, exactly; the index holds the other expression.
            case when skald.expected_rows(sought, readable, wanted_codes, wanted_kinds,
                                          wanted_platform, wanted_firmware) <= most_compared
                 then 'embedding' else format('embedding::public.halfvec(%s)', space.dimensions) end,
            space.vector::public.halfvec, sought, space.embedder);
    end loop;
    -- All that match are ranked, so where words and filters alike leave many only the telling words
    -- are sought. Those are rare in the whole table: their index needs no help from another one.
    if most_ranked < least(
        skald.expected_rows('skald.knowledge_entries where valid_until is null and words @@ $6',
                            words => asked),
        skald.expected_rows('skald.knowledge_entries where tenant_id = any($1)
                             and valid_until is null' || filters, readable, wanted_codes,
                            wanted_kinds, wanted_platform, wanted_firmware))
    then
        asked := skald.telling_words(question, most_ranked);
        matching := '(select * from skald.knowledge_entries
                      where words @@ $7 and valid_until is null offset 0) as telling where true';
    end if;
    -- The index goes on until the filters have let enough through.
    perform set_config('hnsw.iterative_scan', 'relaxed_order', true);
    perform set_config('hnsw.ef_search', greatest(100, depth)::text, true);
    return query execute format(
        'with worded as materialized (
             select tenant_id, entry_id,
                    row_number() over (order by closeness desc, entry_id) as place
             from (select tenant_id, entry_id, ts_rank(words, $7, 1) as closeness
                   from %2$s and tenant_id = any($1) %3$s
                   order by closeness desc, entry_id limit $6) as closest
         ),
         near (tenant_id, entry_id, place) as (
             select null::uuid, null::uuid, null::bigint where false %1$s
         )
         select tenant_id, entry_id,
                coalesce($8 / (60 + near.place), 0) + coalesce($9 / (60 + worded.place), 0),
                near.place, worded.place
         from (select * from near where place <= $6) as near
         full join worded using (tenant_id, entry_id)
         order by 3 desc, 2
         limit $6', near, matching, filters)
    using readable, wanted_codes, wanted_kinds, wanted_platform, wanted_firmware, depth,
          asked, meaning, wording;
end
$$;
revoke all on function skald.search_few, skald.search_many from public;

-- The one door to searching. Row-level security lets no index but those of leakproof operators be
-- used, which neither distance nor text search has; so the tenant is checked in here instead, by
-- the owner's rights. It ranks by meaning in each active space and by words, and fuses the ranks:
-- spaces are ranked apart, their distances cannot be compared.
create or replace function skald.search_knowledge(
    vectors jsonb, question text, wanted_codes text[], wanted_platform text,
    wanted_firmware text, wanted_kinds text[], depth integer, meaning float8, wording float8
)
    returns table (tenant_id uuid, entry_id uuid, score float8, by_meaning bigint, by_words bigint)
    language plpgsql security definer
    set search_path = pg_catalog
    set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    readable constant uuid[] := array[skald.current_tenant(), skald.shared_tenant()];
    asked constant tsquery := replace(plainto_tsquery('english', question)::text, '&', '|')::tsquery;
    few constant integer := 2000;
begin
    if wanted_codes <> '{}' and few >= (
        select count(*)
        from (select from skald.knowledge_entries
              where error_codes && wanted_codes and valid_until is null
                and tenant_id = any(readable)
              limit few + 1) as counted)
    then
        return query select * from skald.search_few(readable, vectors, asked, wanted_codes,
            wanted_platform, wanted_firmware, wanted_kinds, depth, meaning, wording);
    else
        return query select * from skald.search_many(readable, vectors, question, asked,
            wanted_codes, wanted_platform, wanted_firmware, wanted_kinds, depth, meaning, wording);
    end if;
end
$$;
