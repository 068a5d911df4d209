-- Roles and databases that belong to no service. Every statement may be repeated.
\set QUIET on
\set ON_ERROR_STOP on

-- The schema registry keeps its schemas here, so that ids survive a restart.
select format('create role apicurio login password %L', :'password')
where not exists (select from pg_roles where rolname = 'apicurio') \gexec
select 'create database apicurio owner apicurio' where not exists (select from pg_database where datname = 'apicurio') \gexec
revoke all on database apicurio from public;

-- Tests make databases of their own and drop them.
select format('create role quadrille_test login createdb password %L', :'password')
where not exists (select from pg_roles where rolname = 'quadrille_test') \gexec

-- Audits, consoles and the curious read every service's database and write none.
select format('create role quadrille_audit login password %L', :'password')
where not exists (select from pg_roles where rolname = 'quadrille_audit') \gexec
alter role quadrille_audit set default_transaction_read_only = on;
grant pg_read_all_data to quadrille_audit;
