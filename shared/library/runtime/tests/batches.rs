//! What inputs of one batch owe one another.

use std::collections::BTreeMap;

use crate::support::{Instance, Shop, Versions, VersionsBySku, distinct};
use chrono::TimeDelta;
use quadrille_core::{Decision, Envelope, Input, Moment, Named, Nothing, Policy, Row, records};
use quadrille_events::{Money, ProductListed, StockReplenishmentRequested};
use serde::{Deserialize, Serialize};

records! { pub enum Heard { StockReplenishmentRequested } }
records! { pub enum Stated { ProductListed } }

/// A request sets two timers that are due at once; each says so and clears the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Duel;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Shot {
    One,
    Other,
}

impl Named for Shot {
    fn kind(&self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Other => "other",
        }
    }
}

impl Policy for Duel {
    const SERVICE: &'static str = "tally";
    const TABLES: &'static [&'static str] = &["tally"];
    type Heard = Heard;
    type Stated = Stated;
    type Effect = Nothing;
    type Outcome = Nothing;
    type Timer = Shot;
    type Command = Nothing;
    type State = VersionsBySku;

    fn rows(_: &VersionsBySku, input: &Envelope<Self>) -> Vec<Row> {
        vec![Row::new("tally", &input.key)]
    }

    fn react(_: &VersionsBySku, moment: &Moment, input: &Envelope<Self>) -> Decision<Self> {
        match &input.input {
            Input::Record(Heard::StockReplenishmentRequested(_)) => {
                let due = moment.now + TimeDelta::milliseconds(300);
                Decision::nothing().set(&input.key, Shot::One, due).set(&input.key, Shot::Other, due)
            }
            Input::Timer(shot) => {
                let other = if *shot == Shot::One { Shot::Other } else { Shot::One };
                let price = Money::try_cents(100).expect("a price");
                let says = ProductListed { name: shot.name(), ..ProductListed::new(input.key.clone(), price) };
                Decision::fact(says).clear(&input.key, other.name())
            }
            Input::Gone(never) | Input::Command(never) | Input::Outcome { outcome: never, .. } => match *never {},
        }
    }

    fn evolve(_: &mut VersionsBySku, _: &Envelope<Self>, _: &Decision<Self>) {}

    fn version<'a>(state: &'a mut VersionsBySku, Stated::ProductListed(listed): &Stated) -> &'a mut i64 {
        state.entry(listed.sku.clone()).or_default()
    }
}

/// Two timers that are due together come in one batch: the one that is decided first clears the other, which then does not fire.
#[tokio::test(flavor = "multi_thread")]
async fn a_timer_that_its_batch_has_cleared_does_not_fire() -> anyhow::Result<()> {
    const SKUS: usize = 50;
    let shop = Shop::open().await?;
    let instance = Instance::start(Versions::<Duel>::service(), shop.config());
    for n in 0..SKUS {
        shop.ask_for(&format!("SKU-{n}"), 1, None).await?;
    }
    shop.world.read_until("product.events", |records| records.len() >= SKUS).await?;
    const NONE: &str = "select count(*) from timer having count(*) = 0";
    let _: i64 = shop.row(|pool| sqlx::query_scalar(NONE).fetch_optional(pool)).await?;
    instance.stop().await?;
    let mut facts = BTreeMap::<String, usize>::new();
    for record in shop.world.read("product.events").await? {
        *facts.entry(record.key_text()).or_default() += 1;
    }
    assert_eq!(facts.len(), SKUS);
    let twice: Vec<_> = facts.iter().filter(|(_, facts)| **facts != 1).collect();
    assert!(twice.is_empty(), "both fired: {twice:?}");
    Ok(())
}

/// Thinks for long about each input.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Slow;

impl Policy for Slow {
    const SERVICE: &'static str = "tally";
    const TABLES: &'static [&'static str] = &["tally"];
    type Heard = Heard;
    type Stated = Stated;
    type Effect = Nothing;
    type Outcome = Nothing;
    type Timer = Nothing;
    type Command = Nothing;
    type State = VersionsBySku;

    fn rows(_: &VersionsBySku, input: &Envelope<Self>) -> Vec<Row> {
        vec![Row::new("tally", &input.key)]
    }

    fn react(_: &VersionsBySku, _: &Moment, input: &Envelope<Self>) -> Decision<Self> {
        std::thread::sleep(std::time::Duration::from_millis(400));
        Decision::fact(ProductListed::new(input.key.clone(), Money::try_cents(100).expect("a price")))
    }

    fn evolve(_: &mut VersionsBySku, _: &Envelope<Self>, _: &Decision<Self>) {}

    fn version<'a>(state: &'a mut VersionsBySku, Stated::ProductListed(listed): &Stated) -> &'a mut i64 {
        state.entry(listed.sku.clone()).or_default()
    }
}

/// More than a transaction can do before the database gives it up: each by itself is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_takes_too_long_is_handled_one_by_one() -> anyhow::Result<()> {
    const INPUTS: usize = 25;
    let shop = Shop::open().await?;
    for _ in 0..INPUTS {
        shop.ask("TEA", 0).await?;
    }
    let instance = Instance::start(Versions::<Slow>::service(), shop.config());
    shop.world.read_until("product.events", |records| distinct(records) == INPUTS).await?;
    instance.stop().await
}
