//! The user service's rows: `migrations/` says what they hold.

mod unique_names;

use quadrille_core::{Fact, changed};
use quadrille_events::{Bytes, Secret, common::Personal};
use quadrille_runtime::{Ended, Store, lock, uuids};
use sqlx::{FromRow, PgConnection, error::BoxDynError};
use uuid::Uuid;

use crate::policy::{Account, NAME, State, Status, USERS, User, Users, VERDICT, Verdict};

/// The user service's database.
#[derive(Clone, Copy, Debug, Default)]
pub struct UserStore;

impl Store for UserStore {
    type Policy = Users;

    const ENDED: Option<Ended> =
        Some(Ended { table: VERDICT, key: "order_id", settled: "verified is not null", booked: "false", beside: None });

    async fn prepare(&self, tx: &mut PgConnection) -> Result<(), BoxDynError> {
        unique_names::refold(tx).await
    }

    async fn load(
        &self,
        tx: &mut PgConnection,
        table: &'static str,
        keys: &[String],
        state: &mut State,
    ) -> sqlx::Result<()> {
        match table {
            USERS => {
                let rows: Vec<UserRow> = lock(
                    tx,
                    &uuids(keys)?,
                    "select user_id, version, status, request_digest, user_name, name, address, email, sealed, profile,
                         password_hash
                     from users where user_id = any($1) order by user_id for update",
                    "insert into users (user_id) select unnest($1::uuid[]) on conflict do nothing",
                )
                .await?;
                for row in rows {
                    state.users.insert(row.user_id.to_string(), row.try_into()?);
                }
            }
            NAME => {
                let rows: Vec<(String, Option<Uuid>)> = lock(
                    tx,
                    keys,
                    "select key, user_id from unique_name where key = any($1) order by key for update",
                    "insert into unique_name (key) select unnest($1::text[]) on conflict do nothing",
                )
                .await?;
                state.names.extend(rows);
            }
            VERDICT => {
                let rows: Vec<(Uuid, i64, Option<bool>)> = lock(
                    tx,
                    &uuids(keys)?,
                    "select order_id, version, verified from verdict
                     where order_id = any($1) order by order_id for update",
                    "insert into verdict (order_id) select unnest($1::uuid[]) on conflict do nothing",
                )
                .await?;
                for (order_id, version, verified) in rows {
                    state.verdicts.insert(order_id.to_string(), Verdict { version, verified });
                }
            }
            other => return Err(sqlx::Error::TypeNotFound { type_name: other.into() }),
        }
        Ok(())
    }

    async fn save(
        &self,
        tx: &mut PgConnection,
        before: &State,
        after: &State,
        _facts: &[Fact<Users>],
    ) -> sqlx::Result<()> {
        let users: Vec<_> = changed(&before.users, &after.users).collect();
        save_users(tx, &users).await?;
        let names: Vec<_> = changed(&before.names, &after.names).collect();
        save_names(tx, &names).await?;
        let verdicts: Vec<_> = changed(&before.verdicts, &after.verdicts).collect();
        save_verdicts(tx, &verdicts).await
    }
}

