-- A search reads one row of each candidate: its words stand beside its vector (V-09).
-- depends: 0013.quick_search 0014.embedding

-- A row for each current entry in the active space, from the moment the entry is committed: without
-- an embedding, words find it all the same. How long an embedder's vectors are may not be known yet.
alter table skald.knowledge_spaces alter column dimensions drop not null;
alter table skald.knowledge_embeddings add column words tsvector,
    alter column dimensions drop not null, alter column embedding drop not null;

create function skald.words_of(title text, text text) returns tsvector
    language sql immutable parallel safe
    return setweight(to_tsvector('english', title), 'A')
        || setweight(to_tsvector('english', text), 'B');

drop function skald.search_knowledge, skald.entries_within, skald.embeddings_within,
    skald.telling_words;
drop type skald.candidate;
drop index skald.knowledge_embeddings_search;

-- Every row changes: the HNSW indexes are built anew, which is faster than row by row.
do $$
declare
    near constant text := 'knowledge\_embeddings\_near\_%';
    names constant text := (
        select string_agg(format('skald.%I', indexname), ', ') from pg_indexes
        where schemaname = 'skald' and indexname like near);
    definitions constant text[] := array(
        select indexdef from pg_indexes where schemaname = 'skald' and indexname like near);
    definition text;
begin
    execute 'drop index ' || names;
    update skald.knowledge_embeddings as held set words = entry.words
        from skald.knowledge_entries as entry
        where (entry.tenant_id, entry.entry_id) = (held.tenant_id, held.entry_id)
          and valid_until is null;
    insert into skald.knowledge_embeddings (tenant_id, embedder, entry_id, kind, error_codes,
            platform, firmware, words)
        select tenant_id, embedder, entry_id, kind, error_codes, platform, firmware, words
        from skald.knowledge_entries join skald.knowledge_spaces using (tenant_id)
        where valid_until is null and is_active
        on conflict do nothing;
    foreach definition in array definitions loop
        execute definition;
    end loop;
end
$$;
alter table skald.knowledge_embeddings alter column words set not null;
alter table skald.knowledge_entries drop column words;

-- '*' is any code, kind or platform, '-' the platform of what holds for all.
create index knowledge_embeddings_search on skald.knowledge_embeddings using gin (
    skald.search_keys(array_append(error_codes, '*'), array[tenant_id], array[kind, '*'],
                      array[coalesce(platform, '-'), '*']),
    words);
-- Its plans are made once, whatever is sought: counting the keys would only cost each analyze.
alter index skald.knowledge_embeddings_search alter column 1 set statistics 0;

-- The rows that suit the filters, of the tenants `readable` in their `spaces`. Written so that no
-- other index can serve it: one that led through all of a tenant's rows would make the keys of each.
create function skald.embeddings_within(
    readable uuid[], spaces text[], wanted_codes text[], wanted_kinds text[],
    wanted_platform text, wanted_firmware text, keys bigint[]
)
    returns setof skald.knowledge_embeddings
    language sql stable
begin atomic
    select * from skald.knowledge_embeddings
    where skald.search_keys(array_append(error_codes, '*'), array[tenant_id], array[kind, '*'],
                            array[coalesce(platform, '-'), '*']) && keys
      and (tenant_id = any(readable)) is true
      and embedder = spaces[case tenant_id when readable[1] then 1 else 2 end]
      and (wanted_kinds = '{}' or kind = any(wanted_kinds))
      and (wanted_platform is null or platform is null or platform = wanted_platform)
      and (wanted_firmware is null or firmware is null or wanted_firmware like firmware)
      and (wanted_codes = '{}' or error_codes && wanted_codes);
end;
revoke all on function skald.embeddings_within from public;

-- The question's rarest words that together match at most so many entries, and at least one word.
create function skald.telling_words(question text, most integer) returns tsquery
    language sql
    set search_path = pg_catalog
    return (
        select string_agg(word::text, '|')::tsquery
        from (select word, row_number() over rarest as place, sum(entries) over rarest as total
              from (select word, skald.expected_rows(
                               'skald.knowledge_embeddings where words @@ $6',
                               words => word) as entries
                    from unnest(to_tsvector('english', question)) as found,
                         lateral (select quote_literal(found.lexeme)::tsquery) as made (word)
                   ) as counted
              window rarest as (order by entries, word::text)) as ranked
        where place = 1 or total <= most);
revoke all on function skald.telling_words from public;

-- How far an entry's vector is from the question's, null where one is missing, and how well its
-- words fit, null where it shares none.
create type skald.candidate as (tenant_id uuid, entry_id uuid, distance float8, fit float4);
create function skald.measured(
    entry skald.knowledge_embeddings, tenant uuid, own_vector public.halfvec,
    shared_vector public.halfvec, asked tsquery
)
    returns skald.candidate
    language sql immutable parallel safe
    return row(entry.tenant_id, entry.entry_id,
               entry.embedding operator(public.<=>)
                   case entry.tenant_id when tenant then own_vector else shared_vector end,
               case when entry.words @@ asked then ts_rank(entry.words, asked, 1) end
              )::skald.candidate;

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
    keys constant bigint[] := skald.search_keys(
        case wanted_codes when '{}' then '{*}' else wanted_codes end, readable,
        case wanted_kinds when '{}' then '{*}' else wanted_kinds end,
        case when wanted_platform is null then '{*}' else array[wanted_platform, '-'] end);
    asked tsquery := replace(plainto_tsquery('english', question)::text, '&', '|')::tsquery;
    spaces text[];
    own_vector public.halfvec;
    shared_vector public.halfvec;
    candidates skald.candidate[];
