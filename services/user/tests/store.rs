//! The user service's rows on the real PostgreSQL.

mod common;

use std::sync::Arc;

use common::*;
use proptest::prelude::*;
use quadrille_core::Policy;
use quadrille_events::Uuid;
use quadrille_runtime::{Batches, Config, Removed, Service, config::NoSettings, remove_ended};
use quadrille_testkit::{Database, conforms, record, stated};
use quadrille_user::{Stated, Users, policy::Status, store::UserStore};
use sqlx::migrate::Migrator;

async fn database() -> Database {
    let database = Database::fresh([]).await;
    migrate(&database).await.expect("migrated");
    database
}

fn id(number: u128) -> String {
    Uuid::from_u128(number).to_string()
}

#[tokio::test]
async fn the_store_comes_to_what_the_memory_comes_to() {
    // Who is deactivated stays so: enough of them that some are active at any time.
    let user = |number: u128| Uuid::from_u128(0xa0 + number % 12);
    let story = prop_oneof![
        8 => anything((0..12_u128).prop_map(user)),
        // A name that is free: others stay with whoever had them at the end.
        1 => (0..12_u128, 0..1_000).prop_map(move |(at, name)| renamed(user(at), &format!("name {name}")).into()),
        1 => (0..0x60_u128).prop_map(move |order| created(Uuid::from_u128(0x1000 + order), user(order)).into()),
    ];
    let states = conforms(&database().await, UserStore, story, &[]).await;
    let seen = |is: fn(&Status) -> bool| states.iter().any(|state| state.users.values().any(|user| is(&user.status)));
    assert!(seen(|status| *status == Status::Unknown) && seen(|status| matches!(status, Status::Rejected { .. })));
    assert!(seen(|status| matches!(status, Status::Active(account) if account.personal.sealed.is_some())));
    assert!(seen(|status| matches!(status, Status::Active(account) if account.personal.address.is_some())));
    assert!(seen(|status| matches!(status, Status::Deactivated(_))));
    let verdicts = || states.iter().flat_map(|state| state.verdicts.values()).filter_map(|verdict| verdict.verified);
    assert!(verdicts().any(|verified| verified) && verdicts().any(|verified| !verified));
    assert!(states.iter().any(|state| state.names.values().any(Option::is_none)), "no name was ever given back");
}

/// Eight registrations of one name at once, spelled alike and differently: one user has it, the others are told.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_given_once_however_many_ask_at_once() -> Result<(), Box<dyn std::error::Error>> {
    let database = database().await;
    let batches = Arc::new(Batches::over(&database.url(), UserStore).await?);
    for round in 0..10u128 {
        let spellings = ["ann", "Ann", "ANN", "\u{ff21}nn", "ann", "aNN", "ann ", "anN\u{3000}"];
        let askers = (round * 100..).zip(spellings).map(|(asker, spelling)| {
            let user = Uuid::from_u128(asker);
            let asked = registration(user, &format!("{round}{spelling}"), &format!("{asker}@{round}.example"));
            let (batches, asked) = (Arc::clone(&batches), record(asker as usize, asked.into()));
            tokio::spawn(async move { batches.commit([asked]).await })
        });
        for asker in askers.collect::<Vec<_>>() {
            asker.await??;
        }
        let mut registered = 0;
        for fact in stated::<Users>(&database.pool).await.into_iter().skip(round as usize * spellings.len()) {
            match &fact.record {
                Stated::UserRegistered(_) => registered += 1,
                Stated::UserRegistrationRejected(rejected) => assert_eq!(rejected.reason, "user_name_taken"),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(registered, 1, "round {round}");
    }
    Ok(())
}

/// The former build's database, with users (id, user name, e-mail, status) whose names it folded in its way.
async fn former(users: &[(u128, &str, Option<&str>, &str)]) -> sqlx::Result<Database> {
    let all = sqlx::migrate!();
    let formers = all.iter().filter(|migration| migration.version == 20_261_125_000_001).cloned().collect();
    let database = Database::fresh([Migrator::with_migrations(formers)]).await;
    for (number, user_name, email, status) in users {
        let id = Uuid::from_u128(*number);
        sqlx::query(
            "insert into users (user_id, status, request_digest, user_name, email, profile) values ($1, $2, 'abc', $3, $4, '{}')",
        )
        .bind(id)
        .bind(status)
        .bind(user_name)
        .bind(email)
        .execute(&database.pool)
        .await?;
        for key in
            [Some(format!("name:{user_name}")), email.map(|email| format!("email:{email}"))].into_iter().flatten()
        {
            let hold = "insert into name (key, user_id) values ($1, $2)";
            sqlx::query(hold).bind(key.to_lowercase()).bind(id).execute(&database.pool).await?;
        }
    }
    Ok(database)
}

async fn migrate(database: &Database) -> Result<(), String> {
    let service = Service::new(UserStore).migrations(&sqlx::migrate!());
    service.migrate(&database.url()).await.map_err(|error| format!("{error:#}"))
}

#[tokio::test]
async fn names_that_are_one_by_todays_rule_are_told_and_nobody_is_renamed() -> sqlx::Result<()> {
    let users = [
        (1, "ann", Some("ann@example.com"), "active"),
        (2, "an\u{ad}n", Some("other@example.com"), "active"),
        (3, "cat", Some("ann\u{200b}@example.com"), "deactivated"),
        (4, "\u{200b}\u{2060}", None, "active"),
        (5, "Dora", None, "active"),
        // Neither can be renamed, and the name stays taken.
        (6, "eve", None, "deactivated"),
        (7, "eve\u{3164}", None, "deactivated"),
        (8, "\u{3164}", None, "deactivated"),
    ];
    let database = former(&users).await?;
    let refused = migrate(&database).await.expect_err("three problems");
    for told in [
        format!("{} and {} have one user_name", id(1), id(2)),
        format!("{} and {} have one personal.email", id(1), id(3)),
        format!("nothing is left of the user_name of {}", id(4)),
        "Nothing was changed".to_owned(),
    ] {
        assert!(refused.contains(&told), "{refused}");
    }
    assert!((5..=8).all(|other| !refused.contains(&id(other))), "of the others nothing is wrong: {refused}");
    assert!(!refused.contains("ann") && !refused.contains('@'), "names are personal data: {refused}");

    let mut connection = database.pool.acquire().await?;
    let count = |table: &str| format!("select count(*) from {table}");
    let names: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(count("name"))).fetch_one(&mut *connection).await?;
    assert_eq!(names, 11, "the former build goes on");
    let applied = "select count(*) from _sqlx_migrations where version > 20261125000001";
    assert_eq!(sqlx::query_scalar::<_, i64>(applied).fetch_one(&mut *connection).await?, 0);

    // What a person had the former build do.
    sqlx::raw_sql(
        "update users set user_name = 'ann two' where user_name = 'an\u{ad}n'; update users set email = null where status = 'active';
         update users set user_name = 'four' where user_name = '\u{200b}\u{2060}'",
    )
    .execute(&mut *connection)
    .await?;
    migrate(&database).await.expect("nothing is wrong any more");
    migrate(&database).await.expect("a second time there is nothing to do");
    let held: Vec<(String, Uuid)> =
        sqlx::query_as("select key, user_id from unique_name order by key").fetch_all(&mut *connection).await?;
    let expected = [
        ("email:ann@example.com", 3),
        ("name:ann", 1),
        ("name:ann two", 2),
        ("name:cat", 3),
        ("name:dora", 5),
        ("name:eve", 6),
        ("name:four", 4),
    ];
    let expected = expected.map(|(key, user)| (key.to_owned(), Uuid::from_u128(user)));
    assert_eq!(held, expected);
    // An older instance misses its table: for the runtime that passes, so it waits and nothing becomes a dead letter.
    let missed = sqlx::query("insert into name (key) values ('name:x')").execute(&mut *connection).await;
    let code = missed.err().and_then(|error| error.as_database_error()?.code().map(|code| code.into_owned()));
    assert_eq!(code.as_deref(), Some("42P01"));
    Ok(())
}

