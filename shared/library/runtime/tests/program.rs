//! A service as a program: what it takes from its environment, and what becomes of its output.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, process::Stdio};

use crate::support::{Shop, example};
use tokio::process::Command;

fn tally(argument: &str) -> Command {
    let mut command = Command::new(example("tally"));
    command.arg(argument).env_clear().kill_on_drop(true);
    command
}

/// An output that nobody reads.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

#[tokio::test]
async fn a_variable_that_is_not_ours_may_hold_any_bytes() -> anyhow::Result<()> {
    let output = tally("config").env("X", OsStr::from_bytes(b"caf\xe9")).output().await?;
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8(output.stdout)?.contains("kafka.brokers = "));

    let brokers = OsStr::from_bytes(b"caf\xe9:1");
    let output = tally("config").env("QUADRILLE__KAFKA__BROKERS", brokers).output().await?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the variable QUADRILLE__KAFKA__BROKERS is not UTF-8"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_closed_output_ends_it_quietly() -> anyhow::Result<()> {
    let output = tally("config").stdout(closed()).output().await?;
    assert_eq!((output.status.code(), String::from_utf8(output.stderr)?), (Some(0), String::new()));
    let status = tally("config").env("QUADRILLE__INSTANCE", "0").stderr(closed()).status().await?;
    assert_eq!(status.code(), Some(1), "a refusal that nobody hears is one all the same");
    Ok(())
}

/// Its work is none of its log's business.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_goes_on_without_its_log() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let mut instance = shop.command().stdout(closed()).stderr(closed()).spawn()?;
    shop.ask("TEA", 0).await?;
    shop.stated(1).await?;
    assert_eq!(instance.try_wait()?, None);
    Ok(instance.kill().await?)
}

/// The command that starts a service says what is wrong with its configuration before anything else.
#[tokio::test]
async fn a_value_out_of_range_stops_every_command() -> anyhow::Result<()> {
    for command in ["run", "migrate", "config"] {
        let output = tally(command).env("QUADRILLE__RETENTION__INBOX_DAYS", "4294967295").output().await?;
        let said = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(1), "{said}");
        let told = "tally: retention.inbox_days is '4294967295', from QUADRILLE__RETENTION__INBOX_DAYS: it has to be 1 to 3650";
        assert!(said.starts_with(told), "{said}");
    }
    Ok(())
}
