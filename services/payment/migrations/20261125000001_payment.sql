-- What is known of orders' money. Made empty when an order is first heard of, never removed while anything of it is open.
create table payment (
    order_id uuid primary key,
    version bigint not null default 0 check (version >= 0),
    status text not null default 'new' check (status in (
        'new', 'ended', 'charging', 'charging_cancelled', 'captured', 'declined', 'refunding', 'refunded', 'refund_failed')),
    customer_id uuid,
    amount_cents bigint not null default 0 check (amount_cents >= 0),
    currency text not null default '',
    token text not null default '',
    charge_id text not null default '',
    refunds int not null default 0 check (refunds >= 0),
    changed_at timestamptz not null default clock_timestamp(),
    -- Nothing is charged without a bill, nothing is given back that was not captured.
    check (status in ('new', 'ended', 'declined') or (customer_id is not null and amount_cents > 0)),
    check (status not in ('captured', 'refunding', 'refunded', 'refund_failed') or charge_id <> ''),
    check (status not in ('refunding', 'refunded', 'refund_failed') or refunds > 0)
) with (fillfactor = 70); -- no index but the key: each order's updates stay within their page (HOT)
