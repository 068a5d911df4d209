//! The order service's rows, and the events behind them: `migrations/` says what they hold.

use std::collections::BTreeMap;

use quadrille_core::{Fact, Records, Timestamp, changed};
use quadrille_event_store::{self as event_store, Append, Event, Schema};
use quadrille_events::{Money, WriterSchema, order::OrderDetails};
use quadrille_runtime::{Ended, Mapped, Store, table, unknown_table};
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{
    Stated,
    policy::{Accepted, ORDERS, Order, Orders, PRICE, Price, Stage, State, Status},
};

/// The order service's database.
#[derive(Clone, Debug)]
pub struct OrderStore {
    /// The schemas of what is stated, in the order of [`Stated`]'s types.
    schemas: Vec<Schema>,
}

impl Default for OrderStore {
    fn default() -> Self {
        Self { schemas: Stated::TYPES.iter().map(|record| Schema::new(record.schema)).collect() }
    }
}

table! {
    #[derive(Default)]
    struct OrderRow in "orders" stamps changed_at {
        key order_id: Uuid,
        version: i64,
        status: String,
        request_digest: Option<String>,
        details: Option<Json<OrderDetails>>,
        confirm_by: Option<Timestamp>,
        end_within_ms: Option<i64>,
        end_by: Option<Timestamp>,
        recall_asked: bool,
        recall_shipped: bool,
    }
}

impl Store for OrderStore {
    type Policy = Orders;

    const ENDED: Option<Ended> = Some(Ended {
        table: ORDERS,
        key: "order_id",
        settled: "status in ('rejected', 'delivered', 'cancelled')",
        booked: "false",
        // An order's events: its history is kept as long as the books.
        beside: Some("delete from event where stream = any(array(select key::uuid from old))"),
    });

    async fn load(
        &self,
        tx: &mut PgConnection,
        table: &'static str,
        keys: &[String],
        state: &mut State,
    ) -> sqlx::Result<()> {
        match table {
            ORDERS => OrderRow::load(tx, keys, &mut state.orders).await?,
            // Neither made nor locked: see `Price`.
            PRICE => {
                let rows: Vec<(String, i64, i64, String)> =
                    sqlx::query_as("select sku, version, price_cents, currency from price where sku = any($1)")
                        .bind(keys)
                        .fetch_all(tx)
                        .await?;
                for (sku, version, cents, currency) in rows {
                    let price = Money::try_cents(cents).ok_or_else(|| broken(format!("price of {sku} is {cents}")))?;
                    let price = Price { version, price, currency };
                    state.prices.insert(sku, price);
                }
            }
            other => return Err(unknown_table(other)),
        }
        Ok(())
    }

    async fn save(
        &self,
        tx: &mut PgConnection,
        before: &State,
        after: &State,
        facts: &[Fact<Orders>],
    ) -> sqlx::Result<()> {
        self.append(tx, facts).await?;
        OrderRow::save(tx, &before.orders, &after.orders).await?;
        let prices: Vec<_> = changed(&before.prices, &after.prices).collect();
        save_prices(tx, &prices).await
    }
}

impl OrderStore {
    /// What is stated is what is stored: each order's facts of the batch go to the end of its stream.
    async fn append(&self, tx: &mut PgConnection, facts: &[Fact<Orders>]) -> sqlx::Result<()> {
        let mut appends = BTreeMap::<Uuid, Append>::new();
        for fact in facts {
            // A request is of no stream.
            let (Some(version), Some(cause)) = (fact.version, fact.cause) else { continue };
            let stream = Uuid::try_parse(&fact.key).map_err(broken)?;
            let append =
                appends.entry(stream).or_insert_with(|| Append { stream, expected: version - 1, events: vec![] });
            append.events.push(self.event(fact, cause)?);
        }
        if appends.is_empty() {
            return Ok(());
        }
        let appends: Vec<Append> = appends.into_values().collect();
        match event_store::append(tx, &appends).await {
            Ok(_) => Ok(()),
            Err(event_store::Error::Database(error)) => Err(error),
            // The rows are locked, so nobody else can have written: row and stream disagree, which no repeat fixes.
            Err(error) => Err(broken(error)),
        }
    }

    fn event(&self, fact: &Fact<Orders>, cause: Uuid) -> sqlx::Result<Event> {
        let record = fact.record.record_type();
        let index = index_of(record.name).ok_or_else(|| broken(format!("{} is not stated here", record.name)))?;
        let mut payload = Vec::with_capacity(256);
        fact.record.encode(&mut payload);
        Ok(Event { id: fact.id, record: record.name, schema: self.schemas[index], payload, cause, time: fact.time })
    }
}

