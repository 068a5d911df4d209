-- A row goes some time after its last change, once it has ended: see `ENDED` in src/store.rs. A block range index leaves updates within
-- their page (HOT), and is small.
-- What is there already counts from now on. `now()` is one value for all rows, so that none is written anew.
alter table orders add column changed_at timestamptz not null default now();
alter table orders alter column changed_at set default clock_timestamp();
create index orders_changed_at on orders using brin (changed_at);
