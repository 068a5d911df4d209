//! Shipments in PostgreSQL: one row per order, a whole batch at a time.

use quadrille_core::Fact;
use quadrille_events::Uuid;
use quadrille_runtime::{Ended, Mapped, Store, table, unknown_table};
use sqlx::PgConnection;

use crate::policy::{SHIPMENT, Shipment, Shipping, State, Status};

/// The shipping service's rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShippingStore;

table! {
    struct ShipmentRow in "shipment" stamps changed_at {
        key order_id: Uuid,
        version: i64,
        status: String,
        tracking_id: String,
        asked: i32,
    }
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
        table: &'static str,
        keys: &[String],
        state: &mut State,
    ) -> sqlx::Result<()> {
        match table {
            SHIPMENT => ShipmentRow::load(tx, keys, &mut state.shipments).await,
            other => Err(unknown_table(other)),
        }
    }

    async fn save(
        &self,
        tx: &mut PgConnection,
        before: &State,
        after: &State,
        _facts: &[Fact<Shipping>],
    ) -> sqlx::Result<()> {
        ShipmentRow::save(tx, &before.shipments, &after.shipments).await
    }
}

impl Mapped for ShipmentRow {
    type Value = Shipment;

    fn from_value(order_id: Uuid, shipment: &Shipment) -> Self {
        Self {
            order_id,
            version: shipment.version,
            status: shipment.status.name().to_owned(),
            tracking_id: shipment.tracking_id.clone(),
            asked: shipment.asked,
        }
    }

    fn into_value(self) -> sqlx::Result<Shipment> {
        let status = Status::named(&self.status).ok_or_else(|| {
            let unreadable = format!("shipment {}: the status '{}' is not known", self.order_id, self.status);
            sqlx::Error::Decode(unreadable.into())
        })?;
        Ok(Shipment { version: self.version, status, tracking_id: self.tracking_id, asked: self.asked })
    }
}
