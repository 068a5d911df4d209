//! Addresses and notices on the real PostgreSQL: what is saved is what is loaded.

mod common;

use std::collections::BTreeSet;

use common::*;
use quadrille_core::Policy;
use quadrille_notification::{
    About, Notification, State, letters,
    policy::{ADDRESS, Address, NOTICE, Notice, Status, Told},
    store::NotificationStore,
};
use quadrille_runtime::{Config, Removed, Service, Store, config::NoSettings, remove_ended};
use quadrille_testkit::Database;
use sqlx::PgPool;

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
async fn rows_come_back_as_they_were() {
    let database = Database::fresh([sqlx::migrate!()]).await;
    let users: Vec<String> = (1..4).map(|number| id(number).to_string()).collect();
    let orders: Vec<String> = (11..14).map(|number| id(number).to_string()).collect();
    let empty = load(&database.pool, &users, &orders).await;
    assert!(empty.addresses.len() == 3 && empty.addresses.values().all(|row| *row == Address::default()));
    assert!(empty.notices.len() == 3 && empty.notices.values().all(|row| *row == Notice::default()));

    let mut after = empty.clone();
    let waiting = BTreeSet::from([orders[0].clone(), orders[1].clone()]);
    let address = Address { version: 3, email: Some("a,\"b\"@x".into()), name: Some("Änn {}\\".into()), waiting };
    after.addresses.insert(users[0].clone(), address);
    after.addresses.insert(users[1].clone(), Address { version: 1, ..Address::default() });
    let letter = letters::confirmed(&confirmed(ORDER));
    let told = |about, status| Told { about, status };
    let mails = vec![
        told(About::OrderConfirmed, Status::Waiting(letter)),
        told(About::OrderShipped, Status::Sending),
        told(About::OrderCancelled, Status::Sent),
        told(About::PaymentRefunded, Status::Failed),
    ];
    after.notices.insert(orders[0].clone(), Notice { version: 2, customer_id: CUSTOMER, mails });
    save(&database.pool, &empty, &after).await.expect("saved");
    assert_eq!(load(&database.pool, &users, &orders).await, after);
    save(&database.pool, &after, &empty).await.expect("saved");
    assert_eq!(load(&database.pool, &users, &orders).await, empty);
}

#[tokio::test]
async fn the_tables_refuse_what_cannot_be() {
    let database = Database::fresh([sqlx::migrate!()]).await;
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
    let database = Database::fresh([]).await;
    Service::new(NotificationStore).migrations(&sqlx::migrate!()).migrate(&database.url()).await?;
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
