//! Shipments on the real PostgreSQL: it comes to what the memory comes to, and the table refuses what cannot be.

mod common;

use common::*;
use proptest::prelude::*;
use quadrille_core::Policy;
use quadrille_events::order::{OrderConfirmed, OrderRecallRequested};
use quadrille_runtime::{Config, Removed, Service, Store, config::NoSettings, remove_ended};
use quadrille_shipping::{
    Heard, Shipping, State,
    policy::{SHIPMENT, Shipment, Status},
    store::ShippingStore,
};
use quadrille_testkit::{Database, conforms};
use sqlx::PgPool;

async fn database() -> Database {
    let database = Database::fresh([]).await;
    let service = Service::new(ShippingStore).migrations(&sqlx::migrate!());
    service.migrate(&database.url()).await.expect("migrated");
    database
}

/// What may be heard of a few orders.
fn anything() -> impl Strategy<Value = Heard> {
    let order = || (1..97_u128).prop_map(id);
    prop_oneof![
        2 => order().prop_map(|order_id| OrderConfirmed { order_id, ..confirmed() }.into()),
        1 => order().prop_map(|order_id| OrderRecallRequested { order_id, ..recall_requested() }.into()),
    ]
}

#[tokio::test]
async fn the_store_comes_to_what_the_memory_comes_to() {
    let outcomes = [accepted(), refused(), UNDER_WAY, DELIVERED, RETURNED];
    let states = conforms(&database().await, ShippingStore, anything(), &outcomes).await;
    for status in Status::ALL {
        let is_it = |state: &State| state.shipments.values().any(|shipment| shipment.status == status);
        // An order that nobody has told anything of has no more than an empty row.
        assert!(status == Status::New || states.iter().any(is_it), "no shipment was ever {status:?}");
    }
}

async fn load(pool: &PgPool, keys: &[String]) -> State {
    let mut tx = pool.begin().await.expect("a transaction");
    let mut state = State::default();
    ShippingStore.load(&mut tx, SHIPMENT, keys, &mut state).await.expect("rows");
    tx.commit().await.expect("a commit");
    state
}

/// Saves `after` as a batch that found `before`.
async fn save(pool: &PgPool, before: &State, after: &State) -> sqlx::Result<()> {
    let mut tx = pool.begin().await?;
    ShippingStore.save(&mut tx, before, after, &[]).await?;
    tx.commit().await
}

fn shipment(status: Status) -> Shipment {
    Shipment { version: 2, status, tracking_id: "PARCEL-1".into(), asked: 4 }
}

#[tokio::test]
async fn the_table_refuses_what_cannot_be() {
    let database = database().await;
    let key = [id(1).to_string()];
    let before = load(&database.pool, &key).await;
    let sound = shipment(Status::Dispatched);
    for (what, bad) in [
        ("no tracking id", Shipment { tracking_id: String::new(), ..sound.clone() }),
        ("a negative version", Shipment { version: -1, ..sound.clone() }),
        ("a negative count", Shipment { asked: -1, ..sound.clone() }),
    ] {
        let mut after = before.clone();
        after.shipments.insert(key[0].clone(), bad);
        assert!(save(&database.pool, &before, &after).await.is_err(), "{what} was saved");
    }
}

/// What an instance does each hour: an order's rows go, once nothing can come of them any more.
#[tokio::test]
async fn parcels_go_once_their_last_word_is_said() -> Result<(), Box<dyn std::error::Error>> {
    let database = database().await;
    sqlx::raw_sql(
        "insert into shipment (order_id, status, tracking_id, changed_at)
         select gen_random_uuid(), status, 't', clock_timestamp() - make_interval(days => days)
         from unnest(array['new', 'handing', 'handing_recalled', 'dispatched', 'recalling', 'aborted', 'delivered', 'recalled']) as status, unnest(array[89, 91, 3652, 3654]) as days",
    )
    .execute(&database.pool)
    .await?;
    let retention = Config::<NoSettings>::of(Shipping::SERVICE).retention;
    let removed = remove_ended::<ShippingStore>(&mut *database.pool.acquire().await?, &retention).await?;
    assert_eq!(removed, Removed { rows: 9, is_full: false });
    let left: Vec<String> = sqlx::query_scalar(
        "select status || ' ' ||
             string_agg(round(extract(epoch from clock_timestamp() - changed_at) / 86400)::text, ' ' order by changed_at desc)
         from shipment group by status order by status",
    )
    .fetch_all(&database.pool)
    .await?;
    assert_eq!(
        left,
        [
            "aborted 89",
            "delivered 89",
            "dispatched 89 91 3652 3654",
            "handing 89 91 3652 3654",
            "handing_recalled 89 91 3652 3654",
            "new 89 91 3652 3654",
            "recalled 89",
            "recalling 89 91 3652 3654"
        ]
    );
    Ok(())
}
