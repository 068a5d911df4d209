//! A whole service: it hears requests for stock, counts the pieces of each SKU, and states what came.
use quadrille_core::{Decision, Envelope, Fact, Input, Moment, Nothing, Policy, Row, records};
use quadrille_events::{StockReplenished, StockReplenishmentRequested};
use quadrille_runtime::{Mapped, Service, Store, table};
use sqlx::PgConnection;
use std::{collections::BTreeMap, process::ExitCode};
records! { pub enum Heard { StockReplenishmentRequested } }
records! { pub enum Stated { StockReplenished } }
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tally;
pub(crate) type State = BTreeMap<String, (i64, i64)>; // pieces and version by SKU

impl Policy for Tally {
    const SERVICE: &'static str = "tally";
    const TABLES: &'static [&'static str] = &["tally"];
    type State = State;
    type Heard = Heard;
    type Stated = Stated;
    type Effect = Nothing; // what it asks the outside to do
    type Outcome = Nothing; // what the outside answers
    type Timer = Nothing;
    type Command = Nothing; // what it is told over HTTP
    fn rows(_: &State, input: &Envelope<Self>) -> Vec<Row> {
        vec![Row::new("tally", &input.key)]
    }
    fn react(_: &State, _: &Moment, input: &Envelope<Self>) -> Decision<Self> {
        let Input::Record(Heard::StockReplenishmentRequested(asked)) = &input.input else { return Decision::nothing() };
        assert!(asked.quantity > 0, "a shop takes pieces, not {}", asked.quantity);
        Decision::fact(StockReplenished::new(input.key.clone(), asked.replenishment_id, asked.quantity))
    }
    fn evolve(state: &mut State, _: &Envelope<Self>, decision: &Decision<Self>) {
        for Stated::StockReplenished(came) in &decision.facts {
            state.entry(came.sku.clone()).or_default().0 += i64::from(came.quantity);
        }
    }
    fn version<'a>(state: &'a mut State, Stated::StockReplenished(came): &Stated) -> &'a mut i64 {
        &mut state.entry(came.sku.clone()).or_default().1
    }
}

table! {
    struct TallyRow in "tally" {
        key sku: String,
        pieces: i64,
        version: i64,
    }
}

impl Mapped for TallyRow {
    type Value = (i64, i64);
    fn from_value(sku: String, &(pieces, version): &(i64, i64)) -> Self {
        Self { sku, pieces, version }
    }
    fn into_value(self) -> sqlx::Result<(i64, i64)> {
        Ok((self.pieces, self.version))
    }
}
pub(crate) struct Table;
impl Store for Table {
    type Policy = Tally;
    async fn load(&self, tx: &mut PgConnection, _: &str, skus: &[String], state: &mut State) -> sqlx::Result<()> {
        TallyRow::load(tx, skus, state).await
    }
    async fn save(&self, tx: &mut PgConnection, old: &State, new: &State, _: &[Fact<Tally>]) -> sqlx::Result<()> {
        TallyRow::save(tx, old, new).await
    }
}
fn main() -> ExitCode {
    Service::new(Table).migrations(&sqlx::migrate!("examples/tally")).main()
}
