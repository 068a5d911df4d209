-- What every service's database holds beside the service's own rows. docs/architecture.md walks through them.

-- Inputs that took effect: records, timers and outcomes, by their id. Kept longer than whatever can bring an input back.
create table inbox (
    id uuid primary key,
    at timestamptz not null default clock_timestamp()
);
create index inbox_at on inbox using brin (at);

-- Facts that are committed and not yet acknowledged by the broker. A number is drawn only after the locks of the fact's rows
-- are held, so per key the order of numbers is the order of versions. The relay removes a row by its id, after its acknowledgement.
create table outbox (
    id bigint generated always as identity primary key,
    topic text not null,
    key text not null,
    event_id uuid not null,
    type text not null,
    version bigint not null,
    causation_id uuid not null,
    time timestamptz not null,
    traceparent text not null,
    tracestate text not null,
    payload bytea not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);

-- What the outside is asked to do. `tries` above 0 means claimed: from then on only an outcome ends it, no withdrawal.
create table effect (
    id uuid primary key,
    seq bigint generated always as identity,
    key text not null,
    kind text not null,
    name text not null,
    effect jsonb not null,
    causation_id uuid not null,
    traceparent text not null,
    tracestate text not null,
    wanted_at timestamptz not null default clock_timestamp(),
    due timestamptz not null default clock_timestamp(),
    tries int not null default 0,
    first_tried_at timestamptz,
    last_answer text,
    parked_at timestamptz
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
create index effect_key on effect (key, kind, seq);
create index effect_due on effect (due) where parked_at is null;

-- What the clock will say. Removed in the transaction of its reaction.
create table timer (
    id uuid primary key,
    key text not null,
    name text not null,
    timer jsonb not null,
    causation_id uuid not null,
    traceparent text not null,
    tracestate text not null,
    due timestamptz not null,
    next_try timestamptz not null,
    tries int not null default 0,
    last_failure text,
    unique (key, name)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
create index timer_next_try on timer (next_try);

-- Records that could not be handled, with the original. The row is committed before the offset moves on.
create table dead_letter (
    id uuid primary key,
    input_id uuid,
    topic text not null,
    partition int not null,
    "offset" bigint not null,
    record_time timestamptz not null,
    record_type text not null,
    key bytea,
    value bytea,
    value_size bigint not null,
    value_digest text not null,
    headers jsonb not null,
    withheld boolean not null,
    reason text not null,
    field text not null,
    detail text not null,
    holds text, -- the key that waits behind it: a decoded event of an .events topic whose handling failed
    attempts int not null default 1,
    failed_at timestamptz not null default clock_timestamp(),
    published_at timestamptz,
    closed_at timestamptz,
    closed_how text,
    closed_by text,
    closed_why text
);
create index dead_letter_unpublished on dead_letter (failed_at) where published_at is null;
create index dead_letter_holds on dead_letter (topic, holds) where closed_at is null and holds is not null;

-- One owner of the relay at a time, on this database's clock.
create table lease (
    name text primary key,
    owner text not null,
    pid int not null,
    beat timestamptz not null
);
