//! What cannot be handled stops only itself.

use std::time::Duration;

use crate::support::{Shop, assert_order, distinct, quantities};
use quadrille_core::Record as _;
use quadrille_events::StockReplenishmentRequested;
use quadrille_platform::{DeadLetter, RedriveRequested};
use quadrille_testkit::{Direction, Proxy, decoded};
use rdkafka::producer::FutureRecord;
use uuid::Uuid;

fn redrive(letter: Uuid) -> RedriveRequested {
    let (who, why) = ("ann".to_owned(), "it can be handled now".to_owned());
    RedriveRequested { dead_letter_id: Some(letter), who, why, ..RedriveRequested::new("tally".into()) }
}

/// Cases: one record whose handling always fails, in a batch of 200 good ones: one parked, 200 handled once and in order.
#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_record_does_not_fail_its_neighbours() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    // All of it lies there before the instance starts: it arrives as one batch.
    for n in 1..=100 {
        shop.ask_for("GOOD", n, Some(0)).await?;
    }
    shop.ask_for("BAD", -1, Some(0)).await?; // the policy panics
    shop.ask_for("HUGE", 1_000_000_000, Some(0)).await?; // a check constraint fails
    for n in 101..=200 {
        shop.ask_for("GOOD", n, Some(0)).await?;
    }
    let instance = shop.start();
    let stated = shop.stated(200).await?;
    assert_order(&stated);
    assert_eq!(quantities(&stated), (1..=200).collect::<Vec<i32>>());

    let letters: Vec<(String, i64, String)> = sqlx::query_as(
        "select convert_from(key, 'UTF8'), \"offset\", detail from dead_letter where reason = 'handling_failed' order by \"offset\"",
    )
    .fetch_all(&shop.database.pool)
    .await?;
    assert_eq!(
        letters.iter().map(|(key, offset, _)| (key.as_str(), *offset)).collect::<Vec<_>>(),
        [("BAD", 100), ("HUGE", 101)]
    );
    assert!(letters[0].2.contains("a shop takes pieces, not -1"), "{}", letters[0].2);
    assert!(letters[1].2.contains("tally_pieces_check"), "{}", letters[1].2);
    instance.stop().await
}

/// Cases, "Records and schemas": each is parked once, nothing is half done, and the partition goes on.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_decoded_is_parked_once_with_its_cause() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    let sound = StockReplenishmentRequested::new("TEA".into(), Uuid::from_u128(1), 5);
    let value = shop.world.framed(&sound).await?;
    let topic = &StockReplenishmentRequested::TYPE.topic.name;
    let mut foreign_id = value.clone();
    foreign_id[1..5].copy_from_slice(&999_999_u32.to_be_bytes());
    let mut magic = value.clone();
    magic[0] = 7;
    let mut trailing = value.clone();
    trailing.push(0);
    let newline = value.iter().position(|byte| *byte == b'\n').expect("Avro writes 5 as byte 10");

    /// Key, value, and the reason of its dead letter.
    type Malformed<'a> = (Option<&'a [u8]>, &'a [u8], &'static str);
    let malformed: [Malformed; 13] = [
        (None, &value, "bad_key"),
        (Some(b""), &value, "bad_key"),
        (Some(b"NO SKU"), &value, "bad_key"),
        (Some(b"\xff\xfe"), &value, "bad_key"),
        (Some(b"TEA"), b"", "no_value"),
        (Some(b"TEA"), &value[..1], "bad_frame"),
        (Some(b"TEA"), &value[..4], "bad_frame"),
        (Some(b"TEA"), &value[..5], "bad_frame"),
        (Some(b"TEA"), &magic, "bad_frame"),
        (Some(b"TEA"), &foreign_id, "unknown_schema"),
        (Some(b"TEA"), &value[..newline], "undecodable"),
        (Some(b"TEA"), &trailing, "undecodable"),
        (Some(b"COFFEE"), &value, "key_differs"),
    ];
    for (key, value, _) in &malformed {
        shop.world.send_raw(topic, *key, value, &[]).await?;
    }
    // Of another type, but sound: not on a request topic.
    let listing = shop.world.framed(&quadrille_events::StockReplenished::new("TEA".into(), Uuid::nil(), 1)).await?;
    shop.world.send_raw(topic, Some(b"TEA"), &listing, &[]).await?;
    // One good record behind them in every partition, and one spelled in lower case.
    let instance = shop.start();
    for partition in 0..6 {
        shop.ask(&format!("AFTER-{partition}"), partition).await?;
    }
    shop.world.send_raw(topic, Some(b"tea"), &value, &[]).await?;
    let stated = shop.stated(7).await?;
    assert_eq!(distinct(&stated), 7);

    let mut expected: Vec<&str> = malformed.iter().map(|(.., reason)| *reason).chain(["unknown_type"]).collect();
    expected.sort_unstable();
    let reasons: Vec<String> = sqlx::query_scalar("select reason from dead_letter order by reason collate \"C\"")
        .fetch_all(&shop.database.pool)
        .await?;
    assert_eq!(reasons, expected);
    assert_eq!(shop.pieces().await?, 6 + 5, "nothing was half done");
    instance.stop().await?;

    // The group starts over: all of it is known.
    let mut again = shop.config();
    again.kafka.group_prefix = format!("again.{}", again.kafka.group_prefix);
    let instance = shop.start_with(again);
    shop.ask("LAST", 0).await?;
    for partition in 1..6 {
        shop.ask("LAST", partition).await?;
    }
    shop.stated(7 + 6).await?;
    let count: i64 = sqlx::query_scalar("select count(*) from dead_letter").fetch_one(&shop.database.pool).await?;
    assert_eq!(count as usize, expected.len(), "parked once, however often they come");
    instance.stop().await
}

