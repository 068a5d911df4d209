-- The generations of a read model: each has its rows and positions in a schema of its own (the first in `public`, number n in gn). The one that
-- serves is the one that began to last, of those that are not dropped.
--
-- Instances of a build that knows none go on while a newer build fills its own, so what they read and write means what it meant: `position` is the
-- first generation's and has its old shape, and `next_try` is that of its letters.
create table generation (
    number int primary key,
    begun_at timestamptz, -- when what it takes over was taken, in the same transaction
    taken_over bigint, -- so many rows; null where its store takes nothing over
    served_at timestamptz, -- when it had all that its topics hold, and began to answer
    dropped_at timestamptz -- its number is not given again
);

-- Of a projection that an earlier build has kept.
insert into generation (number, begun_at, served_at) select 1, now(), now() where exists (select from position);

-- A record that one generation cannot handle another one may. When a later one's letter is tried again stands in `due`, whoever says so: an
-- earlier build hands on whatever has a `next_try`, and would handle it in the first generation's rows.
alter table dead_letter add column generation int not null default 1, add column due timestamptz;
create index dead_letter_due on dead_letter (generation, coalesce(next_try, due))
    where closed_at is null and coalesce(next_try, due) is not null;

create function due_in_a_later_generation() returns trigger language plpgsql as $$
begin
    new.due := new.next_try;
    new.next_try := null;
    return new;
end $$;
create trigger due_in_a_later_generation before insert or update of next_try on dead_letter
    for each row when (new.generation > 1) execute function due_in_a_later_generation();
