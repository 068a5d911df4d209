//! What the event store promises, on the real PostgreSQL.

use chrono::{TimeZone, Utc};
use quadrille_event_store::{Append, Appended, Error, Event, MIGRATOR, Schema, append, read};
use quadrille_testkit::Database;
use sqlx::PgConnection;
use uuid::Uuid;

const S: Uuid = Uuid::from_u128(0x5);
const T: Uuid = Uuid::from_u128(0x7);

async fn database() -> Database {
    Database::fresh([sqlx::migrate!()]).await
}

fn event(id: u128) -> Event {
    Event {
        id: Uuid::from_u128(id),
        record: "quadrille.order.OrderCreated",
        schema: Schema::new("{\"type\": \"string\"}"),
        payload: id.to_be_bytes().to_vec(),
        cause: Uuid::from_u128(id + 1_000_000),
        time: Utc.timestamp_opt(1_800_000_000, 123_000).single().expect("a time"),
    }
}

fn to(stream: Uuid, expected: i64, ids: impl IntoIterator<Item = u128>) -> Append {
    Append { stream, expected, events: ids.into_iter().map(event).collect() }
}

async fn ids(tx: &mut PgConnection, stream: Uuid) -> Vec<u128> {
    let events = read(tx, stream, 1).await.expect("the stream is read");
    assert!(events.iter().zip(1..).all(|(event, version)| event.version == version), "{events:?}");
    events.iter().map(|event| event.id.as_u128()).collect()
}

#[track_caller]
fn conflict(result: Result<Vec<Appended>, Error>) -> (Uuid, i64, i64) {
    match result {
        Err(Error::Conflict { stream, expected, found }) => (stream, expected, found),
        other => panic!("no conflict: {other:?}"),
    }
}

#[tokio::test]
async fn what_is_appended_is_read_back_from_any_version() -> Result<(), Error> {
    let database = database().await;
    let mut tx = database.pool.begin().await?;
    assert_eq!(append(&mut tx, &[to(S, 0, [1, 2]), to(T, 0, [3])]).await?, [Appended::Now, Appended::Now]);
    assert_eq!(append(&mut tx, &[to(S, 2, [4])]).await?, [Appended::Now]);
    tx.commit().await?;

    let mut connection = database.pool.acquire().await?;
    assert_eq!(ids(&mut connection, S).await, [1, 2, 4]);
    assert_eq!(ids(&mut connection, T).await, [3]);
    let late = read(&mut connection, S, 3).await?;
    let [recorded] = &late[..] else { panic!("{late:?}") };
    let written = event(4);
    assert_eq!((recorded.version, recorded.id, recorded.cause), (3, written.id, written.cause));
    assert_eq!((recorded.record.as_str(), recorded.time), (written.record, written.time));
    assert_eq!((&recorded.payload, &*recorded.schema), (&written.payload, "{\"type\": \"string\"}"));
    assert_eq!(read(&mut connection, S, 4).await?, []);
    assert_eq!(read(&mut connection, Uuid::from_u128(9), 1).await?, []);
    Ok(())
}

#[tokio::test]
async fn nothing_is_there_before_the_callers_commit() -> Result<(), Error> {
    let database = database().await;
    let mut tx = database.pool.begin().await?;
    append(&mut tx, &[to(S, 0, [1])]).await?;
    assert_eq!(ids(&mut *database.pool.acquire().await?, S).await, []);
    tx.rollback().await?;
    assert_eq!(append(&mut *database.pool.acquire().await?, &[to(S, 0, [2])]).await?, [Appended::Now]);
    Ok(())
}

#[tokio::test]
async fn a_conflict_names_what_was_expected_and_what_was_found() -> Result<(), Error> {
    let database = database().await;
    let mut tx = database.pool.begin().await?;
    append(&mut tx, &[to(S, 0, [1, 2, 3])]).await?;
    // Behind, ahead, and of a stream that is not there.
    assert_eq!(conflict(append(&mut tx, &[to(S, 1, [4])]).await), (S, 1, 3));
    assert_eq!(conflict(append(&mut tx, &[to(S, 0, [4])]).await), (S, 0, 3));
    assert_eq!(conflict(append(&mut tx, &[to(S, 5, [4])]).await), (S, 5, 3));
    assert_eq!(conflict(append(&mut tx, &[to(T, 1, [4])]).await), (T, 1, 0));
    // Longer than what is in its way: nothing of it stays behind as a later version.
    assert_eq!(conflict(append(&mut tx, &[to(S, 2, [4, 5, 6])]).await), (S, 2, 3));
    assert_eq!(ids(&mut tx, S).await, [1, 2, 3]);
    Ok(())
}

