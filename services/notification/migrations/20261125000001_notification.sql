-- Users' addresses, folded from their events; a row is made empty when an order of an unknown user is first heard of.
create table address (
    user_id uuid primary key,
    version bigint not null default 0 check (version >= 0),
    email text,
    name text,
    waiting uuid[] not null default '{}', -- orders that have mails waiting for the address
    changed_at timestamptz not null default clock_timestamp()
) with (fillfactor = 70);

-- What orders' customers are told: a list of {"about": .., "status": "sending" | "sent" | "failed" | {"waiting": {letter}}}.
create table notice (
    order_id uuid primary key,
    version bigint not null default 0 check (version >= 0),
    customer_id uuid,
    mails jsonb not null default '[]' check (jsonb_typeof(mails) = 'array'),
    changed_at timestamptz not null default clock_timestamp(),
    check (customer_id is not null or mails = '[]')
) with (fillfactor = 70);
