-- The generations of a read model: each has its rows in a schema of its own (the first in `public`, number n in gn) and its own positions. The one
-- that serves is the one that began to last, of those that are not dropped.
create table generation (
    number int primary key,
    begun_at timestamptz, -- when what it takes over was taken, in the same transaction
    taken_over bigint, -- so many rows; null where its store takes nothing over
    served_at timestamptz, -- when it had all that its topics hold, and began to answer
    dropped_at timestamptz
);

-- Of a projection that an earlier build has kept.
insert into generation (number, begun_at, served_at) select 1, now(), now() where exists (select from position);

alter table position add column generation int not null default 1;
alter table position drop constraint position_pkey, add primary key (generation, topic, partition);

-- A record that one generation cannot handle another one may.
alter table dead_letter add column generation int not null default 1;
