-- A row goes some time after its last change, once it has ended: see `ENDED` in src/store.rs. A block range index leaves updates within
-- their page (HOT), and is small.
create index notice_changed_at on notice using brin (changed_at);
