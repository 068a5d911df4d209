//! `demo`: the six kinds of order on the running stack, sent as a newcomer would send them, seen live, and held against what was asked.

use std::{collections::HashMap, time::Duration};

use anyhow::Context;
use quadrille_cli::{
    Settings, audit,
    codec::{Decoded, Decoder},
    kafka::{Record, Start},
    output::{self, Paint, Table},
    settings::Overrides,
    show,
};
use quadrille_events::to_json;
use serde_json::json;
use uuid::Uuid;

use crate::{
    Clients, Follower, Goods, Kind, Placed, Tally,
    orders::FEW,
    report::Report,
    shell::Shell,
    shop::{own_folder, priced},
};

const PATIENCE: Duration = Duration::from_secs(60);
/// How long a newcomer waits for one answer before the services are to be looked at.
const ANSWER: Duration = Duration::from_secs(20);
/// How long the provider thinks about the order that is cancelled meanwhile.
const THINKS_MS: u32 = 4_000;

/// Runs the show.
pub async fn run() -> anyhow::Result<Report> {
    let settings = Settings::load(Overrides::default())?;
    let paint = Paint::detect();
    let stage = Stage {
        paint,
        shell: Shell::new(&settings, own_folder("demo")?)?,
        clients: Clients::connect(&settings)?,
        goods: Goods::new(),
        orders: Kind::ALL.map(Placed::new),
    };
    let follower = Follower::start(&settings, Start::End, stage.live(&settings)?)?;

    stage.says("A customer and goods, by `quadrille produce`. A client orders once it has seen UserRegistered and ProductListed.");
    stage
        .open(&follower)
        .await
        .context("Are the services running? `make services` starts them, `make status` shows them")?;
    let pool = sqlx::PgPool::connect(&settings.database_url("order")).await.context("the order service's database")?;
    priced(&pool, &stage.goods).await?;

    stage.says("Six orders, by kcat and by the command line. Nobody calls anybody: each service hears facts and states new ones.");
    for order in &stage.orders {
        stage.order(order, &settings).await?;
    }
    stage.says("One of them is cancelled while the payment provider still thinks about its charge.");
    stage.cancel(&follower).await?;
    follower.until(PATIENCE, |tally| stage.is_over(tally), |tally| stage.what_is_open(tally)).await?;

    let mut report = Report::default();
    stage.says("What was asked for, and what came.");
    stage.table(&follower.tally(), &mut report)?;
    stage.says("The audit: what must always hold, over all topics, all databases and the provider's ledger.");
    let clean = audit::run(&settings, audit::Options::default(), false).await?;
    report.figure(if clean { "audit clean" } else { "the audit finds offences" });
    report.must(clean, || "the audit finds offences, see above".to_owned());
    stage.where_to_look_next();
    Ok(report)
}

struct Stage {
    paint: Paint,
    shell: Shell,
    clients: Clients,
    goods: Goods,
    orders: [Placed; 6],
}

impl Stage {
    fn says(&self, text: &str) {
        println!("\n{}", self.paint.good(text));
    }

    async fn runs(&self, line: &str) -> anyhow::Result<()> {
        println!("{}", self.paint.faint(&format!("$ {line}")));
        self.shell.run(line).await.map(drop)
    }

