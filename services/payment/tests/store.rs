//! Payments on the real PostgreSQL: what is saved is what is loaded, and the table refuses what cannot be.

mod common;

use common::*;
use quadrille_core::Policy;
use quadrille_events::Money;
use quadrille_payment::{
    Payment, State,
    policy::{Account, Bill, PAYMENT, Status},
    store::PaymentStore,
};
use quadrille_runtime::{Config, Removed, Service, Store, config::NoSettings, remove_ended};
use quadrille_testkit::Database;
use sqlx::PgPool;

async fn database() -> Database {
    Database::fresh([sqlx::migrate!()]).await
}

async fn load(pool: &PgPool, keys: &[String]) -> State {
    let mut tx = pool.begin().await.expect("a transaction");
    let mut state = State::default();
    PaymentStore.load(&mut tx, PAYMENT, keys, &mut state).await.expect("rows");
    tx.commit().await.expect("a commit");
    state
}

/// Saves `after` as a batch that found `before`.
async fn save(pool: &PgPool, before: &State, after: &State) -> sqlx::Result<()> {
    let mut tx = pool.begin().await?;
    PaymentStore.save(&mut tx, before, after, &[]).await?;
    tx.commit().await
}

fn account(status: Status) -> Account {
    Account {
        version: 3,
        status,
        bill: Bill { customer_id: CUSTOMER, amount: AMOUNT, currency: "EUR".into(), token: "tok_approve".into() },
        charge_id: "ch_1".into(),
        refunds: 1,
    }
}

#[tokio::test]
async fn a_row_in_every_status_comes_back_as_it_was() {
    let database = database().await;
    let keys: Vec<String> = (1..).zip(Status::ALL).map(|(number, _)| id(number).to_string()).collect();
    let empty = load(&database.pool, &keys).await;
    assert_eq!(empty.accounts.len(), keys.len());
    assert!(empty.accounts.values().all(|row| *row == Account::default()));

    let mut after = empty.clone();
    for (key, status) in keys.iter().zip(Status::ALL) {
        after.accounts.insert(key.clone(), account(status));
    }
    save(&database.pool, &empty, &after).await.expect("saved");
    assert_eq!(load(&database.pool, &keys).await, after);
}

#[tokio::test]
async fn only_what_was_changed_is_written() {
    let database = database().await;
    let keys = [id(1).to_string(), id(2).to_string()];
    let before = load(&database.pool, &keys).await;
    let mut after = before.clone();
    after.accounts.insert(keys[0].clone(), account(Status::Charging));
    let touched = "select order_id::text from payment where xmin::text <> (select xmin::text from payment where order_id = $1::uuid)";
    save(&database.pool, &before, &after).await.expect("saved");
    let written: Vec<String> =
        sqlx::query_scalar(touched).bind(&keys[1]).fetch_all(&database.pool).await.expect("rows");
    assert_eq!(written, keys[..1]);
}

#[tokio::test]
async fn the_table_refuses_what_cannot_be() {
    let database = database().await;
    let key = vec![id(1).to_string()];
    let before = load(&database.pool, &key).await;
    let sound = account(Status::Refunded);
    for (what, bad) in [
        ("no bill", Account { bill: Bill::default(), ..sound.clone() }),
        ("no charge", Account { charge_id: String::new(), ..sound.clone() }),
        ("no refund", Account { refunds: 0, ..sound.clone() }),
        ("a negative version", Account { version: -1, ..sound.clone() }),
        (
            "a negative amount",
            Account { bill: Bill { amount: Money::cents(-1), ..sound.bill.clone() }, ..sound.clone() },
        ),
    ] {
        let mut after = before.clone();
        after.accounts.insert(key[0].clone(), bad);
        assert!(save(&database.pool, &before, &after).await.is_err(), "{what} was saved");
    }
}

#[tokio::test]
async fn two_that_touch_a_new_order_at_once_take_turns() {
    let database = database().await;
    let key = vec![id(1).to_string()];
    let mut first = database.pool.begin().await.expect("a transaction");
    let mut state = State::default();
    PaymentStore.load(&mut first, PAYMENT, &key, &mut state).await.expect("rows");
    let mut after = state.clone();
    after.accounts.insert(key[0].clone(), account(Status::Captured));

    let second = tokio::spawn({
        let (pool, key) = (database.pool.clone(), key.clone());
        async move { load(&pool, &key).await }
    });
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(!second.is_finished(), "the second one did not wait");
    PaymentStore.save(&mut first, &state, &after, &[]).await.expect("saved");
    first.commit().await.expect("a commit");
    assert_eq!(second.await.expect("the second one"), after);
    assert_eq!(Payment::TABLES, [PAYMENT]);
}

/// What an instance does each hour: an order's rows go, once nothing can come of them any more.
#[tokio::test]
async fn payments_go_with_the_books_and_none_that_is_open() -> Result<(), Box<dyn std::error::Error>> {
    let database = Database::fresh([]).await;
    Service::new(PaymentStore).migrations(&sqlx::migrate!()).migrate(&database.url()).await?;
    sqlx::raw_sql(
        "insert into payment (order_id, status, customer_id, amount_cents, charge_id, refunds, changed_at)
         select gen_random_uuid(), status, gen_random_uuid(), 1, 'c', 1, clock_timestamp() - make_interval(days => days)
         from unnest(array['captured', 'charging', 'charging_cancelled', 'declined', 'ended', 'new', 'refund_failed', 'refunded', 'refunding']) as status, unnest(array[89, 91, 3652, 3654]) as days",
    )
    .execute(&database.pool)
    .await?;
    let retention = Config::<NoSettings>::of(Payment::SERVICE).retention;
    let removed = remove_ended::<PaymentStore>(&mut *database.pool.acquire().await?, &retention).await?;
    assert_eq!(removed, Removed { rows: 4, is_full: false });
    let left: Vec<String> = sqlx::query_scalar(
        "select status || ' ' ||
             string_agg(round(extract(epoch from clock_timestamp() - changed_at) / 86400)::text, ' ' order by changed_at desc)
         from payment group by status order by status",
    )
    .fetch_all(&database.pool)
    .await?;
    assert_eq!(
        left,
        [
            "captured 89 91 3652",
            "charging 89 91 3652 3654",
            "charging_cancelled 89 91 3652 3654",
            "declined 89 91 3652",
            "ended 89 91 3652",
            "new 89 91 3652 3654",
            "refund_failed 89 91 3652 3654",
            "refunded 89 91 3652",
            "refunding 89 91 3652 3654"
        ]
    );
    Ok(())
}
