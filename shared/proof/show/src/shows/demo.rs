//! `demo`: orders of many kinds on the running stack, group by group, seen live and held against what was asked.

use std::{collections::HashMap, io::Write, time::Duration};

use anyhow::Context;
use futures::future::try_join_all;
use quadrille_cli::{
    Settings,
    codec::{Decoded, Decoder},
    kafka::{Record, Start},
    output::{self, Paint, Table},
    render,
    settings::Overrides,
};
use quadrille_events::to_json;
use quadrille_program::say;
use quadrille_shop::{CATALOGUE, audit};
use serde_json::json;
use uuid::Uuid;

use crate::{
    Clients, Follower, Goods, Kind, Placed, Tally,
    outside::Ledger,
    report::Report,
    shell::Shell,
    shop::{own_folder, priced},
};

/// How long a group may take to its ends.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long the two deadlines may take: a deadline waits a while after the services' start, and the provider is silent for a minute.
const LONG: Duration = Duration::from_secs(150);
/// How long a newcomer waits for one answer before the services are to be looked at.
const ANSWER: Duration = Duration::from_secs(20);

/// What is shown after the first six: what there is to see, and the orders that show it.
const GROUPS: [(&str, &[Kind]); 7] = [
    (
        "Turned away at the door: OrderRejected, final for that id, and nobody else hears of it.",
        &[Kind::UnknownSku, Kind::OtherTotal, Kind::TotalOverflows, Kind::TooMany],
    ),
    (
        "A known id stays what it is: the same again is nothing new, other content is refused.",
        &[Kind::SameAgain, Kind::OtherContentWhileOpen, Kind::OtherContentAfterDelivery],
    ),
    (
        "The payment provider is away, or its answer is lost: it is asked what it did, and charges once.",
        &[Kind::DeclinedLater, Kind::ChargeNotMade, Kind::ChargeTimedOut, Kind::ChargeUnknown, Kind::PriceChanges],
    ),
    (
        "Cancelled after confirmation: a parcel may be on its way, so shipping decides.",
        &[Kind::CancelledOnTheWay, Kind::CancelledTooLate, Kind::RefundRefused, Kind::RefundUnknown],
    ),
    (
        "The carrier's word ends an order too.",
        &[Kind::CarrierRefuses, Kind::HandOverTimedOut, Kind::ParcelReturns, Kind::ParcelLost],
    ),
    ("Customers: verified is verified.", &[Kind::Deactivated, Kind::DeactivatedLater]),
    (
        "Mails hang on nothing: an order goes its way without them.",
        &[Kind::AddressLate, Kind::MailPutOff, Kind::MailRefused, Kind::MailCut],
    ),
];
/// What takes long, and is under way meanwhile.
const DEADLINES: (&str, &[Kind]) = (
    "Two deadlines, one before and one after confirmation. They take a while: see them come between the others.",
    &[Kind::ExpiresUnconfirmed, Kind::ExpiresOnTheWay],
);
/// Facts of the straight path: shown of the first six orders, and known from then on.
const KNOWN: [&str; 11] = [
    "OrderRequested",
    "OrderCreated",
    "OrderConfirmed",
    "CustomerVerified",
    "StockReserved",
    "ReservationCommitted",
    "ReservationReleased",
    "ShipmentDispatched",
    "OrderShipped",
    "ShipmentDelivered",
    "NotificationSent",
];

