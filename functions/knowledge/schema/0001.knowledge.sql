-- The knowledge base as a product: what a tenant may read, as a list (V-09).
-- depends: 0009.knowledge

create schema knowledge;
grant usage on schema knowledge to skald_app;

create view knowledge.entries with (security_invoker = true) as
select tenant_id, entry_id, kind, key, version, title, error_codes, platform, firmware, source,
       library, valid_from, tenant_id = skald.shared_tenant() as is_shared
from skald.knowledge_entries
where valid_until is null;
grant select on knowledge.entries to skald_app;
