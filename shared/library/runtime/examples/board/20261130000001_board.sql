create table stock (
    sku text collate "C" primary key, pieces bigint not null default 0, version bigint not null default 0, taken bigint not null default 0);
create table instance (name text collate "C" primary key, status text not null default '');
create table letters (service text collate "C" primary key, count bigint not null default 0);
