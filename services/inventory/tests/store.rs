//! The inventory's rows on the real PostgreSQL.

mod common;

use common::*;
use proptest::{prelude::*, sample::select};
use quadrille_core::Policy;
use quadrille_events::Uuid;
use quadrille_inventory::{
    Inventory, State,
    policy::{STOCK, Stage, Stock},
    store::InventoryStore,
};
use quadrille_runtime::{Config, Removed, Service, Store, config::NoSettings, remove_ended};
use quadrille_testkit::{Database, conforms};

async fn database() -> Database {
    let database = Database::fresh([]).await;
    let service = Service::new(InventoryStore).migrations(&sqlx::migrate!());
    service.migrate(&database.url()).await.expect("migrated");
    database
}

#[tokio::test]
async fn the_store_comes_to_what_the_memory_comes_to() {
    // Beside what the properties tell: enough to be set aside, and parcels that leave.
    let order = || (0..48_u128).prop_map(|number| Uuid::from_u128(0x0a + number));
    let story = prop_oneof![
        4 => anything(48),
        1 => (0..96_u128, select(vec!["TEA-1", "MUG-1"])).prop_map(|(id, sku)| replenishment(id, sku, 20).into()),
        1 => order().prop_map(|order| dispatched(order).into()),
    ];
    let states = conforms(&database().await, InventoryStore, story, &[]).await;
    let seen = |is: fn(&Stage) -> bool| {
        states.iter().any(|state| state.reservations.values().any(|reservation| is(&reservation.stage)))
    };
    assert!(seen(|stage| *stage == Stage::Ended) && seen(|stage| *stage == Stage::Rejected));
    assert!(seen(|stage| matches!(stage, Stage::Reserved(_))) && seen(|stage| matches!(stage, Stage::Committed(_))));
    assert!(seen(|stage| *stage == Stage::Released));
    let last = states.last().expect("a story");
    assert!(last.stock.values().all(|stock| stock.product.is_some() && stock.received > 0), "{:?}", last.stock);
    assert!(last.replenishments.values().any(|replenishment| replenishment.counted.is_some()));
}

#[tokio::test]
async fn the_database_refuses_what_no_policy_may_state() -> sqlx::Result<()> {
    let database = database().await;
    let wrong = [
        Stock { received: 1, ..Stock::default() },
        Stock { available: -1, reserved: 1, ..Stock::default() },
        Stock { received: 1, available: 2, committed: -1, ..Stock::default() },
    ];
    for stock in wrong {
        let mut tx = database.pool.begin().await?;
        let mut before = State::default();
        InventoryStore.load(&mut tx, STOCK, &["TEA-1".to_owned()], &mut before).await?;
        let after = State { stock: [("TEA-1".to_owned(), stock)].into(), ..State::default() };
        let saved = InventoryStore.save(&mut tx, &before, &after, &[]).await;
        let error = saved.expect_err("the row is refused");
        let code = error.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
        assert_eq!(code.as_deref(), Some("23514"), "{error}");
    }
    Ok(())
}

/// Such a row may change under another transaction's hands: what is saved of it would be lost, or undo what that one saved.
#[tokio::test]
async fn a_row_that_was_not_made_and_locked_is_not_saved() -> sqlx::Result<()> {
    let database = database().await;
    let after = State {
        stock: [("TEA-1".to_owned(), Stock { product_version: 1, ..Stock::default() })].into(),
        ..State::default()
    };
    let mut tx = database.pool.begin().await?;
    let error = InventoryStore.save(&mut tx, &State::default(), &after, &[]).await.expect_err("nobody locked it");
    assert!(error.to_string().contains("1 rows of stock changed and 0 of them are there"), "{error}");
    Ok(())
}

/// Two transactions touch the same new rows in opposite orders: one waits for the other, nobody fails, and both take effect.
#[tokio::test]
async fn two_transactions_that_touch_the_same_new_rows_take_turns() -> sqlx::Result<()> {
    let database = database().await;
    let touch = |skus: [&'static str; 2]| {
        let pool = database.pool.clone();
        async move {
            let mut tx = pool.begin().await?;
            let mut before = State::default();
            InventoryStore.load(&mut tx, STOCK, &skus.map(str::to_owned), &mut before).await?;
            let mut after = before.clone();
            for stock in after.stock.values_mut() {
                stock.received += 1;
                stock.available += 1;
            }
            InventoryStore.save(&mut tx, &before, &after, &[]).await?;
            tx.commit().await
        }
    };
    for _ in 0..20 {
        let touches = (0..8).map(|n| touch(if n % 2 == 0 { ["S", "T"] } else { ["T", "S"] }));
        for done in all(touches).await {
            done?;
        }
    }
    let received: Vec<i64> =
        sqlx::query_scalar("select received from stock order by sku").fetch_all(&database.pool).await?;
    assert_eq!(received, [160, 160]);
    Ok(())
}

async fn all<F>(futures: impl Iterator<Item = F>) -> Vec<sqlx::Result<()>>
where
    F: Future<Output = sqlx::Result<()>> + Send + 'static,
{
    let tasks: Vec<_> = futures.map(tokio::spawn).collect();
    let mut results = vec![];
    for task in tasks {
        results.push(task.await.expect("no panic"));
    }
    results
}

/// What an instance does each hour: an order's rows go, once nothing can come of them any more.
#[tokio::test]
async fn reservations_go_once_nothing_is_held_and_goods_that_went_out_with_the_books()
-> Result<(), Box<dyn std::error::Error>> {
    let database = database().await;
    sqlx::raw_sql(
        "insert into reservation (order_id, stage, goods, changed_at)
         select gen_random_uuid(), stage, '{}', clock_timestamp() - make_interval(days => days)
         from unnest(array['new', 'ended', 'rejected', 'reserved', 'committed', 'released']) as stage, unnest(array[89, 91, 3652, 3654]) as days",
    )
    .execute(&database.pool)
    .await?;
    let retention = Config::<NoSettings>::of(Inventory::SERVICE).retention;
    let removed = remove_ended::<InventoryStore>(&mut *database.pool.acquire().await?, &retention).await?;
    assert_eq!(removed, Removed { rows: 10, is_full: false });
    let left: Vec<String> = sqlx::query_scalar(
        "select stage || ' ' ||
             string_agg(round(extract(epoch from clock_timestamp() - changed_at) / 86400)::text, ' ' order by changed_at desc)
         from reservation group by stage order by stage",
    )
    .fetch_all(&database.pool)
    .await?;
    assert_eq!(
        left,
        [
            "committed 89 91 3652",
            "ended 89",
            "new 89 91 3652 3654",
            "rejected 89",
            "released 89",
            "reserved 89 91 3652 3654"
        ]
    );
    Ok(())
}
