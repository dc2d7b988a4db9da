-- Vehicle-log batches: uploaded files, their progress, and the findings.
-- depends: 0001.tenancy

create schema batches;
grant usage on schema batches to skald_app, skald_relay;

create table batches.batches (
    tenant_id       uuid not null,
    batch_id        uuid not null,
    name            text not null,
    status          text not null default 'pending' check (status in (
                        'pending', 'uploaded', 'scattering', 'scattered', 'gathering', 'gathered',
                        'diagnosing', 'completed', 'failed')),
    outcome         text check (outcome in ('complete', 'partial')),
    failure_code    text,
    failure_detail  text,
    total_files     integer not null default 0 check (total_files >= 0),
    processed_files integer not null default 0 check (processed_files <= total_files),
    failed_files    integer not null default 0 check (failed_files <= processed_files),
    timeout_seconds integer not null check (timeout_seconds between 1 and 86400),
    statistics      jsonb,
    trace_id        text not null,
    version         integer not null default 1,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    completed_at    timestamptz,
    primary key (tenant_id, batch_id),
    check ((status = 'completed') = (outcome is not null)),
    check ((status = 'failed') = (failure_code is not null))
);
create index batches_newest on batches.batches (tenant_id, created_at desc, batch_id);
create index batches_under_way on batches.batches (updated_at) where status = 'diagnosing';
call skald.isolate_tenants('batches.batches');
grant select, insert, update on batches.batches to skald_app;
-- The sweeper finds stuck batches across tenants. It may see these columns and no others.
create policy lookout on batches.batches for select to skald_relay using (true);
grant select (tenant_id, batch_id, status, updated_at) on batches.batches to skald_relay;

create table batches.files (
    tenant_id  uuid not null,
    batch_id   uuid not null,
    file_id    uuid not null,
    name       text not null,
    key        text not null,
    size       bigint check (size >= 0),
    upload_id  text,
    arrived_at timestamptz,
    created_at timestamptz not null default now(),
    primary key (tenant_id, batch_id, file_id),
    unique (tenant_id, batch_id, name),
    foreign key (tenant_id, batch_id) references batches.batches
);
call skald.isolate_tenants('batches.files');
grant select, insert, update on batches.files to skald_app;

-- Documents are json, not jsonb: they are read whole, and keep the order of their members.
create table batches.diagnoses (
    tenant_id  uuid not null,
    batch_id   uuid not null,
    document   json not null,
    created_at timestamptz not null default now(),
    primary key (tenant_id, batch_id),
    foreign key (tenant_id, batch_id) references batches.batches
);
call skald.isolate_tenants('batches.diagnoses');
grant select, insert, delete on batches.diagnoses to skald_app;

create table batches.reports (
    tenant_id  uuid not null,
    batch_id   uuid not null,
    document   json not null,
    created_at timestamptz not null default now(),
    primary key (tenant_id, batch_id),
    foreign key (tenant_id, batch_id) references batches.batches
);
call skald.isolate_tenants('batches.reports');
grant select, insert on batches.reports to skald_app;


-- Progress: every visible change of a batch, numbered by its version. A trigger writes it, so no
-- code can forget it.

create table batches.progress (
    tenant_id       uuid not null,
    batch_id        uuid not null,
    version         integer not null,
    status          text not null,
    total_files     integer not null,
    processed_files integer not null,
    failed_files    integer not null,
    at              timestamptz not null default clock_timestamp(),
    primary key (tenant_id, batch_id, version),
    foreign key (tenant_id, batch_id) references batches.batches
);
call skald.isolate_tenants('batches.progress');
grant select, insert on batches.progress to skald_app;

create function batches.count_version() returns trigger
    language plpgsql
    set search_path = pg_catalog
as $$
begin
    new.version := old.version + 1;
    new.updated_at := clock_timestamp();
    return new;
end
$$;
create trigger count_version before update on batches.batches
    for each row execute function batches.count_version();

create function batches.note_progress() returns trigger
    language plpgsql
    set search_path = pg_catalog
as $$
begin
    insert into batches.progress
        (tenant_id, batch_id, version, status, total_files, processed_files, failed_files)
    values (new.tenant_id, new.batch_id, new.version, new.status, new.total_files,
            new.processed_files, new.failed_files);
    return null;
end
$$;
create trigger note_creation after insert on batches.batches
    for each row execute function batches.note_progress();
create trigger note_progress after update on batches.batches
    for each row
    when ((old.status, old.total_files, old.processed_files, old.failed_files)
        is distinct from (new.status, new.total_files, new.processed_files, new.failed_files))
    execute function batches.note_progress();
