-- Orders: snapshots of their streams in the event store (`version` is the stream's), saved in the transaction of their events.
create table orders (
    order_id uuid primary key,
    version bigint not null default 0,
    status text not null default 'unknown' check (status in
        ('unknown', 'rejected', 'pending', 'confirmed', 'shipped', 'recalling', 'delivered', 'cancelled')),
    request_digest text,
    details jsonb,
    confirm_by timestamptz,
    end_within_ms bigint check (end_within_ms > 0),
    end_by timestamptz,
    recall_asked boolean not null default false,
    recall_shipped boolean not null default false,
    check ((status in ('unknown', 'rejected')) = (details is null)),
    check ((details is null) = (confirm_by is null)),
    check ((status = 'unknown') = (request_digest is null))
) with (fillfactor = 70);

-- The service's own price list, folded from product.events. Rows are read without a lock, and an older version never
-- overwrites a newer one.
create table price (
    sku text collate "C" primary key,
    version bigint not null,
    price_cents bigint not null check (price_cents between 1 and 999999999999),
    currency text not null
);
