-- Unique names are folded by Unicode's NFKC_Casefold. SQL has none, so `quadrille-user migrate` moves the names of existing users
-- before it comes here (src/store/unique_names.rs); a new database has none yet. The table has another name than before: an older
-- instance, which folds otherwise, stands still instead of writing.
do $$
begin
    if to_regclass('name') is not null then
        if exists (select from name where user_id is not null) then
            raise exception 'names are moved by `quadrille-user migrate`, not by this file alone: run that';
        end if;
        drop table name;
    end if;
end
$$;

-- `name:` or `email:` and the normal form. A row without a user is a name that is free.
create table if not exists unique_name (
    key text collate "C" primary key,
    user_id uuid
) with (fillfactor = 90);
