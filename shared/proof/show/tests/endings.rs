//! Every kind of order on the six services, each to the end that was asked for; the moments that do not come by themselves are made.

use std::time::Duration;

use anyhow::Context;
use quadrille_cli::{
    Settings, group,
    kafka::{Reader, Start, committed},
};
use quadrille_events::StockReplenishmentRequested;
use quadrille_order::{
    policy::ORDERS,
    store::{OrderStore, rebuild},
};
use quadrille_runtime::Store;
use quadrille_show::{
    Kind, Placed, Shop, Story, accounts,
    held::{Held, until, waits_in_outbox},
    http,
    orders::CHANGING_CENTS,
    outside::Ledger,
    report::Report,
    shell::Shell,
};
use sqlx::PgPool;
use uuid::Uuid;

const TIMEOUT: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_order_ends_as_asked() -> anyhow::Result<()> {
    let mut shop = Shop::open("endings", 1).await?;
    let goods = shop.stock().await?;
    let mut placed = shop.place(&goods, Kind::BY_THEMSELVES).await?;

    // What an open order waits for, and what holds it up.
    let silent = placed.iter().find(|order| order.kind == Kind::ExpiresUnconfirmed).context("it was placed")?;
    in_vain(&shop.database("payment")?.pool, silent, "charge").await?;
    let shell = Shell::new(&shop.settings, shop.logs().into())?;
    let told = shell.run(&format!("quadrille saga {}", silent.id)).await?;
    assert!(told.contains("expects PaymentCaptured or PaymentDeclined from payment, for "), "{told}");
    assert!(told.contains("charge tried "), "{told}");

    // Withdrawn before anybody claimed it.
    let unclaimed =
        [(Kind::CancelledUnclaimed, "payment", "charge"), (Kind::CancelledBeforeHandOver, "shipping", "hand_over")];
    for (kind, service, effect) in unclaimed {
        let order = Placed::new(kind);
        let pool = &shop.database(service)?.pool;
        stand_before(pool, &order, effect).await?;
        shop.clients.place(&goods, &[order]).await?;
        effects_of(pool, &order, effect, 2).await?;
        shop.clients.cancel(&order).await?;
        placed.push(order);
    }

    // The same delivery again is nothing, and another one under its id is refused.
    let delivery = StockReplenishmentRequested::new(goods.changing.clone(), Uuid::new_v4(), 5);
    for quantity in [5, 5, 6] {
        shop.clients.send(&StockReplenishmentRequested { quantity, ..delivery.clone() }).await?;
    }
    shop.heard(&goods.changing, "StockRequestRefused").await?;
    assert_eq!(shop.follower.tally().story(&goods.changing).count("StockReplenished"), 2, "the first and one more");

    shop.settled(&placed, TIMEOUT).await?;

    // What payment knows already and the order service does not hear yet, for its own deadline or a cancellation to meet.
    let payment = shop.database("payment")?.pool.clone();
    let held = Held::relay_of(&payment).await?;
    let captured = [Kind::CancelledAsCaptured, Kind::ExpiresAsCaptured].map(Placed::new);
    shop.clients.place(&goods, &captured).await?;
    for order in &captured {
        waits_in_outbox(&payment, order, "PaymentCaptured").await?;
    }
    shop.clients.cancel(&captured[0]).await?;
    for order in &captured {
        shop.heard(&order.key(), "OrderCancelled").await?;
        assert!(!shop.follower.tally().story(&order.key()).has("PaymentCaptured"), "it was held back");
    }
    held.release().await;
    placed.extend(captured);

    // What shipping knows already, likewise.
    let shipping = shop.database("shipping")?.pool.clone();
    let held = Held::relay_of(&shipping).await?;
    let delivered = Placed::new(Kind::ExpiresAsDelivered);
    shop.clients.place(&goods, &[delivered]).await?;
    waits_in_outbox(&shipping, &delivered, "ShipmentDelivered").await?;
    shop.heard(&delivered.key(), "OrderRecallRequested").await?;
    assert!(!shop.follower.tally().story(&delivered.key()).has("ShipmentDelivered"), "it was held back");
    held.release().await;
    placed.push(delivered);

    // Nobody takes mails, and the order goes its way.
    shop.outside.mail_goes_away().await?;
    let unmailed = Placed::new(Kind::MailServerAway);
    shop.place_these(&goods, &[unmailed]).await?;
    shop.heard(&unmailed.key(), "OrderDelivered").await?;
    in_vain(&shop.database("notification")?.pool, &unmailed, "mail").await?;
    effects_of(&shop.database("notification")?.pool, &unmailed, "mail", 2).await?;
    shop.outside.mail_comes_back().await?;
    placed.push(unmailed);

    shop.settled(&placed, TIMEOUT).await?;
    let mut report = Report::default();
    accounts::check(&shop, &placed, &mut report).await?;
    assert_eq!(report.shortfalls(), Vec::<String>::new());

    rows_are_what_their_streams_say(&shop).await?;
    what_is_folded_may_be_read_again(&mut shop).await?;

    let ledger = shop.outside.ledger().await?;
    let mails = mails(&shop).await?;
    let tally = shop.follower.tally();
    for order in &placed {
        let story = tally.story(&order.key());
        let wrong = wrong(order, &story, &ledger, &mails);
        assert_eq!(wrong, Vec::<String>::new(), "{} ({}): {}", order.id, order.kind.name(), story.describe());
    }
    let of = |kind| placed.iter().find(|order| order.kind == kind).map(Placed::key).unwrap_or_default();
    assert_eq!(tally.story(&of(Kind::TwoLines)).committed, [(goods.plenty.clone(), 5)], "both lines as one");
    assert_eq!(ledger.orders[&of(Kind::PriceChanges)].net, 2 * CHANGING_CENTS.0, "the price of when it was ordered");
    assert_eq!(tally.story(&goods.changing).count("PriceChanged"), 1);
    assert!(tally.dead_letters.is_empty(), "{:?}", tally.dead_letters);
    Ok(())
}