/// A header name that is no text, and a text that a database refuses: each is a dead letter, and the service goes on.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_client_library_would_send_ends_as_a_dead_letter_too() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    let instance = shop.start();
    let topic = &StockReplenishmentRequested::TYPE.topic.name;
    let nul = StockReplenishmentRequested::new("TEA\0".into(), Uuid::from_u128(1), 5);
    let value = shop.world.framed(&nul).await?;
    shop.world.send_raw(topic, Some(b"TEA"), &value, &[]).await?;
    // rdkafka takes header names as text only; kcat takes bytes.
    let sent = std::process::Command::new("kcat")
        .args([
            "-P",
            "-b",
            &shop.world.settings.kafka.brokers,
            "-t",
            &shop.world.settings.topic(topic),
            "-k",
            "TEA",
            "-H",
        ])
        .arg(std::os::unix::ffi::OsStrExt::from_bytes(&b"\xff\xfe=1"[..]) as &std::ffi::OsStr)
        .arg("/etc/hostname")
        .status()?;
    assert!(sent.success());
    for partition in 0..6 {
        shop.ask("AFTER", partition).await?;
    }
    shop.stated(6).await?;
    let letters: Vec<(String, String)> =
        sqlx::query_as("select reason, detail from dead_letter order by reason").fetch_all(&shop.database.pool).await?;
    assert_eq!(
        letters.iter().map(|(reason, _)| reason.as_str()).collect::<Vec<_>>(),
        ["key_differs", "unreadable_headers"]
    );
    assert!(letters[0].1.contains("TEA"), "{}", letters[0].1);
    // Without its headers it would be another request.
    let without_headers = "select id from dead_letter where reason = 'unreadable_headers'";
    let without_headers: Uuid = sqlx::query_scalar(without_headers).fetch_one(&shop.database.pool).await?;
    let (result, detail) = shop.operate(&redrive(without_headers)).await?;
    assert!(result == "refused" && detail.contains("kept whole"), "{result}: {detail}");
    instance.stop().await
}