/// Rebuilds an order from its stream alone: what its row must be.
pub async fn rebuild(tx: &mut PgConnection, order_id: Uuid) -> sqlx::Result<Order> {
    let mut facts = vec![];
    for event in event_store::read(tx, order_id, 1).await? {
        let index = index_of(&event.record).ok_or_else(|| broken(format!("{} is not stated here", event.record)))?;
        // A stream outlives the versions of its records: a datum is read by its writer's schema.
        let plan = WriterSchema::new(&event.schema)
            .and_then(|writer| writer.prepare(&Stated::TYPES[index]))
            .map_err(broken)?;
        let datum = plan.apply(&event.payload).map_err(broken)?;
        facts.push(Stated::decode(index, &datum).map_err(broken)?);
    }
    Ok(Order::fold(&facts))
}

fn index_of(record: &str) -> Option<usize> {
    Stated::TYPES.iter().position(|known| known.name == record)
}

fn broken(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> sqlx::Error {
    sqlx::Error::Decode(cause.into())
}

async fn save_prices(tx: &mut PgConnection, prices: &[(&String, &Price)]) -> sqlx::Result<()> {
    if prices.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into price (sku, version, price_cents, currency)
         select * from unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[])
         on conflict (sku) do update
         set version = excluded.version, price_cents = excluded.price_cents, currency = excluded.currency
         where price.version < excluded.version",
    )
    .bind(prices.iter().map(|(sku, _)| sku.as_str()).collect::<Vec<_>>())
    .bind(prices.iter().map(|(_, price)| price.version).collect::<Vec<_>>())
    .bind(prices.iter().map(|(_, price)| price.price.as_cents()).collect::<Vec<_>>())
    .bind(prices.iter().map(|(_, price)| price.currency.as_str()).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

impl Mapped for OrderRow {
    type Value = Order;

    fn from_value(order_id: Uuid, order: &Order) -> Self {
        let row = Self { order_id, version: order.version, ..Self::default() };
        match &order.status {
            Status::Unknown => Self { status: "unknown".into(), ..row },
            Status::Rejected { request_digest } => {
                Self { status: "rejected".into(), request_digest: Some(request_digest.clone()), ..row }
            }
            Status::Accepted(accepted) => {
                let (status, recall_asked, recall_shipped) = match accepted.stage {
                    Stage::Pending => ("pending", false, false),
                    Stage::Confirmed => ("confirmed", false, false),
                    Stage::Shipped => ("shipped", false, false),
                    Stage::Recalling { asked, shipped } => ("recalling", asked, shipped),
                    Stage::Delivered => ("delivered", false, false),
                    Stage::Cancelled => ("cancelled", false, false),
                };
                Self {
                    status: status.into(),
                    request_digest: Some(accepted.request_digest.clone()),
                    details: Some(Json(accepted.details.clone())),
                    confirm_by: Some(accepted.confirm_by),
                    end_within_ms: accepted.end_within_ms,
                    end_by: accepted.end_by,
                    recall_asked,
                    recall_shipped,
                    ..row
                }
            }
        }
    }

    fn into_value(self) -> sqlx::Result<Order> {
        let stage = match self.status.as_str() {
            "pending" => Some(Stage::Pending),
            "confirmed" => Some(Stage::Confirmed),
            "shipped" => Some(Stage::Shipped),
            "recalling" => Some(Stage::Recalling { asked: self.recall_asked, shipped: self.recall_shipped }),
            "delivered" => Some(Stage::Delivered),
            "cancelled" => Some(Stage::Cancelled),
            _ => None,
        };
        let status = match (self.status.as_str(), stage, self.request_digest, self.details, self.confirm_by) {
            ("unknown", None, None, None, None) => Status::Unknown,
            ("rejected", None, Some(request_digest), None, None) => Status::Rejected { request_digest },
            (_, Some(stage), Some(request_digest), Some(Json(details)), Some(confirm_by)) => {
                Status::Accepted(Accepted {
                    order_id: self.order_id,
                    request_digest,
                    details,
                    confirm_by,
                    end_within_ms: self.end_within_ms,
                    end_by: self.end_by,
                    stage,
                })
            }
            (status, ..) => {
                return Err(broken(format!("order {} is '{status}' without what belongs to it", self.order_id)));
            }
        };
        Ok(Order { version: self.version, status })
    }
}
