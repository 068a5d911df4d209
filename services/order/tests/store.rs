//! The order service's rows and streams on the real PostgreSQL.

mod common;

use common::*;
use proptest::prelude::*;
use quadrille_core::{Policy, Records};
use quadrille_event_store::read;
use quadrille_events::{Money, Uuid, order::*, payment::*, reservation::*, shipment::*, verification::*};
use quadrille_order::{
    Heard, Orders, State, Stated,
    policy::{ORDERS, Order, PRICE, Price, Stage, Status},
    store::{OrderStore, rebuild},
};
use quadrille_runtime::{Batches, Config, Removed, Service, Store, config::NoSettings, remove_ended};
use quadrille_testkit::{Database, conforms, record, stated};
use sqlx::PgConnection;

async fn database() -> Database {
    let database = Database::fresh([]).await;
    let service = Service::new(OrderStore::default()).migrations(&quadrille_event_store::MIGRATOR);
    service.migrations(&sqlx::migrate!()).migrate(&database.url()).await.expect("migrated");
    database
}

/// A database with [`ORDER`] in it, and what commits more.
async fn ordered() -> (Database, Batches<OrderStore>) {
    let database = database().await;
    let batches = Batches::over(&database.url(), OrderStore::default()).await.expect("the database is migrated");
    let heard: [Heard; 3] = [listed("TEA-1", 1999).into(), listed("MUG-1", 500).into(), requested().into()];
    batches.commit((0..).zip(heard).map(|(number, heard)| record(number, heard))).await.expect("an order");
    (database, batches)
}

async fn load(tx: &mut PgConnection, table: &'static str, keys: &[&str]) -> sqlx::Result<State> {
    let mut state = State::default();
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    OrderStore::default().load(tx, table, &keys, &mut state).await?;
    Ok(state)
}

/// What is heard of one order, of another one.
fn of(order_id: Uuid, heard: Heard) -> Heard {
    match heard {
        Heard::OrderRequested(asked) => OrderRequested { order_id, ..asked }.into(),
        Heard::OrderCancellationRequested(asked) => OrderCancellationRequested { order_id, ..asked }.into(),
        Heard::CustomerRejected(rejected) => CustomerRejected { order_id, ..rejected }.into(),
        Heard::ReservationRejected(rejected) => ReservationRejected { order_id, ..rejected }.into(),
        Heard::PaymentCaptured(captured) => PaymentCaptured { order_id, ..captured }.into(),
        Heard::PaymentDeclined(declined) => PaymentDeclined { order_id, ..declined }.into(),
        Heard::ShipmentDispatched(dispatched) => ShipmentDispatched { order_id, ..dispatched }.into(),
        Heard::ShipmentDelivered(delivered) => ShipmentDelivered { order_id, ..delivered }.into(),
        Heard::ShipmentAborted(aborted) => ShipmentAborted { order_id, ..aborted }.into(),
        Heard::ShipmentRecalled(recalled) => ShipmentRecalled { order_id, ..recalled }.into(),
        of_no_order => of_no_order,
    }
}