#[tokio::test]
async fn a_call_is_whole_or_nothing_and_the_transaction_goes_on() -> Result<(), Error> {
    let database = database().await;
    let mut tx = database.pool.begin().await?;
    append(&mut tx, &[to(S, 0, [1])]).await?;
    let both = append(&mut tx, &[to(T, 0, [2, 3]), to(S, 0, [4])]).await;
    assert_eq!(conflict(both), (S, 0, 1));
    assert_eq!(ids(&mut tx, T).await, []);
    append(&mut tx, &[to(T, 0, [2, 3]), to(S, 1, [4])]).await?;
    tx.commit().await?;
    let mut connection = database.pool.acquire().await?;
    assert_eq!((ids(&mut connection, S).await, ids(&mut connection, T).await), (vec![1, 4], vec![2, 3]));
    Ok(())
}

#[tokio::test]
async fn the_very_same_events_again_change_nothing() -> Result<(), Error> {
    let database = database().await;
    let mut tx = database.pool.begin().await?;
    append(&mut tx, &[to(S, 0, [1])]).await?;
    append(&mut tx, &[to(S, 1, [2, 3])]).await?;
    append(&mut tx, &[to(S, 3, [4])]).await?;
    assert_eq!(append(&mut tx, &[to(S, 1, [2, 3])]).await?, [Appended::Already]);
    // Whatever is expected by now.
    assert_eq!(append(&mut tx, &[to(S, 4, [2, 3])]).await?, [Appended::Already]);
    // The answers are in the order of the call.
    let mixed = append(&mut tx, &[to(T, 0, [5]), to(S, 3, [4])]).await?;
    assert_eq!(mixed, [Appended::Now, Appended::Already]);
    assert_eq!(ids(&mut tx, S).await, [1, 2, 3, 4]);
    // Some of them and something new is another append.
    assert_eq!(conflict(append(&mut tx, &[to(S, 3, [4, 6])]).await), (S, 3, 4));
    assert_eq!(ids(&mut tx, S).await, [1, 2, 3, 4]);
    Ok(())
}

#[tokio::test]
async fn a_known_id_with_other_content_is_told() -> Result<(), Error> {
    let database = database().await;
    let mut tx = database.pool.begin().await?;
    append(&mut tx, &[to(S, 0, [1, 2])]).await?;
    let mut changed = to(S, 0, [1, 2]);
    changed.events[1].payload = b"other".to_vec();
    let elsewhere = to(T, 0, [2]);
    let reordered = to(S, 0, [2, 1]);
    for (append_, event, version) in [(changed, 2, 2), (elsewhere, 2, 2), (reordered, 1, 1)] {
        match append(&mut tx, std::slice::from_ref(&append_)).await {
            Err(Error::OtherContent { event: at, stream, version: found }) => {
                assert_eq!((at.as_u128(), stream, found), (event, S, version))
            }
            other => panic!("{append_:?}: {other:?}"),
        }
    }
    assert_eq!((ids(&mut tx, S).await, ids(&mut tx, T).await), (vec![1, 2], vec![]));
    Ok(())
}

#[tokio::test]
async fn a_stream_stands_once_in_a_call() -> Result<(), Error> {
    let database = database().await;
    let mut tx = database.pool.begin().await?;
    let twice = append(&mut tx, &[to(S, 0, [1]), to(S, 1, [2])]).await;
    assert!(matches!(twice, Err(Error::Twice(S))), "{twice:?}");
    assert_eq!(append(&mut tx, &[]).await?, []);
    Ok(())
}

