create table replenishment (
    id text collate "C" primary key, sku text not null default '', quantity integer not null default 0, came boolean not null default false,
    changed_at timestamptz not null default clock_timestamp());
