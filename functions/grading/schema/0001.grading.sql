-- Grading: the rubrics of exam questions, every version of each.
-- depends: 0001.tenancy

create schema grading;
grant usage on schema grading to skald_app;

-- Content is json, not jsonb: it is read whole, as it was written. Versions are only ever added.
create table grading.rubrics (
    tenant_id   uuid not null,
    exam_id     text not null,
    question_id text not null,
    version     integer not null check (version > 0),
    hash        text not null,
    content     json not null,
    created_at  timestamptz not null default now(),
    primary key (tenant_id, exam_id, question_id, version)
);
call skald.isolate_tenants('grading.rubrics');
grant select, insert on grading.rubrics to skald_app;

create view grading.newest_rubrics with (security_invoker = true) as
select tenant_id, exam_id, question_id, version, hash, created_at
from grading.rubrics as newest
where not exists (
    select from grading.rubrics as newer
    where newer.tenant_id = newest.tenant_id
      and newer.exam_id = newest.exam_id
      and newer.question_id = newest.question_id
      and newer.version = newest.version + 1);
grant select on grading.newest_rubrics to skald_app;
