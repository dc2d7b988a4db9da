-- The knowledge base: error codes explained, past diagnoses, their embeddings, the search (V-09).
-- depends: 0001.tenancy

-- The owner of entries that every tenant may read and only the operator may write. No tenant has
-- this id.
create function skald.shared_tenant() returns uuid
    language sql immutable parallel safe
    return '00000000-0000-0000-0000-000000000000'::uuid;


-- Entries, and the rows by which they are found. --------------------------------------------------

-- A version of an entry; the one without an end is current. What is superseded or retired stays.
-- `firmware` is a LIKE pattern of versions; null holds for all, as does a null platform.
create table skald.knowledge_entries (
    tenant_id   uuid not null,
    entry_id    uuid not null,
    version     integer not null check (version >= 1),
    kind        text not null,
    key         text not null,
    library     text,
    title       text not null,
    text        text not null,
    error_codes text[] not null default '{}',
    platform    text,
    firmware    text,
    source      text,
    valid_from  timestamptz not null default clock_timestamp(),
    valid_until timestamptz,
    primary key (tenant_id, entry_id, version),
    unique (tenant_id, kind, key, version)
);
create unique index knowledge_entries_current on skald.knowledge_entries (tenant_id, entry_id)
    where valid_until is null;

-- A space is what one embedder makes of texts. A tenant searches its active one; another may be
-- filled beside it and takes its place at once. `dimensions` is the length of its vectors, null
-- until the embedder has made one.
create table skald.knowledge_spaces (
    tenant_id  uuid not null,
    embedder   text not null,
    dimensions integer check (dimensions between 1 and 4000),
    is_active  boolean not null,
    created_at timestamptz not null default clock_timestamp(),
    primary key (tenant_id, embedder)
);
create unique index knowledge_spaces_active on skald.knowledge_spaces (tenant_id) where is_active;

create function skald.words_of(title text, text text) returns tsvector
    language sql immutable parallel safe
    return setweight(to_tsvector('english', title), 'A')
        || setweight(to_tsvector('english', text), 'B');

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

-- What a search reads: a row for each current entry in the active space, from the moment the entry
-- is committed. Without an embedding, words find it all the same. What a search filters by stands
-- beside the vector: an index scan in order of distance can check it without a join.
create table skald.knowledge_embeddings (
    tenant_id   uuid not null,
    embedder    text not null,
    entry_id    uuid not null,
    dimensions  integer,
    kind        text not null,
    error_codes text[] not null,
    platform    text,
    firmware    text,
    embedding   public.halfvec,
    words       tsvector not null,
    primary key (tenant_id, embedder, entry_id),
    foreign key (tenant_id, embedder) references skald.knowledge_spaces on delete cascade,
    check (public.vector_dims(embedding) = dimensions)
);

-- An HNSW index holds vectors of one length, so there is one for each that embedders are known to
-- have; vectors of other lengths are compared one by one.
do $$
declare
    length integer;
begin
    foreach length in array array[256, 384, 512, 768, 1024, 1536, 3072] loop
        execute format(
            'create index knowledge_embeddings_near_%1$s on skald.knowledge_embeddings
                 using hnsw ((embedding::public.halfvec(%1$s)) public.halfvec_cosine_ops)
                 where dimensions = %1$s', length);
    end loop;
end
$$;

-- '*' is any code, kind or platform, '-' the platform of what holds for all.
create index knowledge_embeddings_search on skald.knowledge_embeddings using gin (
    skald.search_keys(array_append(error_codes, '*'), array[tenant_id], array[kind, '*'],
                      array[coalesce(platform, '-'), '*']),
    words);
-- Its plans are made once, for any question: statistics of the keys would only cost each analyze.
alter index skald.knowledge_embeddings_search alter column 1 set statistics 0;

-- A tenant has its own rows, as everywhere. Every tenant also reads what is shared. Only the
-- operator writes it: a transaction that claims to be the shared tenant's does not.
do $$
declare
    name regclass;
begin
    foreach name in array array['skald.knowledge_entries', 'skald.knowledge_spaces',
                                'skald.knowledge_embeddings']::regclass[] loop
        call skald.isolate_tenants(name);
        execute format(
            'create policy shared on %s for select to skald_app
                 using (tenant_id = skald.shared_tenant())', name);
        execute format(
            'create policy shared_is_not_added on %s as restrictive for insert to skald_app
                 with check (tenant_id <> skald.shared_tenant())', name);
        execute format(
            'create policy shared_is_not_changed on %s as restrictive for update to skald_app
                 using (tenant_id <> skald.shared_tenant())', name);
        execute format(
            'create policy shared_is_not_deleted on %s as restrictive for delete to skald_app
                 using (tenant_id <> skald.shared_tenant())', name);
        execute format(
            'create policy administration on %s to skald_migrator using (true) with check (true)',
            name);
        execute format('grant select, insert, update, delete on %s to skald_app', name);
    end loop;
end
$$;

-- The tenants whose entries wait for a remote embedder, which a schedule calls between
-- transactions; until then words find the entries.
create table skald.knowledge_waiting (
    tenant_id uuid not null primary key,
    since     timestamptz not null default clock_timestamp()
);
call skald.isolate_tenants('skald.knowledge_waiting');
grant select, insert, delete on skald.knowledge_waiting to skald_app;
create policy lookout on skald.knowledge_waiting for select to skald_relay using (true);
grant select (tenant_id, since) on skald.knowledge_waiting to skald_relay;


-- The search: an index finds what the filters leave, which is compared exactly, by plans made once.
-- HNSW adds what is near without a word in common, where the filters leave much. ------------------

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
revoke all on function skald.expected_rows from public;

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
revoke all on function skald.entries_near from public;

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