/// More users than one statement takes, a collision across two of them.
#[tokio::test]
async fn all_users_are_looked_at() -> sqlx::Result<()> {
    let database = former(&[(1, "ann", None, "active")]).await?;
    sqlx::raw_sql(
        "insert into users (user_id, status, request_digest, user_name, profile)
         select gen_random_uuid(), 'active', 'abc', 'user ' || n, '{}' from generate_series(1, 2500) n;
         insert into users (user_id, status, request_digest, user_name, profile)
         values ('ffffffff-0000-4000-8000-000000000000', 'active', 'abc', 'a\u{200b}nn', '{}')",
    )
    .execute(&database.pool)
    .await?;
    let refused = migrate(&database).await.expect_err("the first and the last");
    assert!(
        refused.contains(&format!("{} and ffffffff-0000-4000-8000-000000000000 have one user_name", id(1))),
        "{refused}"
    );
    sqlx::raw_sql("update users set user_name = 'other' where user_name = 'a\u{200b}nn'")
        .execute(&database.pool)
        .await?;
    migrate(&database).await.expect("nothing is wrong any more");
    let held: i64 = sqlx::query_scalar("select count(*) from unique_name").fetch_one(&database.pool).await?;
    assert_eq!(held, 2502);
    Ok(())
}

#[tokio::test]
async fn the_file_alone_does_not_lose_the_names_that_are_held() -> sqlx::Result<()> {
    let database = former(&[(1, "ann", None, "active")]).await?;
    let refused = sqlx::migrate!().run(&database.pool).await.expect_err("names are held");
    assert!(refused.to_string().contains("quadrille-user migrate"), "{refused}");
    let empty = former(&[]).await?;
    sqlx::migrate!().run(&empty.pool).await.map_err(|error| sqlx::Error::Migrate(Box::new(error)))
}

/// What an instance does each hour: an order's rows go, once nothing can come of them any more.
#[tokio::test]
async fn verdicts_go_and_users_stay() -> Result<(), Box<dyn std::error::Error>> {
    let database = database().await;
    sqlx::raw_sql(
        "insert into verdict (order_id, verified, changed_at)
         select gen_random_uuid(), verified, clock_timestamp() - make_interval(days => days)
         from unnest(array[true, false, null]) as verified, unnest(array[89, 91]) as days;
         insert into users (user_id, status, request_digest) values (gen_random_uuid(), 'rejected', 'abc')",
    )
    .execute(&database.pool)
    .await?;
    let retention = Config::<NoSettings>::of(Users::SERVICE).retention;
    let removed = remove_ended::<UserStore>(&mut *database.pool.acquire().await?, &retention).await?;
    assert_eq!(removed, Removed { rows: 2, is_full: false });
    let left: Vec<String> = sqlx::query_scalar(
        "select verified || ' ' ||
             string_agg(round(extract(epoch from clock_timestamp() - changed_at) / 86400)::text, ' ' order by changed_at desc)
         from (select coalesce(verified::text, 'none') as verified, changed_at from verdict) as verdict group by verified order by verified",
    )
    .fetch_all(&database.pool)
    .await?;
    assert_eq!(left, ["false 89", "none 89 91", "true 89"]);
    let users: i64 = sqlx::query_scalar("select count(*) from users").fetch_one(&database.pool).await?;
    assert_eq!(users, 1);
    Ok(())
}
