-- Keys that are texts are compared byte by byte (collate "C"): rows are made and locked in the order of their keys, and that
-- order must be one and the same in the service and in the database, whatever its locale.

create table users (
    user_id uuid primary key,
    version bigint not null default 0,
    status text not null default 'unknown' check (status in ('unknown', 'rejected', 'active', 'deactivated')),
    request_digest text,
    user_name text,
    name text,
    address text,
    email text,
    sealed bytea,
    profile text,
    password_hash text, -- argon2id, never the password; gone when the user is deactivated
    check ((status in ('active', 'deactivated')) = (user_name is not null and profile is not null)),
    check ((status = 'unknown') = (request_digest is null)),
    check (status = 'active' or password_hash is null)
) with (fillfactor = 70);

-- Unique names: `name:` or `email:` and the normal form. A row without a user is a name that is free.
create table name (
    key text collate "C" primary key,
    user_id uuid
) with (fillfactor = 90);

-- One verdict an order.
create table verdict (
    order_id uuid primary key,
    version bigint not null default 0,
    verified boolean
) with (fillfactor = 70);