/// Every order's row, rebuilt from its stream alone, is the row that is there.
async fn rows_are_what_their_streams_say(shop: &Shop) -> anyhow::Result<()> {
    let mut connection = shop.database("order")?.pool.acquire().await?;
    let ids: Vec<String> =
        sqlx::query_scalar("select order_id::text from orders order by 1").fetch_all(&mut *connection).await?;
    assert!(ids.len() > 30, "{} orders", ids.len());
    let mut state = quadrille_order::State::default();
    OrderStore::default().load(&mut connection, ORDERS, &ids, &mut state).await?;
    for (id, order) in &state.orders {
        assert_eq!(rebuild(&mut connection, id.parse()?).await?, *order, "the stream of {id} says otherwise");
    }
    Ok(())
}

/// Prices and addresses are folded from topics without end. Read again from their beginning, with an inbox that has forgotten all, they
/// change nothing: versions are compared.
async fn what_is_folded_may_be_read_again(shop: &mut Shop) -> anyhow::Result<()> {
    const PRICES: &str = "select jsonb_agg(price order by sku) from price";
    const ADDRESSES: &str = "select jsonb_agg(to_jsonb(address) - 'changed_at' order by user_id) from address";
    let folded = [("order", "product.events", PRICES), ("notification", "user.events", ADDRESSES)];
    let settings = shop.settings.clone();
    let rewind = |service: &str, topic: &str| {
        let options = group::Options { to: Start::Beginning, only: vec![topic.to_owned()], yes: true, json: true };
        tokio::task::block_in_place(|| group::rewind(&settings, service, &options))
    };
    let events = shop.follower.tally().events;
    for (service, topic, rows) in folded {
        let pool = shop.database(service)?.pool.clone();
        let before: serde_json::Value = sqlx::query_scalar(rows).fetch_one(&pool).await?;
        let refused = rewind(service, topic).err().context("it runs, and may not be rewound")?.to_string();
        assert!(refused.contains("stop them first"), "{refused}");
        shop.stop(service).await?;
        sqlx::query("delete from inbox").execute(&pool).await?;
        assert!(rewind(service, topic)?);
        shop.start(service).await?;
        shop.ready().await?;
        let read = "select exists (select from inbox)";
        until(format!("{service}'s inbox"), || sqlx::query_scalar(read).fetch_one(&pool)).await?;
        read_to_the_end(&settings, service, topic).await?;
        let after: serde_json::Value = sqlx::query_scalar(rows).fetch_one(&pool).await?;
        assert_eq!(before, after, "what {service} folds from {topic}");
    }
    assert_eq!(shop.follower.tally().events, events, "nothing was stated");
    Ok(())
}

