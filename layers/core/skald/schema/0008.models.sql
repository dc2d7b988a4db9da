-- Models: what was answered, so that no question is asked twice, and what it cost.
-- depends: 0001.tenancy

-- A question is the hash of all that decides its answer. While it is being asked its row has an
-- owner and a lease; after the lease another call may take the question over. The answer is stored
-- with the call's cost, in one commit, before it is used.
create table skald.model_answers (
    tenant_id     uuid not null,
    question      bytea not null check (octet_length(question) = 32),
    owner         uuid not null,
    leased_until  timestamptz not null,
    answer        text,
    model         text,
    input_tokens  integer,
    output_tokens integer,
    is_estimated  boolean,
    answered_at   timestamptz,
    primary key (tenant_id, question),
    check ((answer is null) = (answered_at is null))
);
create index model_answers_age on skald.model_answers (leased_until);
call skald.isolate_tenants('skald.model_answers');
grant select, insert, update, delete on skald.model_answers to skald_app;
create policy retention on skald.model_answers to skald_relay using (true);
grant select (ctid, leased_until), delete on skald.model_answers to skald_relay;

-- `subject` is what the question was about: a batch, a submission, an evaluation.
create table skald.model_calls (
    tenant_id     uuid not null,
    call_id       uuid not null,
    subject       text not null,
    role          text not null,
    model         text not null,
    outcome       text not null check (outcome in (
                      'answered', 'repeated', 'busy', 'unreachable', 'refused')),
    input_tokens  integer not null default 0,
    output_tokens integer not null default 0,
    is_estimated  boolean not null default false,
    duration_ms   integer not null,
    trace_id      text,
    at            timestamptz not null default clock_timestamp(),
    primary key (tenant_id, call_id)
);
create index model_calls_by_subject on skald.model_calls (tenant_id, subject, at);
create index model_calls_by_day on skald.model_calls (tenant_id, at);
create index model_calls_age on skald.model_calls (at);
call skald.isolate_tenants('skald.model_calls');
grant select, insert on skald.model_calls to skald_app;
create policy retention on skald.model_calls to skald_relay using (true);
grant select (ctid, at), delete on skald.model_calls to skald_relay;
