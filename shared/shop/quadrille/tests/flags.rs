//! What a person may type: each flag with what is none of its values. A clear refusal that names it, and never a panic. No server is asked.

#![allow(clippy::unwrap_used)]

use std::{
    fs::File,
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

/// Nothing listens here: whatever passes the flags fails at once.
const NOWHERE: [(&str, &str); 4] = [
    ("QUADRILLE__KAFKA__BROKERS", "127.0.0.1:1"),
    ("QUADRILLE__REGISTRY__URL", "http://me:s3cret@127.0.0.1:1/apis"),
    ("QUADRILLE__DATABASE__BASE_URL", "postgres://me:s3cret@127.0.0.1:1"),
    ("QUADRILLE__TOOLS__PROVIDER_URL", "http://me:s3cret@127.0.0.1:1"),
];

const ID: &str = "6f1d3c58-1f0e-4c5e-9a37-2b8f0d9e4a11";

fn quadrille(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quadrille"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("QUADRILLE_")) {
        command.env_remove(name);
    }
    command.envs(NOWHERE);
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs each, and expects it to refuse with this status and a word on it.
fn refused(table: &[(Vec<&str>, &str)], status: i32) {
    let mut wrong = vec![];
    for (arguments, word) in table {
        let output = quadrille(arguments).output().unwrap();
        let said = said(&output);
        let is_right = output.status.code() == Some(status) && said.contains(word);
        if !is_right || said.contains("panicked") || said.contains("s3cret") {
            let shown: Vec<String> = arguments.iter().map(|text| text.chars().take(60).collect()).collect();
            wrong.push(format!("{shown:?}, expected '{word}', {}: {said}", output.status));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn values_that_are_none_are_refused_by_their_flag() {
    let (long, who, huge) = ("x".repeat(501), ["--who", "ann", "--why", "test"], "9".repeat(40));
    let with_person = |arguments: &[&'static str]| [arguments, &who].concat();
    let table: Vec<(Vec<&str>, &str)> = vec![
        // Numbers.
        (vec!["watch", "--until", "0"], "--until"),
        (vec!["watch", "--until=-1"], "--until"),
        (vec!["watch", "--until", &huge], "--until"),
        (vec!["watch", "--until", "many"], "--until"),
        (vec!["watch", "--until", ""], "--until"),
        (vec!["orders", "--limit=-1"], "--limit"),
        (vec!["orders", "--limit", &huge], "--limit"),
        (vec!["encode", "OrderRequested", "--schema-id", "0"], "--schema-id"),
        (vec!["encode", "OrderRequested", "--schema-id", "2147483648"], "--schema-id"),
        (vec!["encode", "OrderRequested", "--schema-id=-1"], "--schema-id"),
        (vec!["topics", "apply", "--replication-factor", "0"], "--replication-factor"),
        (vec!["topics", "apply", "--replication-factor", "65536"], "--replication-factor"),
        // Spans and starts.
        (vec!["watch", "--for", "1e9d"], "--for"),
        (vec!["watch", "--for", "999999999d"], "a hundred years"),
        (vec!["watch", "--for=-1s"], "--for"),
        (vec!["watch", "--for", ""], "--for"),
        (vec!["watch", "--for", "1y"], "--for"),
        (vec!["audit", "--settle", &huge], "--settle"),
        (vec!["audit", "--grace=-1s"], "--grace"),
        (vec!["watch", "--from", "yesterday"], "--from"),
        (vec!["watch", "--from", &huge], "--from"),
        (vec!["watch", "--from=-5"], "--from"),
        (vec!["watch", "--from", "2026-13-01T00:00:00Z"], "--from"),
        (vec!["group", "rewind", "order", "--to", "1969-01-01T00:00:00Z"], "--to"),
        (vec!["group", "rewind", "order", "--to", ""], "--to"),
        (vec!["group", "rewind", "order", "--to", "end"], "use beginning, an offset"),
        // Places and ids.
        (with_person(&["group", "skip", "order", "order.requests/3"]), "TOPIC/PARTITION@OFFSET"),
        (with_person(&["group", "skip", "order", "order.requests/x@1"]), "TOPIC/PARTITION@OFFSET"),
        (vec!["group", "skip", "order", "order.requests/3@42", "--yes"], "--who"),
        (vec!["effects", "show", "1"], "<ID>"),
        (vec!["dead-letters", "show", ""], "<ID>"),
        (with_person(&["dead-letters", "redrive", "order", ID]), "an id is a UUID, whole"),
        (with_person(&["dead-letters", "discard"]), "ID|--topic"),
        (with_person(&["dead-letters", "discard", "--service", "order"]), "ID|--topic"),
        (with_person(&["dead-letters", "discard", ID, "--topic", "order.requests", "--service", "order"]), "--topic"),
        (with_person(&["dead-letters", "redrive", "--topic", "order.requests"]), "--service"),
        // Texts.
        (vec!["encode", "OrderRequested", "--delimiter", ""], "--delimiter"),
        (vec!["produce", "OrderRequested", "--id", ""], "--id"),
        (vec!["produce", "OrderRequested", "--source", ""], "--source"),
        (vec!["dead-letters", "discard", ID, "--who", "", "--why", "test"], "--who"),
        (vec!["dead-letters", "discard", ID, "--who", "  ", "--why", "test"], "--who"),
        (vec!["dead-letters", "discard", ID, "--who", "ann", "--why", &long], "--why"),
        (vec!["dead-letters", "discard", ID, "--who", "a\nb", "--why", "test"], "--who"),
        (vec!["completions", "cmd"], "<SHELL>"),
        (vec!["orders", "--opne"], "--open"),
    ];
    refused(&table, 2);
}

#[test]
fn what_is_understood_and_cannot_be_is_refused_with_the_fix() {
    let who = ["--who", "ann", "--why", "test"];
    let binary = temporary("binary", &[0xff, 0x00, 0x80, b'\n']);
    let wide = temporary("wide", b"\xff\xfe{\0}\0");
    let folder = std::env::temp_dir();
    let [binary, wide, folder] = [&binary, &wide, &folder].map(|path| path.to_str().unwrap());
    let table: Vec<(Vec<&str>, &str)> = vec![
        (vec!["watch", ""], "No topic is named ''"),
        (vec!["watch", "order.evnts"], "order.events"),
        (vec!["watch", "a*b*c*"], "No topic is named"),
        (vec!["watch", "--type", "OrderDeliverd"], "did you mean OrderDelivered?"),
        (vec!["produce", "OrderRequested", "--key", "other"], "'other' is no key of order.requests"),
        (vec!["saga", "1"], "is no order id"),
        (vec!["saga", ""], "is no order id"),
        (vec!["stream", "tea-1"], "is no order id"),
        (vec!["example", "orderrequest"], "did you mean OrderRequested"),
        (vec!["example", ""], "quadrille example"),
        (vec!["example", "OrderRequested", "--set", "nosuch=1"], "nosuch"),
        (vec!["example", "StockReplenishmentRequested", "--fresh"], "--set"),
        (vec!["config", "kafka.broker"], "kafka.brokers"),
        (vec!["config", "--brokers", " "], "--brokers"),
        (vec!["config", "--registry", "127.0.0.1:8081"], "http://"),
        (vec!["encode", "OrderRequested", "--schema-id", "1", "/no/such/file"], "/no/such/file"),
        (vec!["encode", "OrderRequested", "--schema-id", "1", folder], "it is a folder"),
        (vec!["encode", "OrderRequested", "--schema-id", "1", binary], "not UTF-8"),
        (vec!["encode", "OrderRequested", "--schema-id", "1", wide], "UTF-16"),
        (vec!["encode", "OrderRequested", "--schema-id", "1", "/dev/null"], "no JSON document"),
        (vec!["encode", "OrderRequested", "--schema-id", "1", "/dev/zero"], "64 MiB"),
        (vec!["decode", folder], "it is a folder"),
        (vec!["decode", "/dev/null"], "empty"),
        (vec!["decode", "/dev/zero"], "64 MiB"),
        (vec!["check", "--choreography", folder], "it is a folder"),
        (vec!["check", "--choreography", binary], "not UTF-8"),
        (vec!["check", "--choreography", "/dev/zero"], "64 MiB"),
        (vec!["check", "--against=--output=x"], "neither a file nor a revision"),
        (vec!["check", "--against", ""], "neither a file nor a revision"),
        (vec!["schemas", "check", "--offline", "--schemas", "/no/such"], "topics.toml"),
        (vec!["topics", "list", "--schemas", binary], "topics.toml"),
        (vec!["replay", folder], folder),
        (vec!["replay", "/no/such/file"], "/no/such/file"),
        (vec!["replay", binary], "binary"),
        (vec!["replay", "/dev/zero"], "line 1, is longer than any decision"),
        (vec!["history", "export", "--out", folder, "--service", "nosuch"], "there is no service 'nosuch'"),
        (vec!["history", "export", "--out", "/no/such/folder/file"], "/no/such/folder/file"),
        (vec!["effects", "list", "--service", "Order"], "order"),
        (vec!["dead-letters", "list", "--service", ""], "order"),
        (vec!["group", "rewind", "nosuch", "--to", "beginning"], "there is no service 'nosuch'"),
        ([&["group", "skip", "nosuch", "order.requests/3@42"][..], &who].concat(), "there is no service 'nosuch'"),
        (vec!["group", "rewind", "order", "--to", "beginning", "--topic", "order.event"], "No topic is named"),
        (vec!["group", "rewind", "order", "--to", "beginning", "--topic", "order.requests/9"], "no partition 9"),
        ([&["group", "skip", "order", "nosuch/0@1"][..], &who].concat(), "No topic is named 'nosuch'"),
        // As a dry run, by nobody, as it is done.
        (vec!["group", "skip", "order", "order.events/0@5"], "order does not hear order.events"),
        ([&["group", "skip", "order", "order.events/0@5", "--yes"][..], &who].concat(), "order does not hear"),
        ([&["effects", "answer", ID, "captured"][..], &who].concat(), "OUTCOME is not JSON"),
        // Nothing listens: where it was asked is named, and no password.
        (vec!["schemas", "list"], "the schema registry at http://127.0.0.1:1/apis does not answer"),
        (vec!["topics", "list"], "No Kafka broker answers at 127.0.0.1:1: `make up`"),
        (vec!["stream", ID], "`make up`"),
        (vec!["status"], "127.0.0.1:1"),
        (vec!["doctor"], "QUADRILLE__DATABASE__BASE_URL"),
        (vec!["effects", "show", ID], "could not be read"),
        // What is not known is not none.
        (vec!["effects", "list"], "could not be read"),
        (vec!["dead-letters", "list", "--json"], "could not be read"),
        ([&["dead-letters", "discard", ID, ID][..], &who].concat(), "could not be read"),
    ];
    refused(&table, 1);
    for file in [binary, wide] {
        std::fs::remove_file(file).unwrap();
    }
}

/// A broker that is starting is there within seconds; who asks one that is not there need not wait for half a minute.
#[test]
fn who_waits_for_a_broker_is_told_and_does_not_wait_for_one_that_is_not_there() {
    for arguments in [&["topics", "list"][..], &["status"], &["watch"], &["orders"]] {
        let began = Instant::now();
        let output = quadrille(arguments).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.starts_with("Kafka at 127.0.0.1:1 refuses connections: waiting 4 s for it"), "{told}");
        assert!(told.contains("make up") && output.stdout.is_empty(), "{arguments:?}: {told}");
        assert!(began.elapsed() < Duration::from_secs(20), "{arguments:?}: {:?}", began.elapsed());
    }
}

#[test]
fn what_no_database_told_is_not_counted() {
    for what in ["effects", "dead-letters"] {
        let output = quadrille(&[what, "list"]).output().unwrap();
        let told = String::from_utf8(output.stderr.clone()).unwrap();
        assert!(output.stdout.is_empty(), "{what}: {output:?}");
        assert_eq!(told.matches("could not be read").count() + 1, told.lines().count(), "{told}");
        assert!(told.lines().last().unwrap().contains("`make up`"), "{told}");
    }
}

#[test]
fn a_history_that_could_not_be_written_leaves_no_file() {
    let file = std::env::temp_dir().join(format!("quadrille-flags-{}-history", std::process::id()));
    let output = quadrille(&["history", "export", "--out", file.to_str().unwrap()]).output().unwrap();
    assert!(output.status.code() == Some(1) && said(&output).contains("make up"), "{output:?}");
    assert!(!file.exists() && !file.with_added_extension("unfinished").exists());
}

fn temporary(name: &str, bytes: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("quadrille-flags-{}-{name}", std::process::id()));
    File::create(&path).unwrap().write_all(bytes).unwrap();
    path
}

#[test]
fn a_closed_pipe_ends_every_command_quietly() {
    for arguments in [
        &["completions", "bash"][..],
        &["--help"],
        &["watch", "--help"],
        &["example"],
        &["example", "OrderRequested"],
        &["example", "OrderRequested", "--docs"],
        &["config"],
        &["decode", "--kcat-format"],
        &["check"],
    ] {
        // Its reader is gone before it writes.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = quadrille(arguments).stdout(writer).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
    // And of what is said beside the output.
    for arguments in [&["saga", "1"][..], &["watch", "--until", "0"], &["topics", "list"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = quadrille(arguments).stderr(writer).status().unwrap();
        assert!(matches!(status.code(), Some(1 | 2)), "{arguments:?}: {status:?}");
    }
    let output = quadrille(&["example"]).stdout(File::create("/dev/full").unwrap()).output().unwrap();
    assert_eq!((output.status.code(), said(&output).contains("No space left")), (Some(1), true), "{output:?}");
}

#[test]
fn what_is_in_force_is_shown_without_passwords_and_one_key_alone_for_others_options() {
    let output = quadrille(&["config"]).output().unwrap();
    let text = said(&output);
    let brokers = "kafka.brokers = 127.0.0.1:1  # from QUADRILLE__KAFKA__BROKERS; host:port, several with commas\n";
    assert!(text.contains(brokers) && text.contains("postgres://me:***@127.0.0.1:1"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
    let output = quadrille(&["config", "kafka.brokers"]).output().unwrap();
    assert_eq!(said(&output), "127.0.0.1:1\n");
}

#[test]
fn a_byte_order_mark_is_passed_over_in_every_file_of_a_person() {
    let example = quadrille(&["example", "OrderRequested"]).output().unwrap().stdout;
    let plain = temporary("plain", &example);
    let marked = temporary("marked", &[b"\xef\xbb\xbf", &example[..]].concat());
    let encoded = |file: &PathBuf| {
        let output =
            quadrille(&["encode", "OrderRequested", "--schema-id", "1", file.to_str().unwrap()]).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        output.stdout
    };
    assert_eq!(encoded(&plain), encoded(&marked));
    // By standard input, and of several documents, each with its own.
    let mut both = quadrille(&["encode", "OrderRequested", "--schema-id", "1", "--keys"]);
    let (reader, mut writer) = std::io::pipe().unwrap();
    let text = std::fs::read(&marked).unwrap();
    let feed = std::thread::spawn(move || writer.write_all(&text.repeat(2)));
    let output = both.stdin(reader).output().unwrap();
    feed.join().unwrap().unwrap();
    assert!(output.status.success() && output.stdout.len() > 2 * encoded(&plain).len(), "{}", said(&output));

    // Settings are a file of a person, too; and one that cannot be read is quoted without its password.
    let broken = temporary("broken", b"[database]\nbase_url = postgres://me:s3cret@h:5433\n");
    let output = quadrille(&["config"]).env("QUADRILLE_CONFIG", &broken).output().unwrap();
    assert!(said(&output).contains("broken") && !said(&output).contains("s3cret"), "{}", said(&output));
    std::fs::remove_file(broken).unwrap();
    let settings = temporary("settings", b"\xef\xbb\xbf[kafka]\nbrokers = \"file:1\"\n");
    let output = quadrille(&["config", "kafka.brokers"])
        .env_remove("QUADRILLE__KAFKA__BROKERS")
        .env("QUADRILLE_CONFIG", &settings)
        .output()
        .unwrap();
    assert_eq!(said(&output), "file:1\n");
    for file in [plain, marked, settings] {
        std::fs::remove_file(file).unwrap();
    }
}
