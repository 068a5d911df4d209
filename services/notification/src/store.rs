//! Addresses and notices in PostgreSQL: one row a user and one an order, a whole batch at a time.

use quadrille_core::{Fact, changed};
use quadrille_events::Uuid;
use quadrille_runtime::{Ended, Store, lock, uuids};
use sqlx::{FromRow, PgConnection, types::Json};

use crate::policy::{ADDRESS, Address, NOTICE, Notice, Notification, State, Told};

/// The notification service's rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct NotificationStore;

#[derive(FromRow)]
struct AddressRow {
    user_id: Uuid,
    version: i64,
    email: Option<String>,
    name: Option<String>,
    waiting: Vec<Uuid>,
}

#[derive(FromRow)]
struct NoticeRow {
    order_id: Uuid,
    version: i64,
    customer_id: Option<Uuid>,
    mails: Json<Vec<Told>>,
}

impl Store for NotificationStore {
    type Policy = Notification;

    const ENDED: Option<Ended> = Some(Ended {
        table: NOTICE,
        key: "order_id",
        // None that waits or is being sent.
        settled: "(select bool_and(mail ->> 'status' in ('sent', 'failed')) from jsonb_array_elements(mails) mail)",
        booked: "false",
        beside: None,
    });

    async fn load(
        &self,
        tx: &mut PgConnection,
        table: &'static str,
        keys: &[String],
        state: &mut State,
    ) -> sqlx::Result<()> {
        let keys = uuids(keys)?;
        if table == ADDRESS {
            let rows: Vec<AddressRow> = lock(
                tx,
                &keys,
                "select user_id, version, email, name, waiting
                 from address where user_id = any($1) order by user_id for update",
                "insert into address (user_id) select unnest($1::uuid[]) on conflict do nothing",
            )
            .await?;
            state.addresses.extend(rows.into_iter().map(AddressRow::address));
        } else {
            let rows: Vec<NoticeRow> = lock(
                tx,
                &keys,
                "select order_id, version, customer_id, mails
                 from notice where order_id = any($1) order by order_id for update",
                "insert into notice (order_id) select unnest($1::uuid[]) on conflict do nothing",
            )
            .await?;
            state.notices.extend(rows.into_iter().map(NoticeRow::notice));
        }
        Ok(())
    }

    async fn save(
        &self,
        tx: &mut PgConnection,
        before: &State,
        after: &State,
        _facts: &[Fact<Notification>],
    ) -> sqlx::Result<()> {
        save_addresses(tx, changed(&before.addresses, &after.addresses).unzip()).await?;
        save_notices(tx, changed(&before.notices, &after.notices).unzip()).await
    }
}

async fn save_addresses(tx: &mut PgConnection, (users, addresses): (Vec<&String>, Vec<&Address>)) -> sqlx::Result<()> {
    if users.is_empty() {
        return Ok(());
    }
    // An array of arrays would have to be rectangular: each list travels in its text form.
    let waiting = |address: &&Address| {
        let orders: Vec<&str> = address.waiting.iter().map(String::as_str).collect();
        format!("{{{}}}", orders.join(","))
    };
    // The rows are there: they were made when they were locked.
    sqlx::query(
        "update address set version = new.version, email = new.email, name = new.name, waiting = new.waiting::uuid[],
             changed_at = clock_timestamp()
         from unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[]) as new(user_id, version, email, name, waiting)
         where address.user_id = new.user_id",
    )
    .bind(ids(users)?)
    .bind(addresses.iter().map(|address| address.version).collect::<Vec<_>>())
    .bind(addresses.iter().map(|address| address.email.as_deref()).collect::<Vec<_>>())
    .bind(addresses.iter().map(|address| address.name.as_deref()).collect::<Vec<_>>())
    .bind(addresses.iter().map(waiting).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

async fn save_notices(tx: &mut PgConnection, (orders, notices): (Vec<&String>, Vec<&Notice>)) -> sqlx::Result<()> {
    if orders.is_empty() {
        return Ok(());
    }
    let customer = |notice: &&Notice| Some(notice.customer_id).filter(|id| !id.is_nil());
    sqlx::query(
        "update notice set version = new.version, customer_id = new.customer_id, mails = new.mails,
             changed_at = clock_timestamp()
         from unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::jsonb[]) as new(order_id, version, customer_id, mails)
         where notice.order_id = new.order_id",
    )
    .bind(ids(orders)?)
    .bind(notices.iter().map(|notice| notice.version).collect::<Vec<_>>())
    .bind(notices.iter().map(customer).collect::<Vec<_>>())
    .bind(notices.iter().map(|notice| Json(&notice.mails)).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

fn ids(keys: Vec<&String>) -> sqlx::Result<Vec<Uuid>> {
    uuids(&keys.into_iter().cloned().collect::<Vec<_>>())
}

impl AddressRow {
    fn address(self) -> (String, Address) {
        let address = Address {
            version: self.version,
            email: self.email,
            name: self.name,
            waiting: self.waiting.iter().map(Uuid::to_string).collect(),
        };
        (self.user_id.to_string(), address)
    }
}

impl NoticeRow {
    fn notice(self) -> (String, Notice) {
        let notice =
            Notice { version: self.version, customer_id: self.customer_id.unwrap_or_default(), mails: self.mails.0 };
        (self.order_id.to_string(), notice)
    }
}
