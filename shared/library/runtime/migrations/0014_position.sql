-- How far a service that only listens has taken a partition: instead of a row per record in the inbox, and written with the rows that came of it.
create table position (
    topic text not null,
    partition int not null,
    "offset" bigint not null default 0, -- the next record's: one below it was taken
    as_of timestamptz, -- when the partition was last read to its end; null where it never was
    primary key (topic, partition)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
