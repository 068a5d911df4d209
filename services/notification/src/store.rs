//! Addresses and notices in PostgreSQL: one row per user and one per order, a whole batch at a time.

use quadrille_core::Fact;
use quadrille_events::Uuid;
use quadrille_runtime::{Ended, Mapped, Store, table, unknown_table};
use sqlx::{PgConnection, types::Json};

use crate::policy::{ADDRESS, Address, NOTICE, Notice, Notification, State, Told};

/// The notification service's rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct NotificationStore;

table! {
    struct AddressRow in "address" stamps changed_at {
        key user_id: Uuid,
        version: i64,
        email: Option<String>,
        name: Option<String>,
        // An array of arrays would have to be rectangular: each list travels in its text form.
        waiting: String as "uuid[]",
    }
}

table! {
    struct NoticeRow in "notice" stamps changed_at {
        key order_id: Uuid,
        version: i64,
        customer_id: Option<Uuid>,
        mails: Json<Vec<Told>>,
    }
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
        match table {
            ADDRESS => AddressRow::load(tx, keys, &mut state.addresses).await,
            NOTICE => NoticeRow::load(tx, keys, &mut state.notices).await,
            other => Err(unknown_table(other)),
        }
    }

    async fn save(
        &self,
        tx: &mut PgConnection,
        before: &State,
        after: &State,
        _facts: &[Fact<Notification>],
    ) -> sqlx::Result<()> {
        AddressRow::save(tx, &before.addresses, &after.addresses).await?;
        NoticeRow::save(tx, &before.notices, &after.notices).await
    }
}

impl Mapped for AddressRow {
    type Value = Address;

    fn from_value(user_id: Uuid, address: &Address) -> Self {
        let orders: Vec<&str> = address.waiting.iter().map(String::as_str).collect();
        Self {
            user_id,
            version: address.version,
            email: address.email.clone(),
            name: address.name.clone(),
            waiting: format!("{{{}}}", orders.join(",")),
        }
    }

    fn into_value(self) -> sqlx::Result<Address> {
        let orders = self.waiting.trim_matches(['{', '}']).split(',').filter(|order| !order.is_empty());
        Ok(Address {
            version: self.version,
            email: self.email,
            name: self.name,
            waiting: orders.map(str::to_owned).collect(),
        })
    }
}

impl Mapped for NoticeRow {
    type Value = Notice;

    fn from_value(order_id: Uuid, notice: &Notice) -> Self {
        Self {
            order_id,
            version: notice.version,
            customer_id: Some(notice.customer_id).filter(|id| !id.is_nil()),
            mails: Json(notice.mails.clone()),
        }
    }

    fn into_value(self) -> sqlx::Result<Notice> {
        Ok(Notice { version: self.version, customer_id: self.customer_id.unwrap_or_default(), mails: self.mails.0 })
    }
}
