-- Creates the database `skald`, its login roles and its extension. Safe to repeat. For psql, run by
-- an administrator: a superuser locally, the master user on RDS. That user is no superuser, so no
-- attribute is set here that only a superuser may set; the last statement checks them instead.
-- Passwords come from the environment: SKALD_MIGRATOR_PASSWORD, SKALD_APP_PASSWORD,
-- SKALD_RELAY_PASSWORD.
\set ON_ERROR_STOP on
\getenv migrator_password SKALD_MIGRATOR_PASSWORD
\getenv app_password SKALD_APP_PASSWORD
\getenv relay_password SKALD_RELAY_PASSWORD
SET client_min_messages = warning;

SELECT format('CREATE ROLE %I', name)
FROM unnest(ARRAY['skald_migrator', 'skald_app', 'skald_relay']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec
ALTER ROLE skald_migrator LOGIN PASSWORD :'migrator_password';
ALTER ROLE skald_app LOGIN PASSWORD :'app_password';
ALTER ROLE skald_relay LOGIN PASSWORD :'relay_password';

-- An administrator who is no superuser must be a member of the role that gets the database.
GRANT skald_migrator TO CURRENT_USER;
SELECT 'CREATE DATABASE skald OWNER skald_migrator'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'skald')
\gexec
REVOKE ALL ON DATABASE skald FROM PUBLIC;
GRANT CONNECT ON DATABASE skald TO skald_app, skald_relay;

\connect skald
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS vector;

-- Row-level security binds the app and the relay only without these attributes.
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_roles
        WHERE rolname IN ('skald_migrator', 'skald_app', 'skald_relay') AND (rolsuper OR rolbypassrls)
    ) THEN
        RAISE EXCEPTION 'a skald role is a superuser or bypasses row-level security';
    END IF;
END
$$;
