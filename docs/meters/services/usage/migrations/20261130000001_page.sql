create table page (
    meter text collate "C" primary key,
    used bigint not null default 0,
    measured bigint not null default 0,
    refused bigint not null default 0,
    version bigint not null default 0
);
