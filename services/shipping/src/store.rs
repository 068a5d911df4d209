//! Shipments in PostgreSQL: one row an order, a whole batch at a time.

use quadrille_core::{Fact, changed};
use quadrille_events::Uuid;
use quadrille_runtime::{Ended, Store, lock, uuids};
use sqlx::{FromRow, PgConnection};

use crate::policy::{SHIPMENT, Shipment, Shipping, State, Status};

/// The shipping service's rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShippingStore;

#[derive(FromRow)]
struct Row {
    order_id: Uuid,
    version: i64,
    status: String,
    tracking_id: String,
    asked: i32,
}

impl Store for ShippingStore {
    type Policy = Shipping;

    const ENDED: Option<Ended> = Some(Ended {
        table: SHIPMENT,
        key: "order_id",
        settled: "status in ('aborted', 'delivered', 'recalled')",
        booked: "false",
        beside: None,
    });

    async fn load(
        &self,
        tx: &mut PgConnection,
        _table: &'static str,
        keys: &[String],
        state: &mut State,
    ) -> sqlx::Result<()> {
        let rows: Vec<Row> = lock(
            tx,
            &uuids(keys)?,
            "select order_id, version, status, tracking_id, asked
             from shipment where order_id = any($1) order by order_id for update",
            "insert into shipment (order_id) select unnest($1::uuid[]) on conflict do nothing",
        )
        .await?;
        for row in rows {
            state.shipments.insert(row.order_id.to_string(), row.shipment()?);
        }
        Ok(())
    }

    async fn save(
        &self,
        tx: &mut PgConnection,
        before: &State,
        after: &State,
        _facts: &[Fact<Shipping>],
    ) -> sqlx::Result<()> {
        let (keys, shipments): (Vec<String>, Vec<&Shipment>) =
            changed(&before.shipments, &after.shipments).map(|(key, shipment)| (key.clone(), shipment)).unzip();
        if keys.is_empty() {
            return Ok(());
        }
        // The rows are there: they were made when they were locked.
        sqlx::query(
            "update shipment set version = new.version, status = new.status, tracking_id = new.tracking_id,
                 asked = new.asked, changed_at = clock_timestamp()
             from unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::int[])
                 as new(order_id, version, status, tracking_id, asked)
             where shipment.order_id = new.order_id",
        )
        .bind(uuids(&keys)?)
        .bind(column(&shipments, |shipment| shipment.version))
        .bind(column(&shipments, |shipment| shipment.status.name()))
        .bind(column(&shipments, |shipment| shipment.tracking_id.as_str()))
        .bind(column(&shipments, |shipment| shipment.asked))
        .execute(tx)
        .await?;
        Ok(())
    }
}

fn column<'a, T>(shipments: &[&'a Shipment], value: impl Fn(&'a Shipment) -> T) -> Vec<T> {
    shipments.iter().map(|shipment| value(shipment)).collect()
}

impl Row {
    fn shipment(self) -> sqlx::Result<Shipment> {
        let status = Status::named(&self.status).ok_or_else(|| {
            let unreadable = format!("shipment {}: the status '{}' is not known", self.order_id, self.status);
            sqlx::Error::Decode(unreadable.into())
        })?;
        Ok(Shipment { version: self.version, status, tracking_id: self.tracking_id, asked: self.asked })
    }
}
