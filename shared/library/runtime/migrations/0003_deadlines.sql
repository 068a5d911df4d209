-- A business deadline fires only once what the service hears is read: see the contract's rule 4.
alter table timer add column deadline boolean not null default false;
create index timer_deadline on timer (next_try) where deadline;
