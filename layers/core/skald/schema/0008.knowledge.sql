-- The knowledge base: error codes explained, past diagnoses, and their embeddings (V-09).
-- depends: 0001.kernel

-- Whose entries everybody may read and only the operator may write. No tenant has this id.
create function skald.shared_tenant() returns uuid
    language sql immutable parallel safe
    return '00000000-0000-0000-0000-000000000000'::uuid;

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
    words       tsvector not null generated always as (
                    setweight(to_tsvector('english', title), 'A')
                    || setweight(to_tsvector('english', text), 'B')) stored,
    primary key (tenant_id, entry_id, version),
    unique (tenant_id, kind, key, version)
);
create unique index knowledge_entries_current on skald.knowledge_entries (tenant_id, entry_id)
    where valid_until is null;
create index knowledge_entries_words on skald.knowledge_entries using gin (words)
    where valid_until is null;
create index knowledge_entries_codes on skald.knowledge_entries using gin (error_codes)
    where valid_until is null;

-- A space is what one embedder makes of texts. A tenant searches its active one; another may be
-- filled beside it and takes its place at once.
create table skald.knowledge_spaces (
    tenant_id  uuid not null,
    embedder   text not null,
    dimensions integer not null check (dimensions between 1 and 4000),
    is_active  boolean not null,
    created_at timestamptz not null default clock_timestamp(),
    primary key (tenant_id, embedder)
);
create unique index knowledge_spaces_active on skald.knowledge_spaces (tenant_id) where is_active;

-- Embeddings of current entries only. What a search filters by stands beside the vector: an
-- index scan in order of distance can check it without a join.
create table skald.knowledge_embeddings (
    tenant_id   uuid not null,
    embedder    text not null,
    entry_id    uuid not null,
    dimensions  integer not null,
    kind        text not null,
    error_codes text[] not null,
    platform    text,
    firmware    text,
    embedding   public.halfvec not null,
    primary key (tenant_id, embedder, entry_id),
    foreign key (tenant_id, embedder) references skald.knowledge_spaces on delete cascade,
    check (public.vector_dims(embedding) = dimensions)
);
create index knowledge_embeddings_codes on skald.knowledge_embeddings using gin (error_codes);

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

-- The tenant's own rows, as everywhere. Beside them everybody reads what is shared, nobody but the
-- operator writes it: not even a transaction that claims to be the shared tenant's.
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

-- The one door to searching. Row-level security lets no index but those of leakproof operators be
-- used, which neither distance nor text search has; so the tenant is checked in here instead, by
-- the owner's rights. It ranks by meaning in each active space and by words, and fuses the ranks:
-- spaces are ranked apart, their distances cannot be compared.
create function skald.search_knowledge(
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
        near := near || format(
            'union all
             select tenant_id, entry_id, row_number() over (order by distance, entry_id)
             from (select tenant_id, entry_id,
                          embedding::public.halfvec(%1$s) operator(public.<=>)
                          %2$L::public.halfvec(%1$s) as distance
                   from skald.knowledge_embeddings
                   where tenant_id = any(%3$L) and embedder = %4$L and dimensions = %1$s %5$s
                   order by distance limit $6) as nearest
             ', space.dimensions, space.vector, space.tenants, space.embedder, filters);
    end loop;
    -- The index goes on until the filters have let enough through.
    perform set_config('hnsw.iterative_scan', 'relaxed_order', true);
    perform set_config('hnsw.ef_search', greatest(100, depth)::text, true);
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
          replace(plainto_tsquery('english', question)::text, '&', '|')::tsquery,
          meaning, wording;
end
$$;
revoke all on function skald.search_knowledge from public;
grant execute on function skald.search_knowledge to skald_app;
