-- A search stays fast among many entries: each part of it takes the way that suits its filters (V-09).
-- depends: 0008.knowledge

-- How many rows the planner's statistics promise of a table and its conditions on $1 to $6.
create function skald.expected_rows(
    source text, readable uuid[] default null, wanted_codes text[] default null,
    wanted_kinds text[] default null, wanted_platform text default null,
    wanted_firmware text default null, words tsquery default null
)
    returns bigint
    language plpgsql
    set search_path = pg_catalog
as $$
declare
    plan json;
begin
    execute 'explain (format json) select from ' || source into plan
    using readable, wanted_codes, wanted_kinds, wanted_platform, wanted_firmware, words;
    return (plan -> 0 -> 'Plan' ->> 'Plan Rows')::bigint;
end
$$;

-- The question's rarest words that together match at most so many entries, and at least one word.
create function skald.telling_words(question text, most integer) returns tsquery
    language sql
    set search_path = pg_catalog
    return (
        select string_agg(word::text, '|')::tsquery
        from (select word, row_number() over rarest as place, sum(entries) over rarest as total
              from (select word, skald.expected_rows(
                               'skald.knowledge_entries where valid_until is null and words @@ $6',
                               words => word) as entries
                    from unnest(to_tsvector('english', question)) as found,
                         lateral (select quote_literal(found.lexeme)::tsquery) as made (word)
                   ) as counted
              window rarest as (order by entries, word::text)) as ranked
        where place = 1 or total <= most);
revoke all on function skald.expected_rows, skald.telling_words from public;

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
as $$
#variable_conflict use_column
declare
    readable constant uuid[] := array[skald.current_tenant(), skald.shared_tenant()];
    filters text := '';
    near text := '';
    sought text;
    asked tsquery := replace(plainto_tsquery('english', question)::text, '&', '|')::tsquery;
    most_compared constant integer := 3000;
    most_ranked constant integer := 2000;
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
             from (select tenant_id, entry_id,
                          %3$s operator(public.<=>)
                          %2$L::public.halfvec(%1$s) as distance
                   from %4$s
                   order by distance limit $6) as nearest
             ', space.dimensions, space.vector,
            -- Few vectors are compared one by one, exactly; the index holds the other expression.
            case when skald.expected_rows(sought, readable, wanted_codes, wanted_kinds,
                                          wanted_platform, wanted_firmware) <= most_compared
                 then 'embedding' else format('embedding::public.halfvec(%s)', space.dimensions) end,
            sought);
    end loop;
    -- All that match are ranked, so where they are many only the telling words are sought.
    if skald.expected_rows(
        'skald.knowledge_entries where tenant_id = any($1) and valid_until is null and words @@ $6'
        || filters, readable, wanted_codes, wanted_kinds, wanted_platform, wanted_firmware, asked
    ) > most_ranked then
        asked := skald.telling_words(question, most_ranked);
    end if;
    -- The index goes on until the filters have let enough through.
    perform set_config('hnsw.iterative_scan', 'relaxed_order', true);
    perform set_config('hnsw.ef_search', greatest(400, depth)::text, true);
    return query execute format(
        'with near (tenant_id, entry_id, place) as (
             select null::uuid, null::uuid, null::bigint where false %1$s
         ),
         worded as (
             select tenant_id, entry_id,
                    row_number() over (order by closeness desc, entry_id) as place
             from (select tenant_id, entry_id, ts_rank(words, $7, 1) as closeness
                   from skald.knowledge_entries
                   where tenant_id = any($1) and valid_until is null and words @@ $7 %2$s
                   order by closeness desc limit $6) as closest
         )
         select tenant_id, entry_id,
                coalesce($8 / (60 + near.place), 0) + coalesce($9 / (60 + worded.place), 0),
                near.place, worded.place
         from near full join worded using (tenant_id, entry_id)
         order by 3 desc, 2
         limit $6', near, filters)
    using readable, wanted_codes, wanted_kinds, wanted_platform, wanted_firmware, depth,
          asked, meaning, wording;
end
$$;
revoke all on function skald.search_knowledge from public;
grant execute on function skald.search_knowledge to skald_app;
