-- The age of threads by the day: a block range index keeps the oldest time a page has ever held, so
-- once pages are used again it matches them all.
-- depends: 0019.checkpoint_retention

-- The lease itself is in no index: it is renewed many times a run, in place as long as none has it.
alter table skald.checkpoint_threads add column last_written date not null
    generated always as ((leased_until at time zone 'UTC')::date) stored;
create index checkpoint_threads_last_written on skald.checkpoint_threads (last_written);
drop index skald.checkpoint_threads_age;
grant select (last_written) on skald.checkpoint_threads to skald_relay;
