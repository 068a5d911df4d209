-- One service's database and its two roles: the migrator owns the tables, the running service only works with the rows.
-- Run as an administrator, with the variables `service` and `password` (psql -v) and the role `quadrille_audit` there (server.sql). The names begin
-- with `quadrille_`, which is the default of `database.prefix`. Every statement may be repeated.
\set database quadrille_ :service
\set runtime quadrille_ :service
\set migrator quadrille_ :service _migrator

\connect postgres
select format('create role %I login password %L', role, :'password')
from (values (:'migrator'), (:'runtime')) as wanted (role)
where not exists (select from pg_roles where rolname = role) \gexec
select format('create database %I owner %I', :'database', :'migrator')
where not exists (select from pg_database where datname = :'database') \gexec

revoke all on database :"database" from public;
grant connect on database :"database" to :"runtime", quadrille_audit;

\connect :"database"
revoke all on schema public from public;
grant usage on schema public to :"runtime";
alter default privileges for role :"migrator" in schema public grant select, insert, update, delete on tables to :"runtime";
alter default privileges for role :"migrator" in schema public grant usage, select on sequences to :"runtime";
