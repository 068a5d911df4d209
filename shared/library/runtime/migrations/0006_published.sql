-- How far this database knows each partition of the topics that the service writes. Written in the transaction that removes what the broker
-- has acknowledged. What lies beyond, is the service's own and is not in the outbox is news: then the database is older than its topic, and
-- the relay publishes nothing.
create table published (
    topic text not null,
    partition int not null,
    "offset" bigint not null, -- of the last record that is known; -1 where there is none
    disagrees text, -- what the relay has found, until topic and database agree or a person accepts the topic as it is
    primary key (topic, partition)
) with (fillfactor = 50);

-- The last owner that noted what it published. Where it is another one than the owner, one of an older build has published since, and the topics
-- are taken as they are.
alter table lease add column noted_by text;
