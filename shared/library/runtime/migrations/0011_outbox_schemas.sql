-- A fact's row keeps its datum and what it was written with: the relay frames it with the id that the registry has for that text, so that a
-- commit needs no registry. `payload` is of older builds, framed already; an older relay stops at a row without one.
create table stated_schema (
    fingerprint bigint primary key,
    subject text not null,
    text text not null
);
alter table outbox
    alter column payload drop not null,
    add column datum bytea,
    add column schema bigint,
    add constraint outbox_value check ((payload is null) = (datum is not null and schema is not null));
