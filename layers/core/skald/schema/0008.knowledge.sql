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
