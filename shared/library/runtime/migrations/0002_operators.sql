-- What a person asked of this service on platform.requests, and what came of it.
create table operator_action (
    id uuid primary key, -- the request's input id
    at timestamptz not null default clock_timestamp(),
    what text not null, -- redrive, discard, answer
    who text not null,
    why text not null,
    result text not null, -- done, refused
    detail text not null
);

-- A dead letter with `next_try` is handled again once that has passed and nothing of its key stands open before it.
alter table dead_letter
    add column next_try timestamptz,
    add column redriven_by text,
    add column redriven_why text;
create index dead_letter_next_try on dead_letter (next_try) where closed_at is null and next_try is not null;
create index dead_letter_open on dead_letter (topic, partition, "offset") where closed_at is null;
create index effect_parked on effect (parked_at) where parked_at is not null;
