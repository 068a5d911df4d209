//! The user service's rows on the real PostgreSQL.

mod common;

use common::*;
use quadrille_core::{Claims, Envelope, Input, Moment, Policy, Processed, Records, Row, Trace, ids, process};
use quadrille_events::{Bytes, Secret, Uuid, common::Personal};
use quadrille_runtime::Store;
use quadrille_testkit::{Database, start};
use quadrille_user::{
    Heard, State, Stated, Users,
    policy::{Account, NAME, Status, USERS, User, VERDICT, Verdict},
    store::UserStore,
};
use sqlx::PgConnection;

async fn database() -> Database {
    Database::fresh([sqlx::migrate!()]).await
}

async fn load(tx: &mut PgConnection, rows: &[Row]) -> sqlx::Result<State> {
    let mut state = State::default();
    for table in Users::TABLES {
        let mut keys: Vec<String> = rows.iter().filter(|row| row.table == *table).map(|row| row.key.clone()).collect();
        keys.sort();
        UserStore.load(tx, table, &keys, &mut state).await?;
    }
    Ok(state)
}

fn id(number: u128) -> String {
    Uuid::from_u128(number).to_string()
}

#[tokio::test]
async fn every_shape_of_a_row_comes_back_as_it_was_saved() -> sqlx::Result<()> {
    let account = |personal: Personal, password_hash: Option<&str>| Account {
        request_digest: "abc".into(),
        user_name: "Ren\u{e9} \u{1f600}".into(),
        personal,
        profile: "{\"a\": \"\\u0000\"}".into(),
        password_hash: password_hash.map(Secret::new),
    };
    let sealed = Personal { sealed: Some(Bytes(vec![0, 255])), ..Personal::default() };
    let statuses = [
        Status::Unknown,
        Status::Rejected { request_digest: "abc".into() },
        Status::Active(account(personal("Ann@example.com"), Some(HASH))),
        Status::Active(account(sealed, Some(HASH))),
        Status::Deactivated(account(Personal::default(), None)),
    ];
    let users = (0..).zip(statuses).map(|(number, status)| (id(number), User { version: 3, status }));
    let saved = State {
        users: users.collect(),
        names: [
            ("email:ann@example.com".to_owned(), Some(ANN)),
            ("name:free".to_owned(), None),
            (format!("name:{}", "\u{1f600}".repeat(500)), Some(BOB)),
        ]
        .into(),
        verdicts: [None, Some(true), Some(false)]
            .into_iter()
            .enumerate()
            .map(|(number, verified)| (id(number as u128), Verdict { version: 1, verified }))
            .collect(),
    };
    let rows: Vec<Row> = saved
        .users
        .keys()
        .map(|key| Row::new(USERS, key))
        .chain(saved.names.keys().map(|key| Row::new(NAME, key)))
        .chain(saved.verdicts.keys().map(|key| Row::new(VERDICT, key)))
        .collect();

    let database = database().await;
    for _ in 0..2 {
        // The first time rows are made, the second time they are there.
        let mut tx = database.pool.begin().await?;
        let before = load(&mut tx, &rows).await?;
        UserStore.save(&mut tx, &before, &saved, &[]).await?;
        tx.commit().await?;
        assert_eq!(load(&mut *database.pool.acquire().await?, &rows).await?, saved);
    }
    Ok(())
}

/// One input, as the runtime takes it through the store.
async fn take(tx: &mut PgConnection, heard: Heard) -> sqlx::Result<Processed<Users>> {
    let id = ids::v5(&["store", &heard.key()]);
    let input =
        Envelope { id, cause: id, key: heard.key(), version: 0, trace: Trace::default(), input: Input::Record(heard) };
    let mut state = State::default();
    for table in Users::TABLES {
        let rows = Users::rows(&state, &input).into_iter().filter(|row| row.table == *table);
        let mut keys: Vec<String> = rows.map(|row| row.key).collect();
        keys.sort();
        UserStore.load(tx, table, &keys, &mut state).await?;
    }
    let before = state.clone();
    let moment = Moment { now: start(), claims: Claims::default() };
    let processed = process(&mut state, false, &moment, &input);
    UserStore.save(tx, &before, &state, &processed.facts).await?;
    Ok(processed)
}

/// Eight registrations of one name at once, spelled alike and differently: one user has it, the others are told.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_given_once_however_many_ask_at_once() -> sqlx::Result<()> {
    let database = database().await;
    for round in 0..10u128 {
        let spellings = ["ann", "Ann", "ANN", "\u{ff21}nn", "ann", "aNN", "ann ", "anN\u{3000}"];
        let askers: Vec<_> = (0..)
            .zip(spellings)
            .map(|(asker, spelling)| {
                let pool = database.pool.clone();
                let asked = registration(
                    Uuid::from_u128(round * 100 + asker),
                    &format!("{round}{spelling}"),
                    &format!("{asker}@{round}.example"),
                );
                tokio::spawn(async move {
                    let mut tx = pool.begin().await?;
                    let processed = take(&mut tx, asked.into()).await?;
                    tx.commit().await?;
                    Ok::<_, sqlx::Error>(processed)
                })
            })
            .collect();
        let mut registered = 0;
        for asker in askers {
            let processed = asker.await.expect("no panic")?;
            match &processed.facts[0].record {
                Stated::UserRegistered(_) => registered += 1,
                Stated::UserRegistrationRejected(rejected) => assert_eq!(rejected.reason, "user_name_taken"),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(registered, 1, "round {round}");
    }
    Ok(())
}
