//! What came of orders, held against what was asked for: by the topics, the payment provider, the carrier, the mails and the audit.

use std::{collections::BTreeMap, time::Duration};

use quadrille_cli::replay;
use quadrille_program::say;
use quadrille_shop::{CATALOGUE, audit};
use serde_json::Value;

use crate::{Placed, Shop, Tally, outside::Ledger, report::Report};

/// Everything is settled before the audit begins: what is on its way then is only a moment old.
const AUDIT: audit::Options = audit::Options { settle: Duration::from_secs(15), grace: Duration::from_secs(1) };

/// Holds everything that a shop did against what was asked for, and puts the figures into `report`.
pub async fn check(shop: &Shop, placed: &[Placed], report: &mut Report) -> anyhow::Result<()> {
    let audited = audit::settled(&shop.settings, AUDIT).await?;
    let ledger = shop.outside.ledger().await?;
    let parcels = shop.outside.parcels().await?;
    let mails = shop.outside.mails().await?;
    {
        let tally = shop.follower.tally();
        let came = Accounts::of(placed, &tally, &ledger);
        let twice = parcels_twice(&parcels);

        report.figure(format!("{} orders", placed.len()));
        report.figure(format!("{} lost", came.lost.len()));
        report.figure(format!("{} doubled", came.doubled.len() + ledger.doubled.len() + twice.len()));
        report.figure(format!("{} ended as asked", placed.len() - came.lost.len() - came.otherwise.len()));
        report.figure(format!("{} events", tally.events));
        report.figure(format!(
            "repeats: {} on topics, {} at the provider under their keys, {} mails under their Message-IDs",
            tally.repeats, ledger.repeats, mails.repeats
        ));

        report.must_be_none("orders lost", &came.lost);
        report.must_be_none("orders doubled", &came.doubled);
        report.must_be_none("orders that ended otherwise", &came.otherwise);
        report.must_be_none("money that does not match", &came.money);
        report.must_be_none("keys under which the provider acted twice", &ledger.doubled);
        report.must_be_none("orders with more than one parcel", &twice);
        report.must_be_none("the order of events", &tally.faults);
        report.must(tally.strangers == 0, || format!("{} events were written by no service", tally.strangers));
        let (said, taken) = (came.mails, mails.message_ids);
        report.must(said == taken, || format!("{said} mails were said to be sent, {taken} came"));
    }
    let offences = audited.total();
    report.figure(if offences == 0 { "audit clean".to_owned() } else { format!("audit: {offences} offences") });
    report.must(offences == 0, || format!("the audit finds {offences} offences"));
    report.must_be_none("what the audit could not compare", &audited.not_compared);
    if offences > 0 {
        audited.print()?;
    }
    if shop.records() {
        decided_again(shop, report).await?;
    }
    if !report.is_good() {
        say!("all records are kept in {}, logs beside them", shop.keep_records()?);
    }
    Ok(())
}

/// Decides everything again that the shop's services have decided: they must come to the same, byte for byte.
async fn decided_again(shop: &Shop, report: &mut Report) -> anyhow::Result<()> {
    let path = std::path::Path::new(&shop.logs()).join("history.jsonl");
    let decisions = replay::export(&shop.settings, &path, None).await?;
    let replayed =
        tokio::task::block_in_place(|| replay::decide_again(&CATALOGUE.build(), std::slice::from_ref(&path)))?;
    let differences: Vec<String> = replayed.differences.iter().map(ToString::to_string).collect();
    report.figure(format!("{decisions} decisions replayed alike"));
    report.must(replayed.decisions == decisions, || {
        format!("{} of {decisions} decisions were replayed", replayed.decisions)
    });
    report.must_be_none("decisions that differ when they are made again", &differences);
    if !replayed.is_same() {
        say!("{replayed}\nthe history is kept in {}", path.display());
    }
    Ok(())
}

/// What is not as it should be, order by order.
#[derive(Default)]
struct Accounts {
    lost: Vec<String>,
    doubled: Vec<String>,
    otherwise: Vec<String>,
    money: Vec<String>,
    /// Mails that were said to be sent.
    mails: u64,
}

impl Accounts {
    fn of(placed: &[Placed], tally: &Tally, ledger: &Ledger) -> Self {
        let mut came = Self::default();
        for order in placed {
            let (key, story) = (order.key(), tally.story(&order.key()));
            let told = |what: &str| format!("{key} ({}) {what}; stated: {}", order.kind.name(), story.describe());
            let account = ledger.orders.get(&key).copied().unwrap_or_default();
            came.mails += u64::from(story.count("NotificationSent"));
            if !order.is_over(&story) {
                came.lost.push(told("is not settled"));
                continue;
            }
            if !order.ended_as_asked(&story) {
                let end = story.end().map(|end| end.to_string()).unwrap_or_default();
                came.otherwise.push(told(&format!("was to be {}, and is {end}", order.kind.asked())));
            }
            let (doubles, charges, refunds) = (story.doubled(), account.charges, account.refunds);
            if !doubles.is_empty() || charges > 1 || refunds > 1 {
                came.doubled.push(told(&format!("{}: {charges} charges, {refunds} refunds", doubles.join(", "))));
            }
            let stated = (u64::from(story.count("PaymentCaptured")), u64::from(story.count("PaymentRefunded")));
            let kept = story.has("OrderDelivered");
            if stated != (charges, refunds) || (account.net != 0) != kept {
                let net = account.net;
                came.money
                    .push(told(&format!("{charges} charges, {refunds} refunds, {net} cents kept at the provider")));
            }
        }
        came
    }
}

fn parcels_twice(parcels: &Value) -> Vec<String> {
    let mut handed: BTreeMap<&str, u64> = BTreeMap::new();
    for parcel in parcels["parcels"].as_array().into_iter().flatten() {
        *handed.entry(parcel["order_id"].as_str().unwrap_or_default()).or_default() += 1;
    }
    handed.into_iter().filter(|(_, times)| *times > 1).map(|(order, times)| format!("{order}: {times}")).collect()
}
