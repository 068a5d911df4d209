-- A request that the service makes has neither version nor cause. An older relay stops at such a row.
alter table outbox
    alter column version drop not null,
    alter column causation_id drop not null,
    add constraint outbox_order check ((version is null) = (causation_id is null));
-- How many events there are on platform.events of the row: the next one's version is one more.
alter table dead_letter add column told bigint not null default 0;
alter table effect add column told bigint not null default 0;
