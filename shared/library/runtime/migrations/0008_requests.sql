-- A request's id as builds spelled it that did not yet count its type in: `current_id` is the id that it has now. Entered beside that, so that
-- older instances of a group know the request too; of no use once no request topic has a record from before the upgrade.
alter table inbox add column current_id uuid;

-- An offset that a person has the service pass over: whichever instance has the partition does it. See operator_action for what came of it.
create table skipped_offset (
    topic text not null,
    partition int not null,
    "offset" bigint not null,
    at timestamptz not null default clock_timestamp(),
    who text not null,
    why text not null,
    primary key (topic, partition, "offset")
);