#[tokio::test]
async fn the_store_comes_to_what_the_memory_comes_to() {
    let several = (1..49_u128, heard()).prop_map(|(order, heard)| of(Uuid::from_u128(order), heard));
    // An order needs its goods' prices, in one currency; and some have to get beyond the many ways to end at once.
    let several = prop_oneof![
        5 => several,
        3 => (1..49_u128).prop_map(|order| of(Uuid::from_u128(order), captured().into())),
        3 => (1..49_u128).prop_map(|order| of(Uuid::from_u128(order), dispatched().into())),
        1 => (1..49_u128).prop_map(|order| of(Uuid::from_u128(order), delivered().into())),
        2 => prop::sample::select(vec![listed("TEA-1", 1999), listed("MUG-1", 500)]).prop_map(Heard::from),
    ];
    let states = conforms(&database().await, OrderStore::default(), several, &[]).await;
    let orders = || states.iter().flat_map(|state| state.orders.values());
    assert!(orders().any(|order| order.status == Status::Unknown && order.version > 0));
    assert!(orders().any(|order| matches!(order.status, Status::Rejected { .. })));
    let accepted = || {
        orders().filter_map(|order| match &order.status {
            Status::Accepted(accepted) => Some(accepted),
            Status::Unknown | Status::Rejected { .. } => None,
        })
    };
    for stage in [Stage::Pending, Stage::Confirmed, Stage::Shipped, Stage::Delivered, Stage::Cancelled] {
        assert!(accepted().any(|accepted| accepted.stage == stage), "no order was ever {stage:?}");
    }
    for shipped in [false, true] {
        let recalling = Stage::Recalling { asked: true, shipped };
        assert!(accepted().any(|accepted| accepted.stage == recalling), "no order was ever {recalling:?}");
    }
    assert!(accepted().any(|accepted| accepted.end_by.is_some()));
}

