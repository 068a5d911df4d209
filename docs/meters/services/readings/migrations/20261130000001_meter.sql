create table meter (
    meter text collate "C" primary key,
    watt_hours bigint not null default 0,
    version bigint not null default 0
);
