//! The inventory's rows: `migrations/` says what they hold.

use quadrille_core::Fact;
use quadrille_events::Money;
use quadrille_runtime::{Ended, Mapped, Store, table, unknown_table};
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::policy::{
    Goods, Inventory, Product, REPLENISHMENT, RESERVATION, Replenishment, Reservation, STOCK, Stage, State, Stock,
};

/// The inventory's database.
#[derive(Clone, Copy, Debug, Default)]
pub struct InventoryStore;

table! {
    struct ReservationRow in "reservation" stamps changed_at {
        key order_id: Uuid,
        version: i64,
        stage: String,
        goods: Json<Goods>,
    }
}

table! {
    struct ReplenishmentRow in "replenishment" {
        key replenishment_id: Uuid,
        sku: Option<String>,
        quantity: Option<i32>,
    }
}

table! {
    struct StockRow in "stock" {
        key sku: String,
        product_version: i64,
        stock_version: i64,
        name: Option<String>,
        price_cents: Option<i64>,
        currency: Option<String>,
        received: i64,
        available: i64,
        reserved: i64,
        committed: i64,
    }
}

impl Store for InventoryStore {
    type Policy = Inventory;

    const ENDED: Option<Ended> = Some(Ended {
        table: RESERVATION,
        key: "order_id",
        settled: "stage in ('ended', 'rejected', 'released')",
        // The goods of an order that was shipped come back if the parcel does, and nobody tells of the delivery here.
        booked: "stage = 'committed'",
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
            RESERVATION => ReservationRow::load(tx, keys, &mut state.reservations).await,
            REPLENISHMENT => ReplenishmentRow::load(tx, keys, &mut state.replenishments).await,
            STOCK => StockRow::load(tx, keys, &mut state.stock).await,
            other => Err(unknown_table(other)),
        }
    }

    async fn save(
        &self,
        tx: &mut PgConnection,
        before: &State,
        after: &State,
        _facts: &[Fact<Inventory>],
    ) -> sqlx::Result<()> {
        ReservationRow::save(tx, &before.reservations, &after.reservations).await?;
        ReplenishmentRow::save(tx, &before.replenishments, &after.replenishments).await?;
        StockRow::save(tx, &before.stock, &after.stock).await
    }
}

impl Mapped for ReservationRow {
    type Value = Reservation;

    fn from_value(order_id: Uuid, reservation: &Reservation) -> Self {
        let none = Goods::new();
        let (stage, goods) = match &reservation.stage {
            Stage::New => ("new", &none),
            Stage::Ended => ("ended", &none),
            Stage::Rejected => ("rejected", &none),
            Stage::Reserved(goods) => ("reserved", goods),
            Stage::Committed(goods) => ("committed", goods),
            Stage::Released => ("released", &none),
        };
        Self { order_id, version: reservation.version, stage: stage.to_owned(), goods: Json(goods.clone()) }
    }

    fn into_value(self) -> sqlx::Result<Reservation> {
        let goods = self.goods.0;
        let stage = match self.stage.as_str() {
            "new" => Stage::New,
            "ended" => Stage::Ended,
            "rejected" => Stage::Rejected,
            "reserved" => Stage::Reserved(goods),
            "committed" => Stage::Committed(goods),
            "released" => Stage::Released,
            other => {
                let unreadable = format!("reservation {}: the stage '{other}' is not known", self.order_id);
                return Err(sqlx::Error::Decode(unreadable.into()));
            }
        };
        Ok(Reservation { version: self.version, stage })
    }
}

impl Mapped for ReplenishmentRow {
    type Value = Replenishment;

    fn from_value(replenishment_id: Uuid, replenishment: &Replenishment) -> Self {
        let (sku, quantity) = replenishment.counted.clone().unzip();
        Self { replenishment_id, sku, quantity }
    }

    fn into_value(self) -> sqlx::Result<Replenishment> {
        Ok(Replenishment { counted: self.sku.zip(self.quantity) })
    }
}

impl Mapped for StockRow {
    type Value = Stock;

    fn from_value(sku: String, stock: &Stock) -> Self {
        let product = stock.product.as_ref();
        Self {
            sku,
            product_version: stock.product_version,
            stock_version: stock.stock_version,
            name: product.map(|product| product.name.clone()),
            price_cents: product.map(|product| product.price.as_cents()),
            currency: product.map(|product| product.currency.clone()),
            received: stock.received,
            available: stock.available,
            reserved: stock.reserved,
            committed: stock.committed,
        }
    }

    fn into_value(self) -> sqlx::Result<Stock> {
        let product = match (self.name, self.price_cents.and_then(Money::try_cents), self.currency) {
            (Some(name), Some(price), Some(currency)) => Some(Product { name, price, currency }),
            (None, None, None) => None,
            _ => return Err(sqlx::Error::Decode(format!("stock '{}' has half a product", self.sku).into())),
        };
        Ok(Stock {
            product_version: self.product_version,
            stock_version: self.stock_version,
            product,
            received: self.received,
            available: self.available,
            reserved: self.reserved,
            committed: self.committed,
        })
    }
}
