//! Addresses and notices on the real PostgreSQL: it comes to what the memory comes to, and the tables refuse what cannot be.

mod common;

use common::*;
use proptest::prelude::*;
use quadrille_core::Policy;
use quadrille_events::{
    order::{OrderCancelled, OrderShipped},
    payment::PaymentRefunded,
    user::{UserProfileUpdated, UserRegistered},
};
use quadrille_notification::{
    About, Heard, Notification, Outcome, State,
    policy::{ADDRESS, NOTICE, Notice, Status, Told},
    store::NotificationStore,
};
use quadrille_runtime::{Config, Removed, Service, Store, config::NoSettings, remove_ended};
use quadrille_testkit::{Database, conforms};
use sqlx::PgPool;

async fn database() -> Database {
    let database = Database::fresh([]).await;
    let service = Service::new(NotificationStore).migrations(&sqlx::migrate!());
    service.migrate(&database.url()).await.expect("migrated");
    database
}

/// What may be heard of a few orders of two customers, one with an address that few programs like.
fn anything() -> impl Strategy<Value = Heard> {
    let order = || (1..17_u128).prop_map(id);
    let customer = |order| if order < id(9) { CUSTOMER } else { id(99) };
    let address = prop::sample::select(vec![None, Some("ann@example.com"), Some("a,\"b\"{}\\@x")]);
    prop_oneof![
        2 => order().prop_map(move |order| {
            let mut confirmed = confirmed(order);
            confirmed.details.customer_id = customer(order);
            confirmed.into()
        }),
        1 => order().prop_map(move |order| OrderShipped { customer_id: customer(order), ..shipped(order) }.into()),
        1 => order().prop_map(move |order| OrderCancelled { customer_id: customer(order), ..cancelled(order) }.into()),
        1 => order().prop_map(move |order| PaymentRefunded { customer_id: customer(order), ..refunded(order) }.into()),
        1 => Just(UserRegistered { user_id: id(99), ..registered(None) }.into()),
        1 => address.prop_map(|address| UserProfileUpdated { user_id: id(99), ..moved(address) }.into()),
    ]
}

#[tokio::test]
async fn the_store_comes_to_what_the_memory_comes_to() {
    let abouts = [About::OrderConfirmed, About::OrderShipped, About::OrderCancelled, About::PaymentRefunded];
    let outcomes: Vec<Outcome> =
        abouts.into_iter().flat_map(|about| [Outcome::Sent { about }, refused(about)]).collect();
    let states = conforms(&database().await, NotificationStore, anything(), &outcomes).await;
    let seen = |is: fn(&Status) -> bool| {
        let mails = states.iter().flat_map(|state| state.notices.values()).flat_map(|notice| &notice.mails);
        mails.filter(|mail| is(&mail.status)).count() > 0
    };
    assert!(seen(|status| matches!(status, Status::Waiting(_))) && seen(|status| *status == Status::Sending));
    assert!(seen(|status| *status == Status::Sent) && seen(|status| *status == Status::Failed));
    assert!(states.iter().any(|state| state.addresses.values().any(|address| address.email.is_some())));
    assert!(states.iter().any(|state| state.addresses.values().any(|address| address.waiting.len() > 1)));
}

async fn load(pool: &PgPool, users: &[String], orders: &[String]) -> State {
    let mut tx = pool.begin().await.expect("a transaction");
    let mut state = State::default();
    NotificationStore.load(&mut tx, ADDRESS, users, &mut state).await.expect("addresses");
    NotificationStore.load(&mut tx, NOTICE, orders, &mut state).await.expect("notices");
    tx.commit().await.expect("a commit");
    state
}

/// Saves `after` as a batch that found `before`.
async fn save(pool: &PgPool, before: &State, after: &State) -> sqlx::Result<()> {
    let mut tx = pool.begin().await?;
    NotificationStore.save(&mut tx, before, after, &[]).await?;
    tx.commit().await
}

#[tokio::test]
async fn the_tables_refuse_what_cannot_be() {
    let database = database().await;
    let (user, order) = ([id(1).to_string()], [id(2).to_string()]);
    let before = load(&database.pool, &user, &order).await;
    let mails = vec![Told { about: About::OrderConfirmed, status: Status::Sent }];
    for (what, bad) in [
        ("a mail to nobody", Notice { mails, ..Notice::default() }),
        ("a negative version", Notice { version: -1, ..Notice::default() }),
    ] {
        let mut after = before.clone();
        after.notices.insert(order[0].clone(), bad);
        assert!(save(&database.pool, &before, &after).await.is_err(), "{what} was saved");
    }
}

/// What an instance does each hour: an order's rows go, once nothing can come of them any more.
#[tokio::test]
async fn notices_go_once_no_mail_waits_and_addresses_stay() -> Result<(), Box<dyn std::error::Error>> {
    let database = database().await;
    sqlx::raw_sql(
        "insert into notice (order_id, customer_id, mails, changed_at)
         select gen_random_uuid(), gen_random_uuid(), mails::jsonb, clock_timestamp() - make_interval(days => days)
         from unnest(array['[]', '[{\"about\": \"confirmed\", \"status\": \"sent\"}, {\"about\": \"shipped\", \"status\": \"failed\"}]',
             '[{\"about\": \"confirmed\", \"status\": \"sent\"}, {\"about\": \"shipped\", \"status\": \"sending\"}]',
             '[{\"about\": \"confirmed\", \"status\": {\"waiting\": {}}}]']) as mails, unnest(array[89, 91]) as days;
         insert into address (user_id, changed_at) values (gen_random_uuid(), clock_timestamp() - interval '91 days')",
    )
    .execute(&database.pool)
    .await?;
    let retention = Config::<NoSettings>::of(Notification::SERVICE).retention;
    let removed = remove_ended::<NotificationStore>(&mut *database.pool.acquire().await?, &retention).await?;
    assert_eq!(removed, Removed { rows: 1, is_full: false });
    let left: Vec<String> = sqlx::query_scalar(
        "select status || ' ' ||
             string_agg(round(extract(epoch from clock_timestamp() - changed_at) / 86400)::text, ' ' order by changed_at desc)
         from (select coalesce(mails -> -1 ->> 'status', 'none') as status, changed_at from notice) as notice group by status order by status",
    )
    .fetch_all(&database.pool)
    .await?;
    assert_eq!(left, ["failed 89", "none 89 91", "sending 89 91", r#"{"waiting": {}} 89 91"#]);
    let addresses: i64 = sqlx::query_scalar("select count(*) from address").fetch_one(&database.pool).await?;
    assert_eq!(addresses, 1);
    Ok(())
}