    /// Shows what comes of this run's orders, customer and goods: a line a record, in its saga's colour.
    fn live(&self, settings: &Settings) -> anyhow::Result<impl FnMut(&Record) + Send + 'static> {
        let mut labels: HashMap<String, String> =
            self.orders.iter().map(|order| (order.key(), order.kind.name().to_owned())).collect();
        labels.insert(self.goods.customer.to_string(), "the customer".to_owned());
        labels.extend([&self.goods.plenty, &self.goods.few].map(|sku| (sku.clone(), sku.clone())));
        let (paint, decoder) = (self.paint, Decoder::connect(settings)?);
        Ok(move |record: &Record| {
            let key = record.key_text();
            let Some(label) = labels.get(&key) else { return };
            let decoded = decoder.decode(Some(&record.topic), record.value.as_deref());
            if let Ok(Decoded::Record { info, json }) = decoded {
                let clock = paint.faint(&show::clock(record.timestamp_ms));
                let name = paint.saga(&key, &format!("{label:<29} {:<27}", info.short_name()));
                println!("{clock}  {name} {}", paint.faint(&shortened(&told(&show::brief(info, &json)))));
            }
        })
    }

    /// Registers the customer, lists the goods and stocks the shelves, as a client does: each after it has seen the answer.
    async fn open(&self, follower: &Follower) -> anyhow::Result<()> {
        let Goods { tag, plenty, few, customer } = &self.goods;
        let name = format!("ann-{}", tag.to_lowercase());
        self.runs(&format!(
            "quadrille example UserRegistrationRequested --set user_id={customer} --set user_name={name} --set personal.email={name}@example.com | quadrille produce UserRegistrationRequested"
        ))
        .await?;
        for (sku, price) in [(plenty, "19.99"), (few, "8.50")] {
            self.runs(&format!(
                "quadrille example ProductListingRequested --set sku={sku} --set price={price} | quadrille produce ProductListingRequested"
            ))
            .await?;
        }
        heard(follower, &customer.to_string(), "UserRegistered").await?;
        for (sku, quantity) in [(plenty, 1_000), (few, FEW)] {
            heard(follower, sku, "ProductListed").await?;
            self.runs(&format!(
                "quadrille example StockReplenishmentRequested --set sku={sku} --set quantity={quantity} --set replenishment_id={} | quadrille produce StockReplenishmentRequested",
                Uuid::new_v4()
            ))
            .await?;
            heard(follower, sku, "StockReplenished").await?;
        }
        Ok(())
    }

    async fn order(&self, order: &Placed, settings: &Settings) -> anyhow::Result<()> {
        let file = format!("{}.json", order.kind.name().replace(' ', "-"));
        self.shell.file(&file, &to_json(&order.request(&self.goods, THINKS_MS)))?;
        let line = match sent_by(order.kind) {
            "kcat" => format!(
                "quadrille encode OrderRequested {file} | kcat -P -b {} -t {} -k {} -D :end-of-record:",
                settings.kafka.brokers,
                settings.topic("order.requests"),
                order.id
            ),
            _ => format!("quadrille produce OrderRequested {file}"),
        };
        self.runs(&line).await
    }

    async fn cancel(&self, follower: &Follower) -> anyhow::Result<()> {
        for order in self.orders.iter().filter(|order| order.kind == Kind::Cancelled) {
            heard(follower, &order.key(), "StockReserved").await?;
            self.clients.charged(order, PATIENCE).await?;
            let asked = json!({"order_id": order.id, "reason": "Changed my mind."});
            self.shell.file("cancellation.json", &asked.to_string())?;
            self.runs("quadrille produce OrderCancellationRequested cancellation.json").await?;
        }
        Ok(())
    }

    fn is_over(&self, tally: &Tally) -> bool {
        self.orders.iter().all(|order| {
            tally.is(&order.key(), |story| {
                story.is_settled() && (order.kind == Kind::UnknownCustomer || story.mails_owed() == 0)
            })
        })
    }

    fn what_is_open(&self, tally: &Tally) -> String {
        let open = self
            .orders
            .iter()
            .map(|order| format!("{} ({}): {}", order.id, order.kind.name(), tally.story(&order.key()).told()));
        format!("the orders have not all ended:\n  {}", open.collect::<Vec<_>>().join("\n  "))
    }

    fn table(&self, tally: &Tally, report: &mut Report) -> anyhow::Result<()> {
        let mut table = Table::new(["order", "kind", "sent by", "asked for", "came", "facts", "took"]);
        let (mut good, mut all) = (0, 0);
        for order in &self.orders {
            let (key, story) = (order.key(), tally.story(&order.key()));
            let (asked, came) = (order.kind.asked(), story.end());
            let (facts, took_ms) = story.length();
            let as_asked = came.as_ref() == Some(&asked);
            let came = came.map(|end| end.to_string()).unwrap_or_default();
            good += usize::from(as_asked);
            all += facts;
            report.must(as_asked, || format!("{key} was to be {asked}, and is {came}"));
            report.must_be_none("stated twice", &story.doubled());
            table.row([
                self.paint.saga(&key, &key),
                order.kind.name().to_owned(),
                sent_by(order.kind).to_owned(),
                asked.to_string(),
                if as_asked { self.paint.good(&came) } else { self.paint.bad(&came) },
                facts.to_string(),
                output::step(took_ms).trim_start_matches('+').to_owned(),
            ]);
        }
        table.print()?;
        report.figure(format!("{good} of {} orders ended as asked", self.orders.len()));
        report.figure(format!("{all} facts stated of them"));
        Ok(())
    }

    fn where_to_look_next(&self) {
        let port = |variable: &str, usual: &str| std::env::var(variable).unwrap_or_else(|_| usual.to_owned());
        let example = self.orders[5].id;
        self.says("Where to look next (export PATH=\"$PWD/target/debug:$PATH\")");
        for (what, why) in [
            (format!("quadrille saga {example}"), "the cancelled order: every step, its cause, the time between"),
            ("quadrille watch 'order.*'".to_owned(), "facts as they come; order something in another terminal"),
            ("quadrille orders".to_owned(), "every order and where it stands"),
            (format!("http://127.0.0.1:{}", port("QUADRILLE_MAIL_PORT", "8025")), "the mails that were sent"),
            (
                format!("http://127.0.0.1:{}/ledger", port("QUADRILLE_PAYMENT_PORT", "8071")),
                "the money, as the provider tells it",
            ),
            ("services/inventory/src/policy.rs".to_owned(), "how a service decides: a pure function"),
            ("make show-kill".to_owned(), "kill -9 of all six services in the middle of 500 orders"),
        ] {
            println!("  {what:<54} {}", self.paint.faint(why));
        }
        println!();
    }
}

/// Half of the orders go by kcat, without headers; the other half by the command line, with them.
fn sent_by(kind: Kind) -> &'static str {
    if matches!(kind, Kind::Good | Kind::ShortOfStock | Kind::Declined) { "kcat" } else { "quadrille produce" }
}

async fn heard(follower: &Follower, key: &str, name: &str) -> anyhow::Result<()> {
    let missing = |tally: &Tally| format!("no {name} of {key} came: {}", tally.story(key).told());
    follower.until(ANSWER, |tally| tally.is(key, |story| story.has(name)), missing).await
}

/// What a newcomer wants to know: not who ordered, which is the same throughout.
fn told(brief: &str) -> String {
    const KNOWN: [&str; 4] = ["customer_id=", "details.customer_id=", "details.currency=", "currency="];
    let parts = brief.split(' ').filter(|part| !KNOWN.iter().any(|known| part.starts_with(known)));
    parts.map(|part| part.strip_prefix("details.").unwrap_or(part)).collect::<Vec<_>>().join(" ")
}

/// A line of a terminal has an end.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 70;
    if text.chars().count() <= LONGEST {
        text.to_owned()
    } else {
        text.chars().take(LONGEST - 1).chain(['…']).collect()
    }
}
