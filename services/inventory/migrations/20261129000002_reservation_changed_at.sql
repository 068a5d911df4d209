-- A row goes some time after its last change, once it has ended: see `ENDED` in src/store.rs. A block range index leaves updates within
-- their page (HOT), and is small.
-- What is there already counts from now on. `now()` is one value for all rows, so that none is written anew.
alter table reservation add column changed_at timestamptz not null default now();
alter table reservation alter column changed_at set default clock_timestamp();
create index reservation_changed_at on reservation using brin (changed_at);