/// The dead-letter topic may be missing or forbidden: rows wait, and nothing else does. Once it can be written they are published.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_published_on_a_lane_of_their_own() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let instance = shop.start();
    shop.world.send_raw("stock.requests", Some(b"TEA"), b"{}", &[]).await?;
    for partition in 0..6 {
        shop.ask("TEA", partition).await?;
    }
    shop.stated(6).await?;
    let waiting: (String, bool) =
        sqlx::query_as("select detail, published_at is null from dead_letter").fetch_one(&shop.database.pool).await?;
    assert!(waiting.0.contains("quadrille encode"), "the fix is named: {}", waiting.0);
    assert!(waiting.1, "it waits in the database");

    // The topic comes to be, and its subject.
    let (admin, topic) = shop.create_dead_letter_topic().await?;
    let published = shop.world.read_until("tally.dead-letters", |records| !records.is_empty()).await?;
    let letter: DeadLetter = decoded(&published[0])?;
    assert_eq!((letter.topic.as_str(), letter.reason.as_str()), ("stock.requests", "bad_frame"));
    assert_eq!(letter.value.map(|value| value.0).as_deref(), Some(&b"{}"[..]));
    assert_eq!((letter.value_size, letter.service.as_str()), (2, "tally"));
    let says = |name| published[0].header(name).unwrap_or_default().to_owned();
    let id = letter.dead_letter_id.to_string();
    assert_eq!((says("ce_specversion"), says("content-type")), ("1.0".into(), "application/avro".into()));
    assert_eq!((says("ce_source"), says("ce_type")), ("/quadrille/tally".into(), DeadLetter::TYPE.name.into()));
    assert_eq!((says("ce_id"), says("ce_subject"), says("ce_correlationid")), (id.clone(), id.clone(), id));
    assert_eq!(says("ce_time").parse::<chrono::DateTime<chrono::Utc>>()?, letter.failed_at);

    // As after a process that dies before it has noted that.
    sqlx::query("update dead_letter set published_at = null").execute(&shop.database.pool).await?;
    let twice = shop.world.read_until("tally.dead-letters", |records| records.len() == 2).await?;
    assert_eq!(twice[0].header("ce_id"), twice[1].header("ce_id"), "it is one letter");
    instance.stop().await?;
    admin.delete(&[topic]).await
}

/// A letter is handled again although it cannot be published: while the registry is silent, and then the broker away.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_letter_that_is_being_published() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    sqlx::query("alter table tally add constraint too_early check (pieces < 1)").execute(&shop.database.pool).await?;
    let instance = shop.start();
    shop.ask("TEA", 0).await?;
    shop.until("select exists(select from dead_letter)").await?;
    instance.stop().await?;
    sqlx::query("alter table tally drop constraint too_early").execute(&shop.database.pool).await?;

    let (admin, topic) = shop.create_dead_letter_topic().await?;
    let mut config = shop.config();
    let (kafka, registry) = (Proxy::before(&config.kafka.brokers).await?, Proxy::before(&config.registry.url).await?);
    kafka.url().clone_into(&mut config.kafka.brokers);
    registry.url().clone_into(&mut config.registry.url);
    kafka.refuse();
    // It is asked for the letters' schema.
    registry.silence_at("tally.dead-letters", Direction::ToClient);
    let instance = shop.start_with(config);
    registry.sprung().await;
    // As an operator's redrive does.
    let redrive = sqlx::query("update dead_letter set next_try = clock_timestamp()").execute(&shop.database.pool);
    tokio::time::timeout(Duration::from_secs(2), redrive).await.expect("its row is not locked")?;
    shop.until("select closed_at is not null from dead_letter").await?;
    assert!(shop.is("select published_at is null from dead_letter").await?);
    assert_eq!(shop.pieces().await?, 1);

    kafka.heal();
    shop.world.read_until("tally.dead-letters", |records| !records.is_empty()).await?;
    instance.stop().await?;
    admin.delete(&[topic]).await
}

/// A record that came without a timestamp has none when it is handled again either: it is not too old, and is the input that it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_redriven_record_has_the_timestamp_that_it_came_with() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    sqlx::query("alter table tally add constraint too_early check (pieces < 1)").execute(&shop.database.pool).await?;
    let instance = shop.start();
    let value = shop.world.framed(&StockReplenishmentRequested::new("TEA".into(), Uuid::new_v4(), 1)).await?;
    let topic = shop.world.settings.topic(&StockReplenishmentRequested::TYPE.topic.name);
    let without = FutureRecord::to(&topic).key("TEA").payload(&value).timestamp(-1);
    shop.producer.send(without, None).await.map_err(|(error, _)| error)?;
    const LETTER: &str = "select id, input_id, record_ms from dead_letter";
    let (letter, input, ms): (Uuid, Uuid, i64) = shop.row(|pool| sqlx::query_as(LETTER).fetch_optional(pool)).await?;
    assert_eq!(ms, -1);
    sqlx::query("alter table tally drop constraint too_early").execute(&shop.database.pool).await?;

    let (result, detail) = shop.operate(&redrive(letter)).await?;
    assert_eq!(result, "done", "{detail}");
    shop.stated(1).await?;
    let is_known: bool = sqlx::query_scalar("select exists(select from inbox where id = $1)")
        .bind(input)
        .fetch_one(&shop.database.pool)
        .await?;
    assert!(is_known, "it is the same input");
    instance.stop().await
}
