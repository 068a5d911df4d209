//! Records in and out, by plain kcat and by ourselves, on the real broker and registry.

#![allow(clippy::unwrap_used)]

mod common;

use std::{ffi::OsStr, fs, io::BufRead, io::BufReader, os::unix::ffi::OsStrExt, time::Duration};

use common::{World, field, finish, order, spawn};
use quadrille_cli::kcat;

/// Avro writes the quantity 5 as byte 10, at which kcat cuts unless told otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_of_five_goes_through_kcat_whole_and_comes_back_the_same() {
    let world = World::new();
    let json = order(&world, &["lines.0.quantity=5"]);
    let id = field(&json, "/order_id");
    let framed = world.bytes(&["encode", "OrderRequested"], json.as_bytes());
    assert!(framed.contains(&b'\n'), "a record without byte 10 shows nothing");

    let sent = finish(world.kcat("order.requests", &["-P", "-k", &id, "-D", kcat::DELIMITER]), &framed);
    assert!(sent.status.success());
    let records = world.records("order.requests").await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].value.as_deref(), Some(&framed[..]));

    let format = world.ok(&["decode", "--kcat-format"]);
    let consumed = finish(world.kcat("order.requests", &["-C", "-e", "-q", "-f", format.trim_end()]), b"");
    let decoded = world.ok_with(&["decode", "--json"], &consumed.stdout);
    assert_eq!((decoded.lines().count(), field(&decoded, "/value/order_id")), (1, id.clone()));
    assert_eq!((field(&decoded, "/key"), field(&decoded, "/topic")), (id.clone(), "order.requests".into()));
    assert!(decoded.contains(r#""quantity":5"#), "{decoded}");

    // One record alone, as it is and as kcat prints it by default.
    for tail in [&b""[..], b"\n"] {
        let value = world.ok_with(&["decode"], &[&framed[..], tail].concat());
        assert_eq!(field(&value, "/order_id"), id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_id_with_byte_ten_in_it_goes_through_kcat_whole() {
    let world = World::new();
    let json = order(&world, &["lines.0.quantity=5"]);
    let mut expected = vec![];
    for id in ["10", "2570", "168430090"] {
        let framed = world.bytes(&["encode", "OrderRequested", "--schema-id", id], json.as_bytes());
        finish(world.kcat("order.requests", &["-P", "-k", "k", "-D", kcat::DELIMITER]), &framed);
        // And from a file, which kcat sends as it is.
        let file = std::env::temp_dir().join(format!("{}{id}.avro", world.settings.kafka.topic_prefix));
        fs::write(&file, &framed).unwrap();
        finish(world.kcat("order.requests", &["-P", "-k", "k", file.to_str().unwrap()]), b"");
        fs::remove_file(&file).unwrap();
        expected.extend([framed.clone(), framed]);
    }
    let values: Vec<Vec<u8>> =
        world.records("order.requests").await.into_iter().filter_map(|record| record.value).collect();
    assert_eq!(values, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_orders_go_through_kcat_each_under_its_own_key() {
    let world = World::new();
    let orders: Vec<String> =
        (1..=20).map(|quantity| order(&world, &[&format!("lines.0.quantity={quantity}")])).collect();
    let text = orders.concat();
    let bytes = world.bytes(&["encode", "OrderRequested", "--keys"], text.as_bytes());
    finish(world.kcat("order.requests", &["-P", "-K", kcat::KEY_DELIMITER, "-D", kcat::DELIMITER]), &bytes);

    let mut keys: Vec<String> = world.records("order.requests").await.iter().map(|record| record.key_text()).collect();
    let mut expected: Vec<String> = orders.iter().map(|json| field(json, "/order_id")).collect();
    keys.sort();
    expected.sort();
    assert_eq!(keys, expected);

    let refused = world.refused(&["encode", "OrderRequested"], text.as_bytes());
    assert!(refused.contains("--keys"), "{refused}");
}

#[test]
fn what_cannot_go_through_kcat_or_is_no_such_record_is_refused_with_the_fix() {
    let world = World::without_topics();
    let json = order(&world, &["delivery.personal.name=a:end-of-record:b"]);
    let refused = world.refused(&["encode", "OrderRequested"], json.as_bytes());
    assert!(refused.contains("--delimiter"), "{refused}");
    world.bytes(&["encode", "OrderRequested", "--delimiter", "@@@"], json.as_bytes());

    let refused = world.refused(&["encode", "OrderRequested"], br#"{"order_id":"x"}"#);
    assert!(refused.contains("`order_id`") && refused.contains("quadrille example OrderRequested"), "{refused}");
    let refused = world.refused(&["decode"], b"\0\0\0");
    assert!(refused.contains("3 byte(s)"), "{refused}");
    let refused = world.refused(&["decode"], b"hello\n");
    assert!(refused.contains("--kcat-format"), "{refused}");
    let refused = world.refused(&["decode"], b"");
    assert!(refused.contains("empty"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn produce_sends_the_contracts_headers_or_none() {
    let world = World::new();
    let json = order(&world, &[]);
    let id = field(&json, "/order_id");
    world.ok_with(&["produce", "OrderRequested"], json.as_bytes());
    world.ok_with(&["produce", "OrderRequested", "--no-headers"], json.as_bytes());
    let other = ["produce", "OrderRequested", "--key", "other", "--id", "r-7", "--source", "/shop"];
    assert!(world.refused(&other, json.as_bytes()).contains("(--anyway sends it all the same"));
    world.ok_with(&[&other[..], &["--anyway"]].concat(), json.as_bytes());
    let records = world.records("order.requests").await;
    let [first, bare, other] = ["", "none", "r-7"].map(|which| {
        let is = |record: &&quadrille_cli::kafka::Record| match which {
            "" => record.header("ce_id").is_some_and(|id| id != "r-7"),
            "none" => record.headers.is_empty(),
            id => record.header("ce_id") == Some(id),
        };
        records.iter().find(is).unwrap_or_else(|| panic!("{which}: {records:#?}"))
    });
    assert_eq!(first.key_text(), id);
    assert_eq!(first.header("ce_type"), Some("quadrille.order.OrderRequested"));
    assert_eq!(first.header("ce_subject"), Some(id.as_str()));
    assert_eq!(first.header("content-type"), Some("application/avro"));
    assert_eq!((bare.key_text(), bare.partition), (id, first.partition));
    assert_eq!((other.key_text().as_str(), other.header("ce_source")), ("other", Some("/shop")));

    let refused = world.refused(&["produce", "OrderDelivered"], world.ok(&["example", "OrderDelivered"]).as_bytes());
    assert!(refused.contains("--anyway"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_shows_what_comes_decoded_filtered_and_without_secrets() {
    let world = World::new();
    let mut command = world.command(&[
        "watch",
        "order.*",
        "user.*",
        "--until",
        "2",
        "--type",
        "*Requested",
        "--json",
        "--from",
        "beginning",
    ]);
    let mut watch = spawn(&mut command);
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();

    let json = order(&world, &[]);
    world.ok_with(&["produce", "OrderRequested"], json.as_bytes());
    let first = lines.next().unwrap().unwrap();
    assert_eq!(field(&first, "/value/order_id"), field(&json, "/order_id"));

    let cancelled = world.ok(&["example", "OrderCancelled"]);
    world.ok_with(&["produce", "OrderCancelled", "--anyway"], cancelled.as_bytes());
    let user = world.ok(&["example", "UserRegistrationRequested", "--fresh"]);
    let hash = field(&user, "/password_hash");
    world.ok_with(&["produce", "UserRegistrationRequested"], user.as_bytes());
    let second = lines.next().unwrap().unwrap();
    assert_eq!(field(&second, "/value/password_hash"), "***");
    assert!(watch.wait().unwrap().success());

    let all = world.ok(&["watch", "--to-end"]);
    assert_eq!(all.lines().count(), 3, "{all}");
    assert!(!all.contains(&hash) && all.contains("OrderCancelled"), "{all}");
    let one = world.ok(&["watch", "--to-end", "--key", &field(&json, "/order_id")]);
    assert_eq!(one.lines().count(), 1, "{one}");
    // In any spelling; and what can never be seen is said.
    let upper = field(&json, "/order_id").to_uppercase();
    for flag in ["--key", "--correlation"] {
        let one = world.ok(&["watch", "order.*", "--to-end", flag, &upper]);
        assert_eq!(one.lines().count(), 1, "{flag} {upper}: {one}");
        let none = world.run(&["watch", "order.requests", "--to-end", flag, "tea 1"], b"");
        let told = String::from_utf8(none.stderr).unwrap();
        assert!(none.stdout.is_empty() && told.contains("'tea 1' is no key of these topics"), "{told}");
    }
    // Who waits for records that do not come is told, and by another status than who is refused.
    for end in [&["--for", "1s"][..], &["--to-end"]] {
        let fewer = world.run(&[&["watch", "--until", "9", "--from", "beginning"], end].concat(), b"");
        let told = String::from_utf8(fewer.stderr).unwrap();
        assert_eq!(fewer.status.code(), Some(3), "{told}");
        assert!(told.contains("3 of 9 records came"), "{told}");
    }
    let began = std::time::Instant::now();
    assert_eq!(world.ok(&["watch", "--for", "1s"]), "");
    assert!(began.elapsed() < Duration::from_secs(20));
}

/// A header's name may be any bytes, of which the Kafka client makes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_header_whose_name_is_no_text_keeps_no_tool_from_its_record() {
    let world = World::new();
    let json = order(&world, &[]);
    let id = field(&json, "/order_id");
    let framed = world.bytes(&["encode", "OrderRequested"], json.as_bytes());
    let mut kcat = world.kcat("order.requests", &["-P", "-k", &id, "-D", kcat::DELIMITER, "-H"]);
    kcat.arg(OsStr::from_bytes(b"\xff\xfe=1"));
    assert!(finish(kcat, &framed).status.success());
    for arguments in [&["orders"][..], &["saga", &id], &["watch", "order.requests", "--to-end", "--until", "1"]] {
        let output = world.run(arguments, b"");
        let (out, told) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success() && out.contains(&id), "{arguments:?}: {out}{told}");
        assert!(!told.contains("panicked"), "{arguments:?}: {told}");
    }
}
