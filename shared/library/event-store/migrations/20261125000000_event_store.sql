-- Streams of events. A stream is one aggregate, named by its id; its events are numbered 1, 2, 3 ... without gaps.
create table event (
    stream uuid not null,
    version bigint not null check (version > 0),
    event_id uuid not null unique,
    record text not null,
    schema bigint not null,
    payload bytea not null,
    causation_id uuid not null,
    time timestamptz not null,
    primary key (stream, version)
);

-- The schemas that payloads were written with, each once: a datum cannot be read without its writer's schema, and streams
-- outlive the versions of their records.
create table event_schema (
    fingerprint bigint primary key,
    text text not null
);
