//! What came of orders, held against what was asked for: by the topics, the payment provider, the carrier, the mails and the audit.

use std::collections::BTreeMap;

use quadrille_cli::audit;

use crate::{Placed, Shop, report::Report};

/// Holds everything that a shop did against what was asked for, and puts the figures into `report`.
pub async fn check(shop: &Shop, placed: &[Placed], report: &mut Report) -> anyhow::Result<()> {
    let audited = audit::settled(&shop.world.settings, audit::Options::default()).await?;
    let ledger = shop.outside.ledger().await?;
    let parcels = shop.outside.parcels().await?;
    let mails = shop.outside.mails().await?;
    let tally = shop.follower.tally();

    let (mut lost, mut doubled, mut otherwise, mut money) = (vec![], vec![], vec![], vec![]);
    let mut sent = 0;
    for order in placed {
        let (key, story) = (order.key(), tally.story(&order.key()));
        let told = |what: &str| format!("{key} ({}) {what}; stated: {}", order.kind.name(), story.told());
        let account = ledger.orders.get(&key).copied().unwrap_or_default();
        sent += u64::from(story.count("NotificationSent"));
        if !story.is_settled() {
            lost.push(told("is not settled"));
            continue;
        }
        if !order.ended_as_asked(&story) {
            let end = story.end().map(|end| end.to_string()).unwrap_or_default();
            otherwise.push(told(&format!("was to be {}, and is {end}", order.kind.asked())));
        }
        let doubles = story.doubled();
        if !doubles.is_empty() || account.charges > 1 || account.refunds > 1 {
            doubled.push(told(&format!(
                "{}: {} charges, {} refunds",
                doubles.join(", "),
                account.charges,
                account.refunds
            )));
        }
        let stated = (u64::from(story.count("PaymentCaptured")), u64::from(story.count("PaymentRefunded")));
        let kept = story.has("OrderDelivered");
        if stated != (account.charges, account.refunds) || (account.net != 0) != kept {
            money.push(told(&format!(
                "{} charges, {} refunds, {} cents kept at the provider",
                account.charges, account.refunds, account.net
            )));
        }
    }
    let mut handed: BTreeMap<&str, u64> = BTreeMap::new();
    for parcel in parcels["parcels"].as_array().into_iter().flatten() {
        *handed.entry(parcel["order_id"].as_str().unwrap_or_default()).or_default() += 1;
    }
    let twice: Vec<String> =
        handed.iter().filter(|(_, times)| **times > 1).map(|(order, times)| format!("{order}: {times}")).collect();

    report.figure(format!("{} orders", placed.len()));
    report.figure(format!("{} lost", lost.len()));
    report.figure(format!("{} doubled", doubled.len() + ledger.doubled.len() + twice.len()));
    report.figure(format!("{} ended as asked", placed.len() - lost.len() - otherwise.len()));
    report.figure(format!("{} events", tally.events));
    report.figure(format!(
        "repeats: {} on topics, {} at the provider under their keys, {} mails under their Message-IDs",
        tally.repeats, ledger.repeats, mails.repeats
    ));
    report.figure(if audited.total() == 0 {
        "audit clean".to_owned()
    } else {
        format!("audit: {} offences", audited.total())
    });

    report.must_be_none("orders lost", &lost);
    report.must_be_none("orders doubled", &doubled);
    report.must_be_none("orders that ended otherwise", &otherwise);
    report.must_be_none("money that does not match", &money);
    report.must_be_none("keys under which the provider acted twice", &ledger.doubled);
    report.must_be_none("orders with more than one parcel", &twice);
    report.must_be_none("the order of events", &tally.faults);
    report.must(tally.strangers == 0, || format!("{} events were written by no service", tally.strangers));
    report
        .must(mails.message_ids == sent, || format!("{} mails were said to be sent, {} came", sent, mails.message_ids));
    report.must(audited.total() == 0, || format!("the audit finds {} offences", audited.total()));
    if audited.total() > 0 {
        audited.print()?;
    }
    drop(tally);
    if !report.is_good() {
        println!("all records are kept in {}, logs beside them", shop.keep_records()?);
    }
    Ok(())
}