async fn save_users(tx: &mut PgConnection, users: &[(&String, &User)]) -> sqlx::Result<()> {
    if users.is_empty() {
        return Ok(());
    }
    let keys: Vec<String> = users.iter().map(|(key, _)| (*key).clone()).collect();
    let (mut statuses, mut digests, mut accounts) = (vec![], vec![], vec![]);
    for (_, user) in users {
        let (status, digest, account) = match &user.status {
            Status::Unknown => ("unknown", None, None),
            Status::Rejected { request_digest } => ("rejected", Some(request_digest.as_str()), None),
            Status::Active(account) => ("active", Some(account.request_digest.as_str()), Some(account)),
            Status::Deactivated(account) => ("deactivated", Some(account.request_digest.as_str()), Some(account)),
        };
        statuses.push(status);
        digests.push(digest);
        accounts.push(account);
    }
    let text = |of: fn(&Account) -> Option<&str>| -> Vec<Option<&str>> {
        accounts.iter().map(|account| account.and_then(of)).collect()
    };
    let sealed = |account: &Account| account.personal.sealed.as_ref().map(|sealed| sealed.0.clone());
    sqlx::query(
        "insert into users (user_id, version, status, request_digest, user_name, name, address, email, sealed, profile,
             password_hash)
         select * from unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
             $8::text[], $9::bytea[], $10::text[], $11::text[])
         on conflict (user_id) do update
         set version = excluded.version, status = excluded.status, request_digest = excluded.request_digest,
             user_name = excluded.user_name, name = excluded.name, address = excluded.address, email = excluded.email,
             sealed = excluded.sealed, profile = excluded.profile, password_hash = excluded.password_hash",
    )
    .bind(uuids(&keys)?)
    .bind(users.iter().map(|(_, user)| user.version).collect::<Vec<_>>())
    .bind(statuses)
    .bind(digests)
    .bind(text(|account| Some(&account.user_name)))
    .bind(text(|account| account.personal.name.as_deref()))
    .bind(text(|account| account.personal.address.as_deref()))
    .bind(text(|account| account.personal.email.as_deref()))
    .bind(accounts.iter().map(|account| account.and_then(sealed)).collect::<Vec<_>>())
    .bind(text(|account| Some(&account.profile)))
    .bind(text(|account| account.password_hash.as_ref().map(Secret::expose)))
    .execute(tx)
    .await?;
    Ok(())
}

async fn save_names(tx: &mut PgConnection, names: &[(&String, &Option<Uuid>)]) -> sqlx::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into unique_name (key, user_id) select * from unnest($1::text[], $2::uuid[])
         on conflict (key) do update set user_id = excluded.user_id",
    )
    .bind(names.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>())
    .bind(names.iter().map(|(_, holder)| **holder).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

async fn save_verdicts(tx: &mut PgConnection, verdicts: &[(&String, &Verdict)]) -> sqlx::Result<()> {
    if verdicts.is_empty() {
        return Ok(());
    }
    let keys: Vec<String> = verdicts.iter().map(|(key, _)| (*key).clone()).collect();
    sqlx::query(
        "insert into verdict (order_id, version, verified) select * from unnest($1::uuid[], $2::bigint[], $3::boolean[])
         on conflict (order_id) do update set version = excluded.version, verified = excluded.verified, changed_at = clock_timestamp()",
    )
    .bind(uuids(&keys)?)
    .bind(verdicts.iter().map(|(_, verdict)| verdict.version).collect::<Vec<_>>())
    .bind(verdicts.iter().map(|(_, verdict)| verdict.verified).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

#[derive(FromRow)]
struct UserRow {
    user_id: Uuid,
    version: i64,
    status: String,
    request_digest: Option<String>,
    user_name: Option<String>,
    name: Option<String>,
    address: Option<String>,
    email: Option<String>,
    sealed: Option<Vec<u8>>,
    profile: Option<String>,
    password_hash: Option<String>,
}

impl TryFrom<UserRow> for User {
    type Error = sqlx::Error;

    fn try_from(row: UserRow) -> sqlx::Result<Self> {
        let account = match (&row.request_digest, row.user_name, row.profile) {
            (Some(request_digest), Some(user_name), Some(profile)) => Some(Account {
                request_digest: request_digest.clone(),
                user_name,
                personal: Personal {
                    name: row.name,
                    address: row.address,
                    email: row.email,
                    sealed: row.sealed.map(Bytes),
                },
                profile,
                password_hash: row.password_hash.map(Secret::new),
            }),
            _ => None,
        };
        let status = match (row.status.as_str(), row.request_digest, account) {
            ("unknown", None, None) => Status::Unknown,
            ("rejected", Some(request_digest), None) => Status::Rejected { request_digest },
            ("active", _, Some(account)) => Status::Active(account),
            ("deactivated", _, Some(account)) => Status::Deactivated(account),
            (status, ..) => {
                let broken = format!("user {} is '{status}' without what belongs to it", row.user_id);
                return Err(sqlx::Error::Decode(broken.into()));
            }
        };
        Ok(Self { version: row.version, status })
    }
}
