//! `kcat`: an order placed with `quadrille encode | kcat -P`, its end seen with `kcat -C | quadrille decode`, all as the README has it.

use std::time::Duration;

use anyhow::{Context, ensure};
use quadrille_events::{OrderRequested, to_json};
use quadrille_program::say;
use serde_json::Value;

use crate::{Goods, Kind, Placed, Shop, report::Report, shell::Shell};

const TIMEOUT: Duration = Duration::from_secs(60);

/// Runs the show.
pub async fn run() -> anyhow::Result<Report> {
    let mut shop = Shop::open("kcat", 1).await?;
    let goods = shop.stock().await?;
    let settings = &shop.settings;
    let shell = Shell::new(settings, shop.logs().into())?;
    let (broker, prefix) = (&settings.kafka.brokers, &settings.kafka.topic_prefix);
    let mut report = Report::default();

    // One order, of 5 pieces: in Avro a byte 10, at which kcat cuts its input unless told otherwise.
    let one = Placed::new(Kind::Good);
    shell.file("order.json", &to_json(&of(&one, &goods, 5)))?;
    let send = format!(
        "quadrille encode OrderRequested order.json | kcat -P -b {broker} -t {prefix}order.requests -k {} -D :end-of-record:",
        one.id
    );
    say!("$ {send}");
    shell.run(&send).await?;

    // Several at once, each under its own key.
    let several: Vec<Placed> = (0..3).map(|_| Placed::new(Kind::Good)).collect();
    let documents: Vec<String> =
        several.iter().zip([1, 5, 261]).map(|(order, n)| to_json(&of(order, &goods, n))).collect();
    shell.file("orders.json", &documents.join("\n"))?;
    let send = format!(
        "quadrille encode --keys OrderRequested orders.json | kcat -P -b {broker} -t {prefix}order.requests -K ' ' -D :end-of-record:"
    );
    say!("$ {send}");
    shell.run(&send).await?;

    // A file, as it is.
    let filed = Placed::new(Kind::Good);
    shell.file("filed.json", &to_json(&of(&filed, &goods, 5)))?;
    let send = format!(
        "quadrille encode OrderRequested filed.json > order.avro && kcat -P -b {broker} -t {prefix}order.requests -k {} order.avro",
        filed.id
    );
    say!("$ {send}");
    shell.run(&send).await?;

    let placed: Vec<Placed> = [one].into_iter().chain(several).chain([filed]).collect();
    let follow = format!(
        "kcat -C -b {broker} -t {prefix}order.events -o beginning -u -q -f \"$(quadrille decode --kcat-format)\" | quadrille decode --json"
    );
    say!("$ {follow}");
    let mut seen = shell.start(&follow)?;
    let mut open: Vec<String> = placed.iter().map(Placed::key).collect();
    let mut ordered: Vec<i64> = vec![];
    while !open.is_empty() {
        let line = seen.until(TIMEOUT, |_| true).await?;
        let told: Value = serde_json::from_str(&line).with_context(|| format!("`decode --json` wrote {line}"))?;
        let key = told["key"].as_str().unwrap_or_default();
        match told["type"].as_str().unwrap_or_default() {
            "quadrille.order.OrderCreated" => ordered.extend(told["value"]["details"]["lines"][0]["quantity"].as_i64()),
            "quadrille.order.OrderDelivered" => {
                say!("{line}");
                open.retain(|order| order != key);
            }
            "quadrille.order.OrderCancelled" | "quadrille.order.OrderRejected" => {
                report.must(false, || format!("{key} was to be delivered: {line}"));
                open.retain(|order| order != key);
            }
            _ => {}
        }
    }
    ordered.sort_unstable();
    report
        .must(ordered == [1, 5, 5, 5, 261], || format!("quantities 1, 5, 5, 5, 261 were ordered, {ordered:?} arrived"));

    let requests = shop.world.read("order.requests").await?;
    let with_headers = requests.iter().filter(|record| !record.headers.is_empty()).count();
    let with_tens = requests.iter().filter(|record| record.value.as_deref().unwrap_or_default().contains(&10)).count();
    ensure!(requests.len() == placed.len(), "{} requests were sent, the topic has {}", placed.len(), requests.len());
    report.must(with_headers == 0, || format!("{with_headers} records have headers: kcat was to send none"));
    report.must(with_tens >= 3, || format!("only {with_tens} records contain the byte 10"));
    drop(seen);

    shop.settled(&placed, TIMEOUT).await?;
    report.figure(format!(
        "{} orders sent by kcat without headers, {with_tens} of them with a byte 10 in them",
        placed.len()
    ));
    report.figure(format!("{} seen delivered through `kcat -C | quadrille decode`", placed.len()));
    Ok(report)
}

fn of(order: &Placed, goods: &Goods, quantity: i32) -> OrderRequested {
    let mut request = order.request(goods);
    request.lines[0].quantity = quantity;
    request
}
