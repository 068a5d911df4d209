create table shelf (
    sku text collate "C" primary key, last bigint not null default 0, version bigint not null default 0,
    sum bigint not null default 0, summed bigint not null default 0, taken bigint not null default 0);
