-- A ticket ends with the key that fetched it (P-07).
-- depends: 0012.tickets

-- Nobody knows whose the old ones are; who needs one fetches another. Row-level security, to which
-- the owner is subject as well, would hide them all from a `delete`.
truncate skald.tickets;
alter table skald.tickets add column key_hash bytea not null;