/// Runs the show.
pub async fn run() -> anyhow::Result<Report> {
    let settings = Settings::load(*CATALOGUE, Overrides::default())?;
    let place = |kinds: &[Kind]| kinds.iter().copied().map(Placed::new).collect::<Vec<_>>();
    let stage = Stage {
        paint: Paint::detect(),
        shell: Shell::new(&settings, own_folder("demo")?)?,
        clients: Clients::connect(&settings)?,
        goods: Goods::new(),
        first: place(&Kind::BASIC),
        deadlines: place(DEADLINES.1),
        groups: GROUPS.iter().map(|(_, kinds)| place(kinds)).collect(),
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
    for order in &stage.first {
        stage.order(order, &settings).await?;
    }
    stage.says("One of them is cancelled while the payment provider still thinks about its charge.");
    stage.cancel(&follower).await?;
    stage.over(&follower, &stage.first, TIMEOUT).await?;

    stage.says("From here on only what is off the straight path is shown.");
    stage.group(DEADLINES.0, &stage.deadlines);
    let stage = &stage;
    let follower = &follower;
    let later = async {
        stage.play(follower, &stage.deadlines).await?;
        stage.over(follower, &stage.deadlines, LONG).await
    };
    let groups = async {
        for ((says, _), orders) in GROUPS.iter().zip(&stage.groups) {
            stage.group(says, orders);
            stage.play(follower, orders).await?;
            stage.over(follower, orders, TIMEOUT).await?;
        }
        if !stage.is_over(&follower.tally(), &stage.deadlines) {
            stage.says(
                "The provider is silent still about one charge; its order was cancelled when its deadline passed.",
            );
        }
        Ok(())
    };
    tokio::try_join!(later, groups)?;

    let mut report = Report::default();
    stage.says("What was asked for, and what came.");
    let ledger = Ledger::of(audit::provider_url(&settings)).await?;
    stage.table(&follower.tally(), &ledger, &mut report)?;
    stage.says("The audit: what must always hold, over all topics, all databases and the provider's ledger.");
    let clean = audit::run(&settings, audit::Options::default(), false).await?;
    report.figure(if clean { "audit clean" } else { "the audit finds offences" });
    report.must(clean, || "the audit finds offences, see above".to_owned());
    stage.where_to_look_next()?;
    Ok(report)
}

struct Stage {
    paint: Paint,
    shell: Shell,
    clients: Clients,
    goods: Goods,
    /// The first six.
    first: Vec<Placed>,
    deadlines: Vec<Placed>,
    /// As [`GROUPS`].
    groups: Vec<Vec<Placed>>,
}

impl Stage {
    fn says(&self, text: &str) {
        say!("\n{}", self.paint.good(text));
    }

    async fn runs(&self, line: &str) -> anyhow::Result<()> {
        say!("{}", self.paint.faint(&format!("$ {line}")));
        self.shell.run(line).await.map(drop)
    }

    /// Shows what comes of this run's orders, customer and goods: a line per record, in its saga's colour.
    fn live(&self, settings: &Settings) -> anyhow::Result<impl FnMut(&Record) + Send + 'static> {
        let mut labels: HashMap<String, (String, bool)> =
            self.orders().map(|order| (order.key(), (order.kind.name().to_owned(), false))).collect();
        let whole = |label: &str| (label.to_owned(), true);
        labels.extend(self.first.iter().map(|order| (order.key(), whole(order.kind.name()))));
        labels.insert(self.goods.customer.to_string(), whole("the customer"));
        labels.extend([&self.goods.plenty, &self.goods.few].map(|sku| (sku.clone(), whole(sku))));
        let (paint, decoder) = (self.paint, Decoder::connect(settings)?);
        Ok(move |record: &Record| {
            let key = record.key_text();
            let Some((label, whole)) = labels.get(&key) else { return };
            let decoded = decoder.decode(Some(&record.topic), record.value.as_deref());
            if let Ok(Decoded::Record { info, json }) = decoded
                && (*whole || !KNOWN.contains(&info.short_name()))
            {
                let clock = paint.faint(&render::clock(record.timestamp_ms));
                let name = paint.saga(&key, &format!("{label:<34} {:<27}", info.short_name()));
                // On the follower's thread: where nobody reads on, the show's own next line ends it.
                let told = paint.faint(&shortened(&readable(&render::brief(info, &json))));
                let _ = writeln!(std::io::stdout(), "{clock}  {name} {told}");
            }
        })
    }

    /// Registers the customer, lists the goods and stocks the shelves, as a client does: each after it has seen the answer.
    async fn open(&self, follower: &Follower) -> anyhow::Result<()> {
        let Goods { tag, customer, .. } = &self.goods;
        let name = format!("ann-{}", tag.to_lowercase());
        self.runs(&format!(
            "quadrille example UserRegistrationRequested --set user_id={customer} --set user_name={name} --set personal.email={name}@example.com | quadrille produce UserRegistrationRequested"
        ))
        .await?;
        let products = self.goods.products();
        let (shown, rest) = products.split_at(2);
        for product in shown {
            self.runs(&format!(
                "quadrille example ProductListingRequested --set sku={} --set name='{}' --set price={} | quadrille produce ProductListingRequested",
                product.sku, product.name, product.price
            ))
            .await?;
        }
        self.clients.list(rest).await?;
        heard(follower, &customer.to_string(), "UserRegistered").await?;
        for product in &products {
            heard(follower, product.sku, "ProductListed").await?;
        }
        for product in shown {
            self.runs(&format!(
                "quadrille example StockReplenishmentRequested --set sku={} --set quantity={} --set replenishment_id={} | quadrille produce StockReplenishmentRequested",
                product.sku, product.quantity, Uuid::new_v4()
            ))
            .await?;
        }
        self.clients.replenish(rest).await?;
        for product in &products {
            heard(follower, product.sku, "StockReplenished").await?;
        }
        Ok(())
    }

    async fn order(&self, order: &Placed, settings: &Settings) -> anyhow::Result<()> {
        let file = format!("{}.json", order.kind.name().replace(' ', "-"));
        self.shell.file(&file, &to_json(&order.request(&self.goods)))?;
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
        for order in self.first.iter().filter(|order| order.kind == Kind::Cancelled) {
            self.clients.charged(follower, order).await?;
            let asked = json!({"order_id": order.id, "reason": "Changed my mind."});
            self.shell.file("cancellation.json", &asked.to_string())?;
            self.runs("quadrille produce OrderCancellationRequested cancellation.json").await?;
        }
        Ok(())
    }

    /// Says what a group shows, an order per line.
    fn group(&self, says: &str, orders: &[Placed]) {
        self.says(says);
        for order in orders {
            let plan = order.kind.plan();
            say!("  {} {}", self.paint.saga(&order.key(), &format!("{:<34}", plan.name)), self.paint.faint(plan.why));
        }
    }

    /// Does all that the clients of these orders do.
    async fn play(&self, follower: &Follower, orders: &[Placed]) -> anyhow::Result<()> {
        try_join_all(orders.iter().map(|order| self.clients.before(follower, order))).await?;
        self.clients.place(&self.goods, orders).await?;
        try_join_all(orders.iter().map(|order| self.clients.after(follower, &self.goods, order))).await.map(drop)
    }

    /// Waits until these orders are over.
    async fn over(&self, follower: &Follower, orders: &[Placed], patience: Duration) -> anyhow::Result<()> {
        let missing = |tally: &Tally| {
            let open = orders.iter().filter(|order| !tally.is(&order.key(), |story| order.is_over(story)));
            let told = open.map(|order| {
                format!("\n  {} ({}): {}", order.id, order.kind.name(), tally.story(&order.key()).describe())
            });
            format!("these orders have not come to their ends:{}", told.collect::<String>())
        };
        follower.until(patience, |tally| self.is_over(tally, orders), missing).await
    }

    fn is_over(&self, tally: &Tally, orders: &[Placed]) -> bool {
        orders.iter().all(|order| tally.is(&order.key(), |story| order.is_over(story)))
    }

    /// All orders, in the order in which they are shown.
    fn orders(&self) -> impl Iterator<Item = &Placed> {
        self.first.iter().chain(self.groups.iter().flatten()).chain(&self.deadlines)
    }

    fn table(&self, tally: &Tally, ledger: &Ledger, report: &mut Report) -> anyhow::Result<()> {
        let mut table = Table::new(["order", "kind", "asked for", "came", "charged", "refunded", "facts", "took"]);
        let (mut good, mut count, mut all) = (0, 0, 0);
        for order in self.orders() {
            let (key, story, plan) = (order.key(), tally.story(&order.key()), order.kind.plan());
            let came = story.end();
            let (facts, took_ms) = story.length();
            let as_asked = came.as_ref() == Some(&plan.end);
            let came = came.map(|end| end.to_string()).unwrap_or_default();
            let account = ledger.orders.get(&key).copied().unwrap_or_default();
            let money = (account.charges, account.refunds);
            count += 1;
            good += usize::from(as_asked);
            all += facts;
            report.must(as_asked, || format!("{key} was to be {}, and is {came}", plan.end));
            report.must(money == plan.money, || {
                format!("{key} was charged and refunded {money:?} times, not {:?}", plan.money)
            });
            report.must_be_none(&format!("{key} ({}) states", plan.name), &order.strays(&story));
            report.must_be_none("stated twice", &story.doubled());
            table.row([
                self.paint.saga(&key, &key),
                plan.name.to_owned(),
                plan.end.to_string(),
                if as_asked { self.paint.good("as asked") } else { self.paint.bad(&came) },
                account.charges.to_string(),
                account.refunds.to_string(),
                facts.to_string(),
                output::step(took_ms).trim_start_matches('+').to_owned(),
            ]);
        }
        table.print()?;
        report.figure(format!("{good} of {count} kinds of order ended as asked"));
        report.figure(format!("{all} facts stated of them"));
        Ok(())
    }

    fn where_to_look_next(&self) -> anyhow::Result<()> {
        let example = self.first[5].id;
        self.says("Where to look next (export PATH=\"$PWD/target/debug:$PATH\"; eval \"$(infra/local/env)\")");
        for (what, why) in [
            (format!("quadrille saga {example}"), "the cancelled order: every step, its cause, the time between"),
            ("quadrille watch 'order.*'".to_owned(), "facts as they come; order something in another terminal"),
            ("quadrille orders".to_owned(), "every order and where it stands"),
            (format!("http://127.0.0.1:{}", port("QUADRILLE_MAIL_PORT", 8025)?), "the mails that were sent"),
            (
                format!("http://127.0.0.1:{}/ledger", port("QUADRILLE_PAYMENT_PORT", 8071)?),
                "the money, as the provider tells it",
            ),
            ("services/inventory/src/policy.rs".to_owned(), "how a service decides: a pure function"),
            ("make show-kill".to_owned(), "kill -9 of all six services in the middle of 500 orders"),
        ] {
            say!("  {what:<54} {}", self.paint.faint(why));
        }
        say!("");
        Ok(())
    }
}

/// Half of the orders go by kcat, without headers; the other half by the command line, with them.
fn sent_by(kind: Kind) -> &'static str {
    if matches!(kind, Kind::Good | Kind::ShortOfStock | Kind::Declined) { "kcat" } else { "quadrille produce" }
}

/// The port of a stand-in.
fn port(variable: &str, usual: u16) -> anyhow::Result<u16> {
    let Some(port) = std::env::var_os(variable) else { return Ok(usual) };
    let parsed = port.to_str().and_then(|port| port.parse().ok());
    parsed.with_context(|| format!("{variable} is '{}', which is no port", port.to_string_lossy()))
}

async fn heard(follower: &Follower, key: &str, name: &str) -> anyhow::Result<()> {
    let missing = |tally: &Tally| format!("no {name} of {key} came: {}", tally.story(key).describe());
    follower.until(ANSWER, |tally| tally.is(key, |story| story.has(name)), missing).await
}

/// What a newcomer wants to know: not who ordered, which is the same throughout.
fn readable(brief: &str) -> String {
    const SAME: [&str; 4] = ["customer_id=", "details.customer_id=", "details.currency=", "currency="];
    let parts = brief.split(' ').filter(|part| !SAME.iter().any(|known| part.starts_with(known)));
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