/// Waits until a service's group has handled all that a topic holds.
async fn read_to_the_end(settings: &Settings, service: &str, topic: &str) -> anyhow::Result<()> {
    let is_read = || {
        let partitions = Reader::connect(&settings.kafka)?.partitions(&[topic])?;
        let committed = committed(&settings.kafka, &settings.group(service), &partitions)?;
        anyhow::Ok(partitions.iter().zip(committed).all(|(p, next)| next.unwrap_or(p.low) >= p.high))
    };
    let read = async {
        while !tokio::task::block_in_place(is_read)? {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(TIMEOUT, read).await.with_context(|| format!("{service} has not read {topic}"))?
}

/// What is not as this order's plan has it.
fn wrong(order: &Placed, story: &Story, ledger: &Ledger, mails: &[Mail]) -> Vec<String> {
    let plan = order.kind.plan();
    let mut wrong = order.strays(story);
    let mut must = |holds: bool, what: String| {
        if !holds {
            wrong.push(what);
        }
    };
    must(story.end().as_ref() == Some(&plan.end), format!("it was to be {}", plan.end));
    let account = ledger.orders.get(&order.key()).copied().unwrap_or_default();
    let money = (account.charges, account.refunds);
    must(money == plan.money, format!("{money:?} charges and refunds instead of {:?}", plan.money));

    let (mails, copies) = of_order(mails, order);
    must(mails.len() as u32 == story.count("NotificationSent"), format!("mails {mails:?}"));
    let mut in_order = mails.clone();
    in_order
        .sort_by_key(|mail| ORDER_OF_MAILS.iter().position(|subject| mail.subject == *subject).unwrap_or(usize::MAX));
    must(mails == in_order, format!("the order of mails {mails:?}"));
    match order.kind {
        Kind::MailCut => must(copies == 2 * mails.len(), format!("{copies} copies of {} mails", mails.len())),
        Kind::AddressLate => must(mails.iter().all(|mail| mail.to.starts_with("later.")), format!("{mails:?}")),
        Kind::AddressChanges => must(mails[0].to.starts_with("defer451-twice."), format!("{mails:?}")),
        _ => {}
    }
    wrong
}

/// Subjects, in the order in which an order's mails are due. After these a refund and a cancellation come in either order.
const ORDER_OF_MAILS: [&str; 2] = ["Your order is confirmed", "Your parcel is on its way"];

/// A mail as the catcher took it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mail {
    number: u64,
    message_id: String,
    to: String,
    subject: String,
    text: String,
}

async fn mails(shop: &Shop) -> anyhow::Result<Vec<Mail>> {
    let told = http::json(&format!("{}/api/mails?limit=100000", shop.outside.mail)).await?;
    let text = |mail: &serde_json::Value, field: &str| mail[field].as_str().unwrap_or_default().to_owned();
    let mut mails: Vec<Mail> = told["mails"]
        .as_array()
        .context("the mail catcher tells no mails")?
        .iter()
        .map(|mail| Mail {
            number: mail["number"].as_u64().unwrap_or_default(),
            message_id: text(mail, "message_id"),
            to: mail["to"][0].as_str().unwrap_or_default().to_owned(),
            subject: text(mail, "subject"),
            text: text(mail, "text"),
        })
        .collect();
    mails.sort_by_key(|mail| mail.number);
    Ok(mails)
}

/// An order's mails, each once, as they came; and how many copies of them.
fn of_order(mails: &[Mail], order: &Placed) -> (Vec<Mail>, usize) {
    let all = mails.iter().filter(|mail| mail.text.contains(&order.key()));
    let mut once: Vec<Mail> = vec![];
    for mail in all.clone() {
        if once.iter().all(|other| other.message_id != mail.message_id) {
            once.push(mail.clone());
        }
    }
    (once, all.count())
}

/// Puts an effect before the order's own of its kind: of one key and kind only the first is claimed, and this one is not due today.
async fn stand_before(pool: &PgPool, order: &Placed, kind: &str) -> anyhow::Result<()> {
    sqlx::query(
        "insert into effect (id, key, kind, name, effect, causation_id, traceparent, tracestate, due)
         values ($1, $2, $3, $3, '{}', $1, '', '', clock_timestamp() + interval '1 day')",
    )
    .bind(Uuid::new_v4())
    .bind(order.key())
    .bind(kind)
    .execute(pool)
    .await?;
    Ok(())
}

/// Waits until an order has so many effects of a kind.
async fn effects_of(pool: &PgPool, order: &Placed, kind: &str, count: i64) -> anyhow::Result<()> {
    let query = "select count(*) >= $3 from effect where key = $1 and kind = $2";
    until(format!("{count} {kind} of {}", order.id), || async {
        sqlx::query_scalar(query).bind(order.key()).bind(kind).bind(count).fetch_one(pool).await
    })
    .await
}

/// Waits until an order's effect of a kind was tried, and nothing is known.
async fn in_vain(pool: &PgPool, order: &Placed, kind: &str) -> anyhow::Result<()> {
    let query = "select exists (select from effect where key = $1 and kind = $2 and last_answer is not null)";
    until(format!("{kind} of {} tried in vain", order.id), || async {
        sqlx::query_scalar(query).bind(order.key()).bind(kind).fetch_one(pool).await
    })
    .await
}
