//! Brings unique names under the rule of today before the migrations run: PostgreSQL has no NFKC_Casefold.

use std::fmt;

use quadrille_events::common::Personal;
use sqlx::{PgConnection, error::BoxDynError};
use uuid::Uuid;

use crate::policy::names::{Name, names, normal};

/// Users of one statement.
const BATCH: i64 = 1_000;
/// How many problems are told of.
const TOLD: usize = 20;

/// Moves the names of all users from `name`, the table of the former rule, to `unique_name`.
///
/// Whose names are one by today's rule is told, and then nothing is changed: nobody is renamed behind their back. In a new database, and
/// in one that has been moved, there is nothing to do.
pub(super) async fn refold(tx: &mut PgConnection) -> Result<(), BoxDynError> {
    if !sqlx::query_scalar("select to_regclass('name') is not null").fetch_one(&mut *tx).await? {
        return Ok(());
    }
    // Nobody takes a name meanwhile. An older instance waits here; afterwards it misses its table, writes nothing by the former rule, and
    // has lost nothing when a newer one takes over.
    sqlx::query("lock table name in access exclusive mode").execute(&mut *tx).await?;
    let make = "create table unique_name (key text collate \"C\" primary key, user_id uuid) with (fillfactor = 90)";
    sqlx::query(make).execute(&mut *tx).await?;

    let mut problems = Problems::default();
    let mut last = None;
    loop {
        let users: Vec<(Uuid, String, Option<String>, bool)> = sqlx::query_as(
            "select user_id, user_name, email, status = 'active' from users
             where user_name is not null and ($1::uuid is null or user_id > $1) order by user_id limit $2",
        )
        .bind(last)
        .bind(BATCH)
        .fetch_all(&mut *tx)
        .await?;
        let Some((user_id, ..)) = users.last() else { break };
        last = Some(*user_id);
        let unseen = users.iter().filter(|(_, user_name, _, is_active)| *is_active && normal(user_name).is_none());
        unseen.for_each(|(user_id, ..)| problems.add(format!("nothing is left of the user_name of {user_id}")));
        take(tx, &users, &mut problems).await?;
    }
    if problems.count > 0 {
        return Err(problems.to_string().into());
    }
    sqlx::query("drop table name").execute(&mut *tx).await?;
    Ok(())
}

async fn take(
    tx: &mut PgConnection,
    users: &[(Uuid, String, Option<String>, bool)],
    problems: &mut Problems,
) -> sqlx::Result<()> {
    let held = users.iter().flat_map(|(user_id, user_name, email, _)| {
        let personal = Personal { email: email.clone(), ..Personal::default() };
        names(user_name, &personal).into_iter().map(|Name { key, .. }| (key, *user_id))
    });
    let (keys, holders): (Vec<String>, Vec<Uuid>) = held.unzip();
    sqlx::query("insert into unique_name select * from unnest($1::text[], $2::uuid[]) on conflict do nothing")
        .bind(&keys)
        .bind(&holders)
        .execute(&mut *tx)
        .await?;
    // Of two users who are both deactivated neither can be renamed, and neither has to be: the name stays taken.
    let taken: Vec<(bool, Uuid, Uuid)> = sqlx::query_as(
        "select starts_with(key, 'name:'), first.user_id, second.user_id
         from unnest($1::text[], $2::uuid[]) as wanted (key, user_id) join unique_name using (key)
             join users first on first.user_id = unique_name.user_id join users second on second.user_id = wanted.user_id
         where first.user_id <> second.user_id and 'active' in (first.status, second.status)
         order by second.user_id, key",
    )
    .bind(&keys)
    .bind(&holders)
    .fetch_all(&mut *tx)
    .await?;
    for (is_name, first, second) in taken {
        let field = if is_name { "user_name" } else { "personal.email" };
        problems.add(format!("{first} and {second} have one {field}"));
    }
    Ok(())
}

/// What keeps names from being moved: the first of it, and how much there is. Users' ids only, since names are personal data.
#[derive(Default)]
struct Problems {
    told: Vec<String>,
    count: usize,
}

impl Problems {
    fn add(&mut self, problem: String) {
        self.count += 1;
        if self.told.len() < TOLD {
            self.told.push(problem);
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = match self.count - self.told.len() {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        write!(
            to,
            "unique names are compared without characters that nobody sees from this build on, and by that rule {}{more}. \
             Nothing was changed, and the former build goes on: have it rename one of each, if active \
             (UserProfileUpdateRequested), and migrate again",
            self.told.join("; ")
        )
    }
}
