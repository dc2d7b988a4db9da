-- Spans, and what they sum up to (G-09, G-15).
-- depends: 0001.tenancy

create table skald.trace_spans (
    tenant_id      uuid not null,
    trace_id       text not null,
    span_id        text not null,
    parent_span_id text,
    kind           text not null,
    name           text not null,
    start_time     timestamptz not null,
    end_time       timestamptz not null check (end_time >= start_time),
    duration_ms    double precision not null
                       generated always as (extract(epoch from end_time - start_time) * 1000) stored,
    status         text not null check (status in ('ok', 'error')),
    attributes     jsonb not null default '{}',
    primary key (tenant_id, trace_id, span_id)
);
create index trace_spans_newest on skald.trace_spans (tenant_id, start_time desc);
create index trace_spans_age on skald.trace_spans (start_time);
call skald.isolate_tenants('skald.trace_spans');
grant select, insert on skald.trace_spans to skald_app;
create policy retention on skald.trace_spans to skald_relay using (true);
grant select (ctid, start_time), delete on skald.trace_spans to skald_relay;

-- Kept when the spans are forgotten: the counters of the Prometheus endpoint.
-- `bucket` is the upper bound in seconds of the histogram's bucket, infinity for the last.
create table skald.span_totals (
    tenant_id uuid not null,
    kind      text not null,
    name      text not null,
    status    text not null,
    bucket    double precision not null,
    spans     bigint not null,
    seconds   double precision not null,
    primary key (tenant_id, kind, name, status, bucket)
);
call skald.isolate_tenants('skald.span_totals');
grant select, insert, update on skald.span_totals to skald_app;