begin
    perform skald.act_for(tenant);
    select array[max(embedder) filter (where tenant_id = tenant),
                 max(embedder) filter (where tenant_id = shared)]
    into spaces
    from skald.knowledge_spaces where tenant_id = any(readable) and is_active;
    if spaces[1] <> all(embedders) or spaces[2] <> all(embedders) then
        missing := array(select distinct space from unnest(spaces) as space
                         where space <> all(embedders));
        sources := '[]';
        return next;
        return;
    end if;
    own_vector := case spaces[1]
        when embedders[1] then vector when embedders[2] then other_vector end;
    shared_vector := case spaces[2]
        when embedders[1] then vector when embedders[2] then other_vector end;

    -- All that suit the filters, where those leave few.
    if wanted_codes <> '{}' or few >= skald.expected_rows(
        'skald.knowledge_embeddings where tenant_id = any($1)
             and ($3 = ''{}'' or kind = any($3))
             and ($4 is null or platform is null or platform = $4)',
        readable, wanted_codes, wanted_kinds, wanted_platform)
    then
        candidates := array(
            select skald.measured(entry, tenant, own_vector, shared_vector, asked)
            from skald.embeddings_within(readable, spaces, wanted_codes, wanted_kinds,
                                         wanted_platform, wanted_firmware, keys) as entry
            limit few + 1);
    end if;
    -- Else those that share words with the question, and those that are near without.
    if candidates is null or cardinality(candidates) > few then
        candidates := array(
            select skald.measured(entry, tenant, own_vector, shared_vector, asked)
            from skald.embeddings_within(readable, spaces, wanted_codes, wanted_kinds,
                                         wanted_platform, wanted_firmware, keys) as entry
            where words @@ asked
            limit few + 1);
        if cardinality(candidates) > few then
            asked := skald.telling_words(question, few);
            candidates := array(
                select skald.measured(entry, tenant, own_vector, shared_vector, asked)
                from (
                    select tenant_id, embedder, entry_id
                    from skald.embeddings_within(readable, spaces, wanted_codes, wanted_kinds,
                                                 wanted_platform, wanted_firmware, keys)
                    where words @@ asked
                    order by ts_rank(words, asked, 1) desc
                    limit few) as fitting
                join skald.knowledge_embeddings as entry using (tenant_id, embedder, entry_id));
        end if;
        candidates := candidates || array(
            select skald.measured(entry, tenant, own_vector, shared_vector, asked)
            from (values (readable[:case spaces[1] when spaces[2] then 2 else 1 end],
                          spaces[1], own_vector),
                         (array[shared], nullif(spaces[2], spaces[1]), shared_vector))
                     as space (tenants, name, vector),
                 skald.entries_near(space.tenants, space.name, space.vector, wanted_codes,
                     wanted_kinds, wanted_platform, wanted_firmware, depth) as found,
                 skald.knowledge_embeddings as entry
            where space.name is not null and space.vector is not null
              and (entry.tenant_id, entry.embedder, entry.entry_id)
                = (found.tenant_id, space.name, found.entry_id)
              and (found.tenant_id, found.entry_id)
                  not in (select tenant_id, entry_id from unnest(candidates)));
    end if;

    return query
    with placed as (
        select *, row_number() over (partition by tenant_id = tenant and spaces[1] <> spaces[2]
                                     order by distance, entry_id) as near_place,
               row_number() over (order by fit desc nulls last, entry_id) as fit_place
        from unnest(candidates)
    ),
    shares as (
        select tenant_id, entry_id,
               case when distance is not null and near_place <= depth
                    then meaning / (60 + near_place) end as by_meaning,
               case when fit is not null and fit_place <= depth
                    then wording / (60 + fit_place) end as by_words
        from placed
    ),
    found as materialized (
        select *, coalesce(by_meaning, 0) + coalesce(by_words, 0) as score
        from shares
        where by_meaning is not null or by_words is not null
        order by score desc, entry_id
        limit most
    )
    select '{}'::text[], coalesce(json_agg(entry order by score desc, entry_id)::text, '[]')
    from (select entry_id, version, kind, key, title, text, error_codes, source, score,
                 case when by_words is null then '{meaning}'
                      when by_meaning is null then '{words}'
                      else '{meaning,words}' end::text[] as found_by,
                 tenant_id = shared as is_shared
          from found join skald.knowledge_entries using (tenant_id, entry_id)
          where valid_until is null) as entry;
end
$$;
revoke all on function skald.search_knowledge from public;
grant execute on function skald.search_knowledge to skald_app;
