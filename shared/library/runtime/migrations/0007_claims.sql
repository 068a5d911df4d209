-- Until then a try is under way, whose outcome may come at any moment: nobody answers in its place. Null between tries.
alter table effect add column claimed_until timestamptz;
