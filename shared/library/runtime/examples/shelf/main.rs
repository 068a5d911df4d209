//! A read model that is rebuilt: of each SKU what came last, and how much came in all. Its first generation keeps pieces; later ones keep what came
//! last in hundredths, as goods by the metre want it.
use quadrille_core::{Decision, Envelope, Fact, Input, Moment, Nothing, Policy, Row, records};
use quadrille_events::StockReplenished;
use quadrille_runtime::{
    Context, Mapped, Service, Store,
    axum::{Json, Router, extract::Path, http::StatusCode, response::IntoResponse, routing::get},
    table,
};
use sqlx::{AssertSqlSafe, PgConnection, error::BoxDynError};
use std::{collections::BTreeMap, process::ExitCode};

records! { pub enum Heard { StockReplenished } }
records! { pub enum Stated {} }

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shelf<const G: u16>;

type State = BTreeMap<String, Item>;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Item {
    last: i64,
    version: i64,
    sum: i64,
    summed: i64,
    taken: i64,
}

impl<const G: u16> Policy for Shelf<G> {
    const SERVICE: &'static str = "shelf";
    const TABLES: &'static [&'static str] = &["shelf"];
    type State = State;
    type Heard = Heard;
    type Stated = Stated;
    type Effect = Nothing;
    type Outcome = Nothing;
    type Timer = Nothing;
    type Command = Nothing;
    fn rows(_: &State, input: &Envelope<Self>) -> Vec<Row> {
        vec![Row::new("shelf", &input.key)]
    }
    fn react(_: &State, _: &Moment, _: &Envelope<Self>) -> Decision<Self> {
        Decision::nothing()
    }
    fn evolve(state: &mut State, input: &Envelope<Self>, _: &Decision<Self>) {
        let Input::Record(Heard::StockReplenished(came)) = &input.input else { return };
        assert!(G > 1 || came.quantity > 0, "the first generation knew no returns");
        let item = state.entry(input.key.clone()).or_default();
        item.taken += 1;
        if input.version > item.version {
            item.version = input.version;
            item.last = i64::from(came.quantity) * if G > 1 { 100 } else { 1 };
        }
        if input.version > item.summed {
            item.summed = input.version;
            item.sum += i64::from(came.quantity);
        }
    }
    fn version<'a>(_: &'a mut State, fact: &Stated) -> &'a mut i64 {
        match *fact {}
    }
}

table! { struct ShelfRow in "shelf" { key sku: String, last: i64, version: i64, sum: i64, summed: i64, taken: i64 } }

impl Mapped for ShelfRow {
    type Value = Item;
    fn from_value(sku: String, item: &Item) -> Self {
        let Item { last, version, sum, summed, taken } = *item;
        Self { sku, last, version, sum, summed, taken }
    }
    fn into_value(self) -> sqlx::Result<Item> {
        let Self { last, version, sum, summed, taken, .. } = self;
        Ok(Item { last, version, sum, summed, taken })
    }
}

/// The rows of a generation, with those of the former one or without.
pub(crate) struct Tables<const G: u16> {
    pub(crate) takes_over: bool,
}

impl<const G: u16> Store for Tables<G> {
    type Policy = Shelf<G>;
    async fn take_over(&self, tx: &mut PgConnection, old: &str) -> Result<Option<u64>, BoxDynError> {
        if !self.takes_over {
            return Ok(None);
        }
        // What came last is folded anew wherever its record is still there, so it stands for none of them. The sum stands for all that came.
        let last = if G == 2 { "last * 100" } else { "last" };
        let take = format!(
            "insert into shelf (sku, last, version, sum, summed) select sku, {last}, 0, sum, summed from {old}.shelf"
        );
        Ok(Some(sqlx::query(AssertSqlSafe(take)).execute(tx).await?.rows_affected()))
    }
    async fn load(&self, tx: &mut PgConnection, _: &str, skus: &[String], state: &mut State) -> sqlx::Result<()> {
        ShelfRow::load(tx, skus, state).await
    }
    async fn save(&self, tx: &mut PgConnection, old: &State, new: &State, _: &[Fact<Shelf<G>>]) -> sqlx::Result<()> {
        ShelfRow::save(tx, old, new).await
    }
}

fn routes<const G: u16>(context: Context<Shelf<G>>) -> Router {
    let item = async move |Path(sku): Path<String>| {
        let found = sqlx::query_as::<_, (i64, i64)>("select last, sum from shelf where sku = $1").bind(sku);
        match found.fetch_optional(context.pool()).await {
            Ok(found) => Json((context.generation(), found.unwrap_or_default())).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    };
    Router::new().route("/shelf/{sku}", get(item))
}

pub(crate) fn service<const G: u16>(takes_over: bool) -> Service<Tables<G>> {
    Service::new(Tables { takes_over }).migrations(&sqlx::migrate!("examples/shelf")).generation(G).routes(routes)
}

fn main() -> ExitCode {
    service::<2>(true).main()
}