#[tokio::test]
async fn what_is_stated_is_what_is_stored_and_a_row_is_rebuilt_from_it() -> Result<(), Box<dyn std::error::Error>> {
    let database = database().await;
    let batches = Batches::over(&database.url(), OrderStore::default()).await?;
    let mut connection = database.pool.acquire().await?;
    let story: [Vec<Heard>; 4] = [
        // A whole saga in few batches; the refusal before and after are of the stream, too.
        vec![listed("TEA-1", 1999).into(), listed("MUG-1", 500).into(), cancellation("").into()],
        vec![requested().into(), captured().into()],
        vec![dispatched().into(), cancellation("").into()],
        vec![delivered().into(), cancellation("").into()],
    ];
    let (mut numbers, mut told) = (0.., vec![]);
    for heard in story {
        batches.commit(heard.into_iter().zip(numbers.by_ref()).map(|(heard, number)| record(number, heard))).await?;
        told = stated::<Orders>(&database.pool).await.into_iter().map(|fact| fact.record).collect::<Vec<Stated>>();
        let row = load(&mut connection, ORDERS, &[&ORDER.to_string()]).await?.orders[&ORDER.to_string()].clone();
        assert_eq!(rebuild(&mut connection, ORDER).await?, row);
        assert_eq!(Order::fold(&told), row);
    }
    let events = read(&mut connection, ORDER, 1).await?;
    let types = |names: Vec<&str>| {
        names.into_iter().map(|name| name.rsplit('.').next().unwrap_or("").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        types(events.iter().map(|event| event.record.as_str()).collect()),
        types(told.iter().map(|fact| fact.record_type().name).collect())
    );
    assert_eq!(events.len(), 8);
    assert!(events.iter().zip(1..).all(|(event, version)| event.version == version));
    Ok(())
}

#[tokio::test]
async fn a_stream_is_read_by_the_schema_that_it_was_written_with() -> sqlx::Result<()> {
    let (database, _) = ordered().await;
    let mut tx = database.pool.begin().await?;
    // As if it had been written before OrderCreated said how long the order may take to end.
    let schema: String = sqlx::query_scalar("select text from event_schema").fetch_one(&mut *tx).await?;
    let mut older: serde_json::Value = serde_json::from_str(&schema).expect("a schema is JSON");
    let fields = older["fields"].as_array_mut().expect("a record has fields");
    let before = fields.len();
    fields.retain(|field| field["name"] != "end_within_ms");
    assert_eq!(fields.len(), before - 1);
    sqlx::query("update event_schema set text = $1").bind(older.to_string()).execute(&mut *tx).await?;
    // The field's datum, a single byte for null, goes too: it stands before the digest, which is 64 characters and its length.
    sqlx::query(
        "update event set payload = substring(payload from 1 for length(payload) - 67) || substring(payload from length(payload) - 65)",
    )
    .execute(&mut *tx)
    .await?;
    let rebuilt = rebuild(&mut tx, ORDER).await?;
    let row = load(&mut tx, ORDERS, &[&ORDER.to_string()]).await?.orders[&ORDER.to_string()].clone();
    assert_eq!(rebuilt, row);
    Ok(())
}

#[tokio::test]
async fn a_row_that_disagrees_with_its_stream_states_nothing() -> sqlx::Result<()> {
    let (database, batches) = ordered().await;
    sqlx::query("update orders set version = 0").execute(&database.pool).await?;
    let error = batches.commit([record(9, cancellation("").into())]).await.expect_err("a conflict");
    let text = error.to_string();
    assert!(text.contains("is at version 1, not at 0 as expected"), "{text}");
    Ok(())
}

#[tokio::test]
async fn an_older_price_never_overwrites_a_newer_one() -> sqlx::Result<()> {
    let database = database().await;
    let store = OrderStore::default();
    let price = |version, cents| State {
        prices: [("TEA-1".to_owned(), Price { version, price: Money::cents(cents), currency: "EUR".into() })].into(),
        ..State::default()
    };
    let mut connection = database.pool.acquire().await?;
    // Two instances that both read nothing: the later commit has the older version.
    for saved in [price(3, 300), price(2, 200)] {
        store.save(&mut connection, &State::default(), &saved, &[]).await?;
    }
    assert_eq!(load(&mut connection, PRICE, &["TEA-1", "MUG-1"]).await?, price(3, 300));
    Ok(())
}

/// What an instance does each hour: an order's rows go, once nothing can come of them any more.
#[tokio::test]
async fn orders_go_and_their_streams_stay_for_the_books() -> Result<(), Box<dyn std::error::Error>> {
    let database = database().await;
    sqlx::raw_sql(
        "insert into orders (order_id, status, request_digest, details, confirm_by, changed_at)
         select gen_random_uuid(), status, case when status <> 'unknown' then 'abc' end,
             case when status not in ('unknown', 'rejected') then '{}'::jsonb end,
             case when status not in ('unknown', 'rejected') then now() end, clock_timestamp() - make_interval(days => days)
         from unnest(array['unknown', 'rejected', 'pending', 'confirmed', 'shipped', 'recalling', 'delivered', 'cancelled']) as status, unnest(array[89, 91, 3652, 3654]) as days;
         insert into event (stream, version, event_id, record, schema, payload, causation_id, time)
         select order_id, number, gen_random_uuid(), 'r', 1, '', order_id, now() from orders, generate_series(1, 2) number",
    )
    .execute(&database.pool)
    .await?;
    let retention = Config::<NoSettings>::of(Orders::SERVICE).retention;
    let removed = remove_ended::<OrderStore>(&mut *database.pool.acquire().await?, &retention).await?;
    assert_eq!(removed, Removed { rows: 9, is_full: false });
    let left: Vec<String> = sqlx::query_scalar(
        "select status || ' ' ||
             string_agg(round(extract(epoch from clock_timestamp() - changed_at) / 86400)::text, ' ' order by changed_at desc)
         from orders group by status order by status",
    )
    .fetch_all(&database.pool)
    .await?;
    assert_eq!(
        left,
        [
            "cancelled 89",
            "confirmed 89 91 3652 3654",
            "delivered 89",
            "pending 89 91 3652 3654",
            "recalling 89 91 3652 3654",
            "rejected 89",
            "shipped 89 91 3652 3654",
            "unknown 89 91 3652 3654"
        ]
    );
    // Those that ended longer ago than books are kept have lost their events too; of the others all are there.
    let events = "select count(*), count(distinct stream) from event";
    let events: (i64, i64) = sqlx::query_as(events).fetch_one(&database.pool).await?;
    assert_eq!(events, (58, 29));
    let without = "select count(*) from gone where not beside and ended_at < clock_timestamp() - interval '3653 days'";
    assert_eq!(sqlx::query_scalar::<_, i64>(without).fetch_one(&database.pool).await?, 3);
    Ok(())
}
