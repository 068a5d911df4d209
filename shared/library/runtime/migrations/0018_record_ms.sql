-- A record's timestamp in milliseconds as it came, whatever its client has put there: `record_time` has it within the years that it can hold, for
-- people. Null of a letter that an earlier build has kept.
alter table dead_letter add column record_ms bigint;
