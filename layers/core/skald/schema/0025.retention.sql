-- What grows old in the order it comes is found by B-trees, which take new rows at their end. Their
-- block ranges kept the oldest time a page has ever held: of no use once pages were used again.
-- depends: 0005.traces 0007.models 0012.tickets

drop index skald.inbox_age, skald.trace_spans_age, skald.model_answers_age, skald.model_calls_age,
    skald.tickets_age;
create index inbox_age on skald.inbox (received_at);
create index trace_spans_age on skald.trace_spans (start_time);
create index model_answers_age on skald.model_answers (leased_until);
create index model_calls_age on skald.model_calls (at);
create index tickets_age on skald.tickets (expires_at);
