//! Payments on the real PostgreSQL: it comes to what the memory comes to, and the table refuses what cannot be.

mod common;

use common::*;
use proptest::prelude::*;
use quadrille_core::Policy;
use quadrille_events::{Money, order::OrderCancelled, payment::RefundRetryRequested, reservation::StockReserved};
use quadrille_payment::{
    Heard, Payment, State,
    policy::{Account, Bill, PAYMENT, Status},
    store::PaymentStore,
};
use quadrille_runtime::{Config, Removed, Service, Store, config::NoSettings, remove_ended};
use quadrille_testkit::{Database, conforms};
use sqlx::PgPool;

async fn database() -> Database {
    let database = Database::fresh([]).await;
    let service = Service::new(PaymentStore).migrations(&sqlx::migrate!());
    service.migrate(&database.url()).await.expect("migrated");
    database
}

/// What may be heard of a few orders.
fn anything() -> impl Strategy<Value = Heard> {
    let order = || (1..97_u128).prop_map(id);
    prop_oneof![
        2 => order().prop_map(|order_id| StockReserved { order_id, ..reserved() }.into()),
        1 => order().prop_map(|order_id| OrderCancelled { order_id, ..cancelled() }.into()),
        1 => order().prop_map(|order_id| RefundRetryRequested { order_id, ..retry() }.into()),
    ]
}

#[tokio::test]
async fn the_store_comes_to_what_the_memory_comes_to() {
    let outcomes = [captured(), declined(), refunded(), refused()];
    let states = conforms(&database().await, PaymentStore, anything(), &outcomes).await;
    for status in Status::ALL {
        let is_it = |state: &State| state.accounts.values().any(|account| account.status == status);
        assert!(states.iter().any(is_it), "no account was ever {status:?}");
    }
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

/// What an instance does each hour: an order's rows go, once nothing can come of them any more.
#[tokio::test]
async fn payments_go_with_the_books_and_none_that_is_open() -> Result<(), Box<dyn std::error::Error>> {
    let database = database().await;
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
