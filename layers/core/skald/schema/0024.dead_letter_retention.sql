-- Dead letters nobody will open any more are deleted, by the relay's role.
-- depends: 0021.undelivered

create index dead_letters_age on skald.dead_letters (failed_at);
grant delete on skald.dead_letters to skald_relay;
