//! The inventory's rows on the real PostgreSQL.

use quadrille_core::{Policy, Row};
use quadrille_events::{Money, Uuid};
use quadrille_inventory::{
    Inventory, State,
    policy::{Product, REPLENISHMENT, RESERVATION, Replenishment, Reservation, STOCK, Stage, Stock},
    store::InventoryStore,
};
use quadrille_runtime::{Config, Removed, Service, Store, config::NoSettings, remove_ended};
use quadrille_testkit::Database;
use sqlx::PgConnection;

async fn database() -> Database {
    Database::fresh([sqlx::migrate!()]).await
}

async fn load(tx: &mut PgConnection, rows: &[Row]) -> sqlx::Result<State> {
    let mut state = State::default();
    for table in [RESERVATION, REPLENISHMENT, STOCK] {
        let mut keys: Vec<String> = rows.iter().filter(|row| row.table == table).map(|row| row.key.clone()).collect();
        keys.sort();
        InventoryStore.load(tx, table, &keys, &mut state).await?;
    }
    Ok(state)
}

fn order(number: u128) -> String {
    Uuid::from_u128(number).to_string()
}

/// Every shape that a row can have.
fn every_shape() -> State {
    let goods = || [("MUG-1".to_owned(), 1), ("TEA-1".to_owned(), 100_000_000)].into();
    let stages = [
        Stage::New,
        Stage::Ended,
        Stage::Rejected,
        Stage::Reserved(goods()),
        Stage::Committed(goods()),
        Stage::Released,
    ];
    let reservations = (0..).zip(stages).map(|(number, stage)| {
        let version = i64::from(stage != Stage::New);
        (order(number), Reservation { version, stage })
    });
    let product =
        |cents| Some(Product { name: "Thé « d'été »".into(), price: Money::cents(cents), currency: "EUR".into() });
    let stock = [
        ("EMPTY", Stock::default()),
        ("REFUSED", Stock { stock_version: 3, ..Stock::default() }),
        (
            "TEA-1",
            Stock {
                product_version: 2,
                stock_version: 4,
                product: product(1),
                received: 10,
                available: 3,
                reserved: 5,
                committed: 2,
            },
        ),
        ("MUG-1", Stock { product: product(999_999_999_999), ..Stock::default() }),
    ];
    State {
        reservations: reservations.collect(),
        replenishments: [
            (order(1), Replenishment { counted: None }),
            (order(2), Replenishment { counted: Some(("TEA-1".into(), 1_000_000)) }),
        ]
        .into(),
        stock: stock.map(|(sku, stock)| (sku.to_owned(), stock)).into(),
    }
}

fn rows(state: &State) -> Vec<Row> {
    let reservations = state.reservations.keys().map(|key| Row::new(RESERVATION, key));
    let replenishments = state.replenishments.keys().map(|key| Row::new(REPLENISHMENT, key));
    let stock = state.stock.keys().map(|key| Row::new(STOCK, key));
    reservations.chain(replenishments).chain(stock).collect()
}

#[tokio::test]
async fn every_shape_of_a_row_comes_back_as_it_was_saved() -> sqlx::Result<()> {
    let database = database().await;
    let saved = every_shape();
    for _ in 0..2 {
        // The first time rows are made, the second time they are there.
        let mut tx = database.pool.begin().await?;
        let before = load(&mut tx, &rows(&saved)).await?;
        InventoryStore.save(&mut tx, &before, &saved, &[]).await?;
        tx.commit().await?;
        let mut tx = database.pool.begin().await?;
        assert_eq!(load(&mut tx, &rows(&saved)).await?, saved);
    }
    Ok(())
}

#[tokio::test]
async fn rows_that_are_not_there_are_made_in_their_empty_form() -> sqlx::Result<()> {
    let database = database().await;
    let mut tx = database.pool.begin().await?;
    let rows = [Row::new(RESERVATION, order(7)), Row::new(STOCK, "TEA-1"), Row::new(STOCK, "A")];
    let state = load(&mut tx, &rows).await?;
    assert_eq!(state.reservations[&order(7)], Reservation::default());
    assert_eq!(state.stock["TEA-1"], Stock::default());
    let made: i64 = sqlx::query_scalar("select count(*) from stock").fetch_one(&mut *tx).await?;
    assert_eq!(made, 2);
    Ok(())
}

#[tokio::test]
async fn what_did_not_change_is_not_written() -> sqlx::Result<()> {
    let database = database().await;
    let saved = every_shape();
    let mut tx = database.pool.begin().await?;
    let before = load(&mut tx, &rows(&saved)).await?;
    InventoryStore.save(&mut tx, &before, &saved, &[]).await?;
    tx.commit().await?;

    let written = "select sku from stock where xmin = pg_current_xact_id()::xid";
    let mut tx = database.pool.begin().await?;
    let before = load(&mut tx, &rows(&saved)).await?;
    let mut after = before.clone();
    after.stock.entry("TEA-1".into()).or_default().stock_version += 1;
    InventoryStore.save(&mut tx, &before, &after, &[]).await?;
    let skus: Vec<String> = sqlx::query_scalar(written).fetch_all(&mut *tx).await?;
    assert_eq!(skus, ["TEA-1"]);
    Ok(())
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
        let before = load(&mut tx, &[Row::new(STOCK, "TEA-1")]).await?;
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
            let rows: Vec<Row> = skus.iter().map(|sku| Row::new(STOCK, *sku)).collect();
            let before = load(&mut tx, &rows).await?;
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
    let database = Database::fresh([]).await;
    Service::new(InventoryStore).migrations(&sqlx::migrate!()).migrate(&database.url()).await?;
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