#[tokio::test]
async fn every_event_keeps_the_schema_that_it_was_written_with() -> Result<(), Error> {
    let database = database().await;
    let mut tx = database.pool.begin().await?;
    let mut second = to(S, 1, [2]);
    second.events[0].schema = Schema::new("{\"type\": \"bytes\"}");
    append(&mut tx, &[to(S, 0, [1])]).await?;
    append(&mut tx, &[second]).await?;
    append(&mut tx, &[to(S, 2, [3])]).await?;
    let schemas: Vec<_> = read(&mut tx, S, 1).await?.into_iter().map(|event| event.schema.to_string()).collect();
    assert_eq!(schemas, ["{\"type\": \"string\"}", "{\"type\": \"bytes\"}", "{\"type\": \"string\"}"]);
    let stored: i64 = sqlx::query_scalar("select count(*) from event_schema").fetch_one(&mut *tx).await?;
    assert_eq!(stored, 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_eight_writers_that_expect_the_same_version_one_appends() -> Result<(), Error> {
    let database = database().await;
    for round in 0..25 {
        let writers: Vec<_> = (0..8u128)
            .map(|writer| {
                let pool = database.pool.clone();
                tokio::spawn(async move {
                    let mut tx = pool.begin().await?;
                    let id = 1 + 100 * u128::from(round as u64) + writer * 2;
                    let appended = append(&mut tx, &[to(S, 2 * round, [id, id + 1])]).await?;
                    tx.commit().await?;
                    Ok::<_, Error>(appended)
                })
            })
            .collect();
        let mut won = 0;
        for writer in writers {
            match writer.await.expect("no panic") {
                Ok(appended) => {
                    assert_eq!(appended, [Appended::Now]);
                    won += 1;
                }
                lost => assert_eq!(conflict(lost), (S, 2 * round, 2 * round + 2)),
            }
        }
        assert_eq!(won, 1, "round {round}");
    }
    assert_eq!(ids(&mut *database.pool.acquire().await?, S).await.len(), 50);
    Ok(())
}

/// 10,000 appends by 16 writers to 8 streams, each trying again at a conflict: no version is there twice and none is missing.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_appends_at_once_leave_no_gap_and_no_fork() -> Result<(), Error> {
    const WRITERS: u128 = 16;
    const EACH: u128 = 625;
    let streams: [Uuid; 8] = std::array::from_fn(|at| Uuid::from_u128(0x100 + at as u128));
    let database = database().await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let pool = database.pool.clone();
            tokio::spawn(async move {
                let mut expected = [0i64; 8];
                for number in 0..EACH {
                    let at = ((writer + number) % 8) as usize;
                    loop {
                        let mut tx = pool.begin().await?;
                        match append(&mut tx, &[to(streams[at], expected[at], [1 + writer * EACH + number])]).await {
                            Ok(_) => {
                                tx.commit().await?;
                                expected[at] += 1;
                                break;
                            }
                            Err(Error::Conflict { found, .. }) => expected[at] = found,
                            Err(error) => return Err(error),
                        }
                    }
                }
                Ok::<_, Error>(())
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no panic")?;
    }
    let mut connection = database.pool.acquire().await?;
    let mut all = vec![];
    for stream in streams {
        let events = read(&mut connection, stream, 1).await?;
        let versions: Vec<i64> = events.iter().map(|event| event.version).collect();
        assert_eq!(versions, (1..=events.len() as i64).collect::<Vec<_>>());
        all.extend(events.iter().map(|event| event.id.as_u128()));
    }
    all.sort_unstable();
    assert_eq!(all, (1..=WRITERS * EACH).collect::<Vec<_>>());
    Ok(())
}

/// Eight writers over three streams, each trying again at the version that it was told: nothing is lost, nothing is doubled.
#[tokio::test(flavor = "multi_thread")]
async fn eight_writers_that_try_again_lose_nothing() -> Result<(), Error> {
    const STREAMS: [Uuid; 3] = [S, T, Uuid::from_u128(0x6)];
    const EACH: u128 = 20;
    let database = database().await;
    let writers: Vec<_> = (0..8u128)
        .map(|writer| {
            let pool = database.pool.clone();
            tokio::spawn(async move {
                let mut expected = [0i64; 3];
                for number in 0..EACH {
                    // In another order of streams each: the store sorts them, so nobody waits in a circle.
                    let mut order = [0, 1, 2];
                    order.rotate_left((writer % 3) as usize);
                    loop {
                        let appends = order
                            .map(|at| to(STREAMS[at], expected[at], [1 + writer * 1000 + number * 10 + at as u128]));
                        let mut tx = pool.begin().await?;
                        match append(&mut tx, &appends).await {
                            Ok(_) => {
                                tx.commit().await?;
                                break;
                            }
                            Err(Error::Conflict { stream, found, .. }) => {
                                let at = STREAMS.iter().position(|known| *known == stream).expect("one of ours");
                                expected[at] = found;
                            }
                            Err(error) => return Err(error),
                        }
                    }
                    expected.iter_mut().for_each(|version| *version += 1);
                }
                Ok::<_, Error>(())
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no panic")?;
    }
    let mut connection = database.pool.acquire().await?;
    for (at, stream) in (0u128..).zip(STREAMS) {
        let mut found = ids(&mut connection, stream).await;
        found.sort_unstable();
        let mut expected: Vec<u128> =
            (0..8).flat_map(|writer| (0..EACH).map(move |number| 1 + writer * 1000 + number * 10 + at)).collect();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }
    Ok(())
}

#[test]
fn the_migration_is_there_as_text_and_as_a_migrator() {
    assert_eq!(MIGRATOR.iter().count(), 1);
    assert!(quadrille_event_store::MIGRATION.contains("create table event ("));
}
