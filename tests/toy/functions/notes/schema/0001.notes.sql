-- Notes: the uploaded text of a note, and the number of its words.
-- depends: 0001.tenancy

create schema notes;
grant usage on schema notes to skald_app;

create table notes.notes (
    tenant_id      uuid not null,
    note_id        uuid not null,
    status         text not null default 'open' check (status in ('open', 'closed', 'counted', 'failed')),
    total_files    integer not null default 0 check (total_files >= 0),
    words          integer,
    failure_code   text,
    failure_detail text,
    completed_at   timestamptz,
    primary key (tenant_id, note_id)
);
call skald.isolate_tenants('notes.notes');
grant select, insert, update on notes.notes to skald_app;

create table notes.files (
    tenant_id  uuid not null,
    note_id    uuid not null,
    file_id    uuid not null,
    name       text not null,
    key        text not null,
    size       bigint check (size >= 0),
    upload_id  text,
    arrived_at timestamptz,
    primary key (tenant_id, note_id, file_id),
    foreign key (tenant_id, note_id) references notes.notes
);
call skald.isolate_tenants('notes.files');
grant select, insert, update on notes.files to skald_app;
