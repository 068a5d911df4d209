//! Addresses and notices on the real PostgreSQL: what is saved is what is loaded.

mod common;

use std::collections::BTreeSet;

use common::*;
use quadrille_notification::{
    About, State, letters,
    policy::{ADDRESS, Address, NOTICE, Notice, Status, Told},
    store::NotificationStore,
};
use quadrille_runtime::Store;
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
