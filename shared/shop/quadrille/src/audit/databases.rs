//! What the services' databases tell an audit. They are read as they are, by a role that can write nothing.

use std::collections::{BTreeMap, HashMap, HashSet};

use quadrille_cli::{Settings, databases::connect};

/// The runtime's tables of one service.
#[derive(Clone, Debug, Default)]
pub struct Database {
    /// Facts that are not acknowledged yet.
    pub outbox: i64,
    /// The oldest of them, in milliseconds since 1970.
    pub oldest_ms: Option<i64>,
    /// Inputs that took effect.
    pub inbox: i64,
    /// Keys with an open effect.
    pub effects: HashSet<String>,
    /// How many effects wait for a person.
    pub parked: i64,
    /// Keys with a timer.
    pub timers: HashSet<String>,
    /// Every dead letter.
    pub dead_letters: Vec<DeadLetter>,
    /// The requests that it has stated, as far as it keeps a history.
    pub requests: Vec<Requested>,
}

/// A request that a service stated: committed, so it has to be on its topic.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Requested {
    /// The full name of its type.
    pub r#type: String,
    /// The topic, without prefix.
    pub topic: String,
    /// The key.
    pub key: String,
    /// Its `ce_id`.
    pub id: String,
    /// When it was decided, in milliseconds since 1970.
    pub ms: i64,
}

/// Facts that have no version: they are requests.
const REQUESTS: &str = "
    select fact->>'type' as type, fact->>'topic' as topic, fact->>'key' as key, fact->>'id' as id,
        (extract(epoch from (decided->>'now')::timestamptz) * 1000)::bigint as ms
    from history, json_array_elements(decided->'came_to'->'facts') fact
    where fact->'version' is null";

/// A dead letter's origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The topic, without prefix.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The record type's full name, or empty.
    pub record_type: String,
    /// Why.
    pub reason: String,
    /// Whether nobody has seen to it yet.
    pub open: bool,
}

/// A SKU's row in inventory's database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Stock {
    pub received: i64,
    pub available: i64,
    pub reserved: i64,
    pub committed: i64,
}

/// All databases that could be read.
#[derive(Debug, Default)]
pub struct Databases {
    /// By service.
    pub services: BTreeMap<String, Database>,
    /// Inventory's rows, if they could be read.
    pub stock: Option<BTreeMap<String, Stock>>,
    /// The order service's states by order, if they could be read.
    pub orders: Option<HashMap<String, String>>,
    /// Those of the orders asked for whose rows have gone: the topics may keep their facts for longer.
    pub gone: HashSet<String>,
    /// What could not be read, and why.
    pub unread: Vec<String>,
}

/// Reads all databases. `orders` are those that the topics tell of.
pub async fn read(settings: &Settings, orders: &[&String]) -> Databases {
    let mut databases = Databases::default();
    for service in settings.catalogue.databases() {
        if let Err(error) = read_one(settings, service, orders, &mut databases).await {
            let cause = error.to_string();
            databases.unread.push(format!("the database {} ({cause})", settings.database(service)));
        }
    }
    databases
}

async fn read_one(
    settings: &Settings,
    service: &str,
    orders: &[&String],
    databases: &mut Databases,
) -> sqlx::Result<()> {
    let mut connection = connect(settings, service).await?;
    let mut database = Database::default();
    (database.outbox, database.oldest_ms) =
        sqlx::query_as("select count(*), (extract(epoch from min(time)) * 1000)::bigint from outbox")
            .fetch_one(&mut connection)
            .await?;
    database.inbox = sqlx::query_scalar("select count(*) from inbox").fetch_one(&mut connection).await?;
    database.parked = sqlx::query_scalar("select count(*) from effect where parked_at is not null")
        .fetch_one(&mut connection)
        .await?;
    let effects: Vec<String> = sqlx::query_scalar("select distinct key from effect").fetch_all(&mut connection).await?;
    database.effects = effects.into_iter().collect();
    let timers: Vec<String> = sqlx::query_scalar("select distinct key from timer").fetch_all(&mut connection).await?;
    database.timers = timers.into_iter().collect();
    let letters: Vec<(String, i32, i64, String, String, bool)> =
        sqlx::query_as("select topic, partition, \"offset\", record_type, reason, closed_at is null from dead_letter")
            .fetch_all(&mut connection)
            .await?;
    let letter = |(topic, partition, offset, record_type, reason, open)| DeadLetter {
        topic,
        partition,
        offset,
        record_type,
        reason,
        open,
    };
    database.dead_letters = letters.into_iter().map(letter).collect();
    database.requests = sqlx::query_as(REQUESTS).fetch_all(&mut connection).await?;
    databases.services.insert(service.to_owned(), database);

    match service {
        "inventory" => {
            let rows: Vec<(String, i64, i64, i64, i64)> =
                sqlx::query_as("select sku, received, available, reserved, committed from stock")
                    .fetch_all(&mut connection)
                    .await?;
            let stock = |(sku, received, available, reserved, committed)| {
                (sku, Stock { received, available, reserved, committed })
            };
            databases.stock = Some(rows.into_iter().map(stock).collect());
        }
        "order" => {
            let rows: Vec<(String, String)> =
                sqlx::query_as("select order_id::text, status from orders where status <> 'unknown'")
                    .fetch_all(&mut connection)
                    .await?;
            databases.orders = Some(rows.into_iter().collect());
            let gone: Vec<String> = sqlx::query_scalar("select key from gone where key = any($1)")
                .bind(orders)
                .fetch_all(&mut connection)
                .await?;
            databases.gone = gone.into_iter().collect();
        }
        _ => {}
    }
    Ok(())
}
