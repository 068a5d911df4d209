//! `foreign`: Confluent's Python client with fastavro reads every topic, and finds what the contract promises to everybody.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use quadrille_program::say;
use serde_json::Value;
use tokio::process::Command;

use crate::{Kind, Shop, binaries, report::Report};

const ORDERS: usize = 60;
const TIMEOUT: Duration = Duration::from_secs(120);
/// What the script stands on, from PyPI.
const PACKAGES: &str = "confluent-kafka[avro,schemaregistry]==2.16.1 fastavro==1.13.1";

/// Runs the show.
pub async fn run() -> anyhow::Result<Report> {
    let python = environment().await?;
    let mut shop = Shop::open("foreign", 1).await?;
    let goods = shop.stock().await?;
    let placed = shop.place(&goods, Kind::mixed(ORDERS)).await?;
    shop.settled(&placed, TIMEOUT).await?;

    let settings = &shop.settings;
    let output = Command::new(python)
        .arg("-E")
        .arg(binaries::root().join("shared/proof/show/foreign.py"))
        .env("BROKERS", &settings.kafka.brokers)
        .env("REGISTRY", &settings.registry.url)
        .env("PREFIX", &settings.kafka.topic_prefix)
        .env("ORDERS", ORDERS.to_string())
        .env("SCHEMAS", binaries::root().join("schemas"))
        // What it asks is named above, and is asked directly.
        .env("no_proxy", "*")
        .kill_on_drop(true)
        .output()
        .await
        .context("the script cannot be started")?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let last = out.lines().last().with_context(|| format!("the script said nothing of what it read:\n{err}"))?;
    let told: Value = serde_json::from_str(last).with_context(|| format!("the script ended with {last}\n{err}"))?;

    let mut report = Report::default();
    let faults: Vec<String> = told["faults"].as_array().into_iter().flatten().map(|fault| fault.to_string()).collect();
    report.must_be_none("what Python finds", &faults);
    report.must(output.status.success(), || format!("the script ended with {}", output.status));
    let text = |name: &str| told[name].as_str().unwrap_or("0").to_owned();
    let count = |name: &str| told[name].as_u64().unwrap_or_default();
    report.figure(format!(
        "{} records of {} topics read by Confluent's Python client with fastavro",
        count("records"),
        count("topics")
    ));
    report.figure(format!("{} schemas", count("schemas")));
    report.figure(format!(
        "{} events with headers right, versions consecutive over {} keys, {} repeats",
        count("events"),
        count("keys"),
        count("repeats")
    ));
    report.figure(format!("{} orders with one end each", count("orders")));
    report.figure(format!("{} captured and {} refunded net out", text("captured"), text("refunded")));
    report.figure(format!("{} golden records", count("golden")));
    report.must(count("golden") > 0 && count("events") > 0, || "nothing was read".to_owned());
    Ok(report)
}

/// A Python of its own under .run, with what the script needs. Made once.
async fn environment() -> anyhow::Result<PathBuf> {
    let folder = binaries::run_folder().join("python");
    let (python, made) = (folder.join("bin/python"), folder.join("made"));
    if std::fs::read_to_string(&made).is_ok_and(|packages| packages == PACKAGES) {
        return Ok(python);
    }
    say!("Making a Python environment in {} with {PACKAGES}", folder.display());
    done("python3", &["-E", "-m", "venv", "--clear", &folder.display().to_string()])
        .await
        .context("python3 with its venv module is needed: `apt-get install python3-venv`")?;
    let arguments = ["-E", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    let arguments: Vec<&str> = arguments.into_iter().chain(PACKAGES.split(' ')).collect();
    done(&python.display().to_string(), &arguments).await.context("the packages of the script")?;
    std::fs::write(made, PACKAGES)?;
    Ok(python)
}

async fn done(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(arguments).kill_on_drop(true).output().await?;
    ensure!(
        output.status.success(),
        "{program} {} ended with {}:\n{}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
