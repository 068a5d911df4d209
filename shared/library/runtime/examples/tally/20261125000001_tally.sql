create table tally (sku text primary key, pieces bigint not null default 0 check (pieces < 1000000000), version bigint not null default 0);
