//! A service that only listens, and serves: which stock there is, which instances run, and what could not be handled.
use quadrille_core::{Decision, Envelope, Fact, Gone, Input, Moment, Nothing, Policy, Row, records, rows};
use quadrille_events::StockReplenished;
use quadrille_platform::{DeadLetter, InstanceHeartbeat};
use quadrille_runtime::{
    Context, Mapped, Service, Store,
    axum::{Json, Router, extract::Path, http::StatusCode, response::IntoResponse, routing::get},
    table, unknown_table,
};
use sqlx::PgConnection;
use std::{collections::BTreeMap, process::ExitCode};

records! { pub enum Heard { StockReplenished, InstanceHeartbeat, DeadLetter } with Gone }
records! { pub enum Stated {} }

const STOCK: &str = "stock";
const INSTANCE: &str = "instance";
const LETTERS: &str = "letters";

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Board;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) stock: BTreeMap<String, Stock>,
    instances: BTreeMap<String, String>,
    letters: BTreeMap<String, i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Stock {
    pub(crate) pieces: i64,
    version: i64,
    taken: i64,
}

rows! { State { stock: STOCK, instances: INSTANCE, letters: LETTERS } }

impl Policy for Board {
    const SERVICE: &'static str = "board";
    const TABLES: &'static [&'static str] = &[STOCK, INSTANCE, LETTERS];
    const DEAD_LETTERS_OF: &'static [&'static str] = &["inventory", "user"];
    type State = State;
    type Heard = Heard;
    type Stated = Stated;
    type Effect = Nothing;
    type Outcome = Nothing;
    type Timer = Nothing;
    type Command = Nothing;
    fn rows(_: &State, input: &Envelope<Self>) -> Vec<Row> {
        vec![match &input.input {
            Input::Record(Heard::StockReplenished(_)) => Row::new(STOCK, &input.key),
            Input::Record(Heard::InstanceHeartbeat(_)) | Input::Gone(Gone { .. }) => Row::new(INSTANCE, &input.key),
            Input::Record(Heard::DeadLetter(letter)) => Row::new(LETTERS, &letter.service),
            Input::Timer(never) | Input::Command(never) | Input::Outcome { outcome: never, .. } => match *never {},
        }]
    }
    fn react(_: &State, _: &Moment, _: &Envelope<Self>) -> Decision<Self> {
        Decision::nothing()
    }
    fn evolve(state: &mut State, input: &Envelope<Self>, _: &Decision<Self>) {
        match &input.input {
            Input::Record(Heard::StockReplenished(came)) => {
                assert!(came.quantity > 0, "a shop takes pieces, not {}", came.quantity);
                let stock = state.stock.entry(input.key.clone()).or_default();
                stock.taken += 1;
                // A writer may repeat itself: the same event, and version, at a later offset.
                if input.version > stock.version {
                    stock.version = input.version;
                    stock.pieces += i64::from(came.quantity);
                }
            }
            Input::Record(Heard::InstanceHeartbeat(beat)) => {
                state.instances.insert(input.key.clone(), beat.status.clone());
            }
            Input::Gone(Gone { .. }) => drop(state.instances.remove(&input.key)),
            Input::Record(Heard::DeadLetter(letter)) => *state.letters.entry(letter.service.clone()).or_default() += 1,
            Input::Timer(never) | Input::Command(never) | Input::Outcome { outcome: never, .. } => match *never {},
        }
    }
    fn version<'a>(_: &'a mut State, fact: &Stated) -> &'a mut i64 {
        match *fact {}
    }
}

table! { struct StockRow in "stock" { key sku: String, pieces: i64, version: i64, taken: i64 } }
table! { struct InstanceRow in "instance" { key name: String, status: String } }
table! { struct LettersRow in "letters" { key service: String, count: i64 } }

impl Mapped for StockRow {
    type Value = Stock;
    fn from_value(sku: String, stock: &Stock) -> Self {
        let Stock { pieces, version, taken } = *stock;
        Self { sku, pieces, version, taken }
    }
    fn into_value(self) -> sqlx::Result<Stock> {
        let Self { pieces, version, taken, .. } = self;
        Ok(Stock { pieces, version, taken })
    }
}

impl Mapped for InstanceRow {
    type Value = String;
    fn from_value(name: String, status: &String) -> Self {
        Self { name, status: status.clone() }
    }
    fn into_value(self) -> sqlx::Result<String> {
        Ok(self.status)
    }
}

impl Mapped for LettersRow {
    type Value = i64;
    fn from_value(service: String, count: &i64) -> Self {
        Self { service, count: *count }
    }
    fn into_value(self) -> sqlx::Result<i64> {
        Ok(self.count)
    }
}

pub(crate) struct Tables;
impl Store for Tables {
    type Policy = Board;
    async fn load(&self, tx: &mut PgConnection, table: &str, keys: &[String], state: &mut State) -> sqlx::Result<()> {
        match table {
            STOCK => StockRow::load(tx, keys, &mut state.stock).await,
            INSTANCE => InstanceRow::load(tx, keys, &mut state.instances).await,
            LETTERS => LettersRow::load(tx, keys, &mut state.letters).await,
            other => Err(unknown_table(other)),
        }
    }
    async fn save(&self, tx: &mut PgConnection, old: &State, new: &State, _: &[Fact<Board>]) -> sqlx::Result<()> {
        StockRow::save(tx, &old.stock, &new.stock).await?;
        InstanceRow::save(tx, &old.instances, &new.instances).await?;
        LettersRow::save(tx, &old.letters, &new.letters).await
    }
}

fn routes(context: Context<Board>) -> Router {
    let at_least = async move |Path((sku, pieces)): Path<(String, i64)>| {
        // Listened to before it is looked: what is committed in between is not missed.
        let mut committed = context.committed();
        loop {
            let found = sqlx::query_scalar("select pieces from stock where sku = $1").bind(&sku);
            match (found.fetch_optional(context.pool()).await, context.as_of().await) {
                (Ok(there), Ok(as_of)) if there.unwrap_or(0) >= pieces => {
                    return Json((there.unwrap_or(0), as_of)).into_response();
                }
                (Err(error), _) | (_, Err(error)) => {
                    return (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response();
                }
                _ if committed.next().await.is_none() => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
                _ => {}
            }
        }
    };
    Router::new().route("/stock/{sku}/{pieces}", get(at_least))
}

pub(crate) fn service() -> Service<Tables> {
    Service::new(Tables).migrations(&sqlx::migrate!("examples/board")).routes(routes)
}

fn main() -> ExitCode {
    service().main()
}
