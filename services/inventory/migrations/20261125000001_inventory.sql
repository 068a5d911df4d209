-- Keys that are texts are compared byte by byte (collate "C"): rows are made and locked in the order of their keys, and that
-- order must be one and the same in the service and in the database, whatever its locale.

-- What is set aside for orders. `goods` maps SKUs to quantities while the order holds them.
create table reservation (
    order_id uuid primary key,
    version bigint not null default 0,
    stage text not null default 'new'
        check (stage in ('new', 'ended', 'rejected', 'reserved', 'committed', 'released')),
    goods jsonb not null default '{}'
        check ((stage in ('reserved', 'committed')) or goods = '{}')
) with (fillfactor = 70);

-- Deliveries of goods that were counted. Without a SKU it is only a lock: a refused delivery leaves its id free.
create table replenishment (
    replenishment_id uuid primary key,
    sku text collate "C",
    quantity integer check (quantity between 1 and 1000000),
    check ((sku is null) = (quantity is null))
) with (fillfactor = 90);

-- Products and their stock. Without a name, a price and a currency it is a SKU that was never listed.
create table stock (
    sku text collate "C" primary key,
    product_version bigint not null default 0,
    stock_version bigint not null default 0,
    name text,
    price_cents bigint check (price_cents between 1 and 999999999999),
    currency text,
    received bigint not null default 0,
    available bigint not null default 0 check (available >= 0),
    reserved bigint not null default 0 check (reserved >= 0),
    committed bigint not null default 0 check (committed >= 0),
    check (received = available + reserved + committed),
    check (num_nulls(name, price_cents, currency) in (0, 3))
) with (fillfactor = 50);
