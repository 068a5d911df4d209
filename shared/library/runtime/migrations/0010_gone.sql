-- Keys whose rows were removed, long after their end: what comes of one later is too old, and never begins anew. So it is kept for ever.
create table gone (
    key text primary key,
    ended_at timestamptz not null,
    beside boolean not null -- what belongs to the key and is kept longer (an order's events) is still there
);
create index gone_beside on gone (ended_at) where beside;
