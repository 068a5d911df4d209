//! A service that takes commands: whoever wants stock says so over HTTP, it requests the stock of whoever has it, and tells what became of that.
use quadrille_core::{Decision, Envelope, Fact, Input, Moment, Nothing, Policy, Record as _, Row, ids, kinds, records};
use quadrille_events::{StockReplenished, StockReplenishmentRequested};
use quadrille_runtime::{
    Context, Ended, Mapped, Service, Store,
    axum::{
        Json, Router,
        extract::{Path, State},
        http::{HeaderMap, StatusCode, header::LOCATION},
        response::{IntoResponse, Response},
        routing::{get, post},
    },
    table,
};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use std::{collections::BTreeMap, process::ExitCode};
use uuid::Uuid;

records! { pub enum Heard { StockReplenished } }
records! { pub enum Stated { StockReplenishmentRequested } }

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Command {
    Replenish { sku: String, quantity: i32 },
}

kinds!(Command { Replenish: REPLENISH = "replenish" });

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Desk;

/// What was wanted, by the id of the command that said so; and whether it came.
pub(crate) type Wanted = BTreeMap<String, Replenishment>;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Replenishment {
    pub(crate) sku: String,
    pub(crate) quantity: i32,
    pub(crate) came: bool,
}

impl Policy for Desk {
    const SERVICE: &'static str = "desk";
    const TABLES: &'static [&'static str] = &["replenishment"];
    type State = Wanted;
    type Heard = Heard;
    type Stated = Stated;
    type Effect = Nothing;
    type Outcome = Nothing;
    type Timer = Nothing;
    type Command = Command;
    fn rows(_: &Wanted, input: &Envelope<Self>) -> Vec<Row> {
        vec![match &input.input {
            Input::Record(Heard::StockReplenished(came)) => {
                Row::new("replenishment", came.replenishment_id.to_string())
            }
            _ => Row::new("replenishment", &input.key),
        }]
    }
    fn react(wanted: &Wanted, _: &Moment, input: &Envelope<Self>) -> Decision<Self> {
        match &input.input {
            // Longer ago than the inbox remembers.
            Input::Command(_) if wanted.get(&input.key).is_some_and(|known| known.quantity > 0) => Decision::nothing(),
            Input::Command(Command::Replenish { sku, quantity }) => {
                assert!(*quantity > 0, "a shop takes pieces, not {quantity}");
                Decision::fact(StockReplenishmentRequested::new(sku.clone(), input.id, *quantity))
            }
            _ => Decision::nothing(),
        }
    }
    fn evolve(wanted: &mut Wanted, input: &Envelope<Self>, decision: &Decision<Self>) {
        for Stated::StockReplenishmentRequested(asked) in &decision.facts {
            let (sku, quantity) = (asked.sku.clone(), asked.quantity);
            wanted.insert(input.key.clone(), Replenishment { sku, quantity, came: false });
        }
        if let Input::Record(Heard::StockReplenished(came)) = &input.input {
            match wanted.get_mut(&came.replenishment_id.to_string()) {
                Some(ours) if ours.quantity > 0 => ours.came = true,
                // Somebody else wanted it.
                _ => drop(wanted.remove(&came.replenishment_id.to_string())),
            }
        }
    }
    fn version<'a>(_: &'a mut Wanted, _: &Stated) -> &'a mut i64 {
        unreachable!("nobody numbers requests")
    }
}

table! { struct ReplenishmentRow in "replenishment" stamps changed_at { key id: String, sku: String, quantity: i32, came: bool } }

impl Mapped for ReplenishmentRow {
    type Value = Replenishment;
    fn from_value(id: String, wanted: &Replenishment) -> Self {
        let Replenishment { sku, quantity, came } = wanted.clone();
        Self { id, sku, quantity, came }
    }
    fn into_value(self) -> sqlx::Result<Replenishment> {
        let Self { sku, quantity, came, .. } = self;
        Ok(Replenishment { sku, quantity, came })
    }
}

pub(crate) struct Table;
impl Store for Table {
    type Policy = Desk;
    const ENDED: Option<Ended> =
        Some(Ended { table: "replenishment", key: "id", settled: "came", booked: "false", beside: None });
    async fn load(&self, tx: &mut PgConnection, _: &str, ids: &[String], wanted: &mut Wanted) -> sqlx::Result<()> {
        ReplenishmentRow::load(tx, ids, wanted).await
    }
    async fn save(&self, tx: &mut PgConnection, old: &Wanted, new: &Wanted, _: &[Fact<Desk>]) -> sqlx::Result<()> {
        ReplenishmentRow::save(tx, old, new).await
    }
}

/// What a request's body says, and what a page tells.
#[derive(Serialize, Deserialize)]
struct Shown {
    sku: String,
    quantity: i32,
    #[serde(default)]
    came: bool,
}

pub(crate) const REPLENISHMENTS: &str = "POST /replenishments";

async fn replenish(
    State(context): State<Context<Desk>>,
    headers: HeaderMap,
    Json(asked): Json<Shown>,
) -> Result<Response, Response> {
    let refused = |status: StatusCode, why: String| (status, why).into_response();
    let Some(key) = headers.get("idempotency-key").and_then(|key| key.to_str().ok()) else {
        return Err(refused(StatusCode::BAD_REQUEST, "the header Idempotency-Key is missing, or no text".into()));
    };
    let sku = StockReplenishmentRequested::TYPE.topic.key.normalize(Some(asked.sku.as_bytes()));
    let sku = sku.map_err(|error| refused(StatusCode::BAD_REQUEST, format!("sku: {error}")))?;
    let id = ids::command(Desk::SERVICE, "anybody", REPLENISHMENTS, key);
    let command = Command::Replenish { sku: sku.clone(), quantity: asked.quantity };
    context.commands().send(id, id, command, &headers).await.map_err(IntoResponse::into_response)?;
    match find(&context, id).await? {
        Some(known) if (&known.sku, known.quantity) == (&sku, asked.quantity) => {
            Ok((StatusCode::ACCEPTED, [(LOCATION, format!("/replenishments/{id}"))]).into_response())
        }
        _ => Err(refused(StatusCode::UNPROCESSABLE_ENTITY, "this key was used for something else".into())),
    }
}

async fn show(State(context): State<Context<Desk>>, Path(id): Path<Uuid>) -> Result<Response, Response> {
    Ok(find(&context, id)
        .await?
        .map_or_else(|| StatusCode::NOT_FOUND.into_response(), |known| Json(known).into_response()))
}

async fn find(context: &Context<Desk>, id: Uuid) -> Result<Option<Shown>, Response> {
    let found = sqlx::query_as("select sku, quantity, came from replenishment where id = $1").bind(id.to_string());
    let found: Option<(String, i32, bool)> = found
        .fetch_optional(context.pool())
        .await
        .map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response())?;
    Ok(found.map(|(sku, quantity, came)| Shown { sku, quantity, came }))
}

fn routes(context: Context<Desk>) -> Router {
    let one = Router::new().route("/replenishments/{id}", get(show));
    one.route("/replenishments", post(replenish)).with_state(context)
}

pub(crate) fn service() -> Service<Table> {
    Service::new(Table).migrations(&sqlx::migrate!("examples/desk")).routes(routes)
}

fn main() -> ExitCode {
    service().main()
}
