-- What is known of orders' parcels. Made empty when an order is first heard of, never removed while anything of it is open.
create table shipment (
    order_id uuid primary key,
    version bigint not null default 0 check (version >= 0),
    status text not null default 'new' check (status in (
        'new', 'handing', 'handing_recalled', 'dispatched', 'recalling', 'aborted', 'delivered', 'recalled')),
    tracking_id text not null default '',
    asked int not null default 0 check (asked >= 0),
    changed_at timestamptz not null default clock_timestamp(),
    -- A parcel is followed and called back by its name.
    check (status not in ('dispatched', 'recalling', 'delivered', 'recalled') or tracking_id <> '')
) with (fillfactor = 70); -- no index but the key: each order's updates stay within their page (HOT)
