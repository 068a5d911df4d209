//! Shipments on the real PostgreSQL: what is saved is what is loaded, and the table refuses what cannot be.

mod common;

use common::id;
use quadrille_runtime::Store;
use quadrille_shipping::{
    State,
    policy::{SHIPMENT, Shipment, Status},
    store::ShippingStore,
};
use quadrille_testkit::Database;
use sqlx::PgPool;

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
async fn a_row_in_every_status_comes_back_as_it_was() {
    let database = Database::fresh([sqlx::migrate!()]).await;
    let keys: Vec<String> = (1..).zip(Status::ALL).map(|(number, _)| id(number).to_string()).collect();
    let empty = load(&database.pool, &keys).await;
    assert_eq!(empty.shipments.len(), keys.len());
    assert!(empty.shipments.values().all(|row| *row == Shipment::default()));

    let mut after = empty.clone();
    for (key, status) in keys.iter().zip(Status::ALL) {
        after.shipments.insert(key.clone(), shipment(status));
    }
    save(&database.pool, &empty, &after).await.expect("saved");
    assert_eq!(load(&database.pool, &keys).await, after);
}

#[tokio::test]
async fn the_table_refuses_what_cannot_be() {
    let database = Database::fresh([sqlx::migrate!()]).await;
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
