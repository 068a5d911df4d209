//! The order service's rows and streams on the real PostgreSQL.

mod common;

use common::*;
use quadrille_core::{Claims, Envelope, Input, Moment, Policy, Processed, Records, Trace, ids, process};
use quadrille_event_store::read;
use quadrille_events::Money;
use quadrille_order::{
    Heard, Orders, State, Stated, Timer,
    policy::{Accepted, ORDERS, Order, PRICE, Price, Stage, Status},
    store::{OrderStore, rebuild},
};
use quadrille_runtime::{Config, Removed, Service, Store, config::NoSettings, remove_ended};
use quadrille_testkit::{Database, start};
use sqlx::PgConnection;

async fn database() -> Database {
    Database::fresh([sqlx::migrate!("../../shared/library/event-store/migrations"), sqlx::migrate!()]).await
}

fn envelope(number: usize, input: Input<Orders>) -> Envelope<Orders> {
    let id = ids::v5(&["store", &number.to_string()]);
    let key = match &input {
        Input::Record(heard) => heard.key(),
        _ => ORDER.to_string(),
    };
    Envelope { id, cause: id, key, version: 1, trace: Trace::default(), input }
}

/// A batch, as the runtime takes it through the store.
async fn batch(tx: &mut PgConnection, inputs: &[Envelope<Orders>]) -> sqlx::Result<Processed<Orders>> {
    let store = OrderStore::default();
    let mut state = State::default();
    for table in Orders::TABLES {
        let rows = inputs.iter().flat_map(|input| Orders::rows(&state, input)).filter(|row| row.table == *table);
        let mut keys: Vec<String> = rows.map(|row| row.key).collect();
        keys.sort();
        keys.dedup();
        store.load(tx, table, &keys, &mut state).await?;
    }
    let before = state.clone();
    let moment = Moment { now: start(), claims: Claims::default() };
    let mut processed = Processed::default();
    for input in inputs {
        processed.then(process(&mut state, &moment, input));
    }
    store.save(tx, &before, &state, &processed.facts).await?;
    Ok(processed)
}

async fn load(tx: &mut PgConnection, table: &'static str, keys: &[&str]) -> sqlx::Result<State> {
    let mut state = State::default();
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    OrderStore::default().load(tx, table, &keys, &mut state).await?;
    Ok(state)
}

fn inputs(heard: impl IntoIterator<Item = Heard>) -> Vec<Envelope<Orders>> {
    heard.into_iter().enumerate().map(|(number, heard)| envelope(number, Input::Record(heard))).collect()
}

#[tokio::test]
async fn every_shape_of_an_order_comes_back_as_it_was_saved() -> sqlx::Result<()> {
    let database = database().await;
    let accepted = |stage, end_by| {
        Status::Accepted(Accepted {
            order_id: ORDER,
            request_digest: "abc".into(),
            details: details(),
            confirm_by: start(),
            end_within_ms: end_by,
            end_by: end_by.map(|_| start()),
            stage,
        })
    };
    let shapes = [
        Status::Unknown,
        Status::Rejected { request_digest: "abc".into() },
        accepted(Stage::Pending, None),
        accepted(Stage::Pending, Some(5)),
        accepted(Stage::Confirmed, Some(5)),
        accepted(Stage::Shipped, Some(5)),
        accepted(Stage::Recalling { asked: true, shipped: false }, Some(5)),
        accepted(Stage::Recalling { asked: false, shipped: true }, Some(5)),
        accepted(Stage::Delivered, Some(5)),
        accepted(Stage::Cancelled, None),
    ];
    let store = OrderStore::default();
    let key = ORDER.to_string();
    for (version, status) in (1..).zip(shapes) {
        let mut tx = database.pool.begin().await?;
        let before = load(&mut tx, ORDERS, &[&key]).await?;
        let after = State { orders: [(key.clone(), Order { version, status })].into(), ..State::default() };
        store.save(&mut tx, &before, &after, &[]).await?;
        tx.commit().await?;
        assert_eq!(load(&mut *database.pool.acquire().await?, ORDERS, &[&key]).await?, after);
    }
    Ok(())
}

#[tokio::test]
async fn what_is_stated_is_what_is_stored_and_a_row_is_rebuilt_from_it() -> sqlx::Result<()> {
    let database = database().await;
    let mut stated: Vec<Stated> = vec![];
    let story: [Vec<Heard>; 4] = [
        // A whole saga in few batches; the refusal before and after are of the stream, too.
        vec![listed("TEA-1", 1999).into(), listed("MUG-1", 500).into(), cancellation("").into()],
        vec![requested().into(), captured().into()],
        vec![dispatched().into(), cancellation("").into()],
        vec![delivered().into(), cancellation("").into()],
    ];
    let mut number = 0;
    for heard in story {
        let mut inputs = vec![];
        for heard in heard {
            inputs.push(envelope(number, Input::Record(heard)));
            number += 1;
        }
        let mut tx = database.pool.begin().await?;
        let processed = batch(&mut tx, &inputs).await?;
        tx.commit().await?;
        stated.extend(processed.facts.into_iter().map(|fact| fact.record));

        let mut connection = database.pool.acquire().await?;
        let row = load(&mut connection, ORDERS, &[&ORDER.to_string()]).await?.orders[&ORDER.to_string()].clone();
        assert_eq!(rebuild(&mut connection, ORDER).await?, row);
        assert_eq!(Order::fold(&stated), row);
    }
    let mut connection = database.pool.acquire().await?;
    let events = read(&mut connection, ORDER, 1).await?;
    let types = |names: Vec<&str>| {
        names.into_iter().map(|name| name.rsplit('.').next().unwrap_or("").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        types(events.iter().map(|event| event.record.as_str()).collect()),
        types(stated.iter().map(|fact| fact.record_type().name).collect())
    );
    assert_eq!(events.len(), 8);
    assert!(events.iter().zip(1..).all(|(event, version)| event.version == version));
    Ok(())
}

#[tokio::test]
async fn a_stream_is_read_by_the_schema_that_it_was_written_with() -> sqlx::Result<()> {
    let database = database().await;
    let mut tx = database.pool.begin().await?;
    batch(&mut tx, &inputs([listed("TEA-1", 1999).into(), listed("MUG-1", 500).into(), requested().into()])).await?;
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
    let database = database().await;
    let mut tx = database.pool.begin().await?;
    batch(&mut tx, &inputs([listed("TEA-1", 1999).into(), listed("MUG-1", 500).into(), requested().into()])).await?;
    tx.commit().await?;
    sqlx::query("update orders set version = 0").execute(&database.pool).await?;

    let mut tx = database.pool.begin().await?;
    let error = batch(&mut tx, &[envelope(9, Input::Timer(Timer::ConfirmBy))]).await.expect_err("a conflict");
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
    let database = Database::fresh([]).await;
    Service::new(OrderStore::default())
        .migrations(&quadrille_event_store::MIGRATOR)
        .migrations(&sqlx::migrate!())
        .migrate(&database.url())
        .await?;
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
