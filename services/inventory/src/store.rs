//! The inventory's rows: `migrations/` says what they hold.

use quadrille_core::{Fact, changed};
use quadrille_events::Money;
use quadrille_runtime::{Ended, Store, lock, uuids};
use sqlx::{FromRow, PgConnection, types::Json};
use uuid::Uuid;

use crate::policy::{
    Goods, Inventory, Product, REPLENISHMENT, RESERVATION, Replenishment, Reservation, STOCK, Stage, State, Stock,
};

/// The inventory's database.
#[derive(Clone, Copy, Debug, Default)]
pub struct InventoryStore;

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
            RESERVATION => {
                let rows: Vec<ReservationRow> = lock(
                    tx,
                    &uuids(keys)?,
                    "select order_id, version, stage, goods from reservation
                     where order_id = any($1) order by order_id for update",
                    "insert into reservation (order_id) select unnest($1::uuid[]) on conflict do nothing",
                )
                .await?;
                for row in rows {
                    state.reservations.insert(row.order_id.to_string(), row.try_into()?);
                }
            }
            REPLENISHMENT => {
                let rows: Vec<(Uuid, Option<String>, Option<i32>)> = lock(
                    tx,
                    &uuids(keys)?,
                    "select replenishment_id, sku, quantity from replenishment
                     where replenishment_id = any($1) order by replenishment_id for update",
                    "insert into replenishment (replenishment_id) select unnest($1::uuid[]) on conflict do nothing",
                )
                .await?;
                for (id, sku, quantity) in rows {
                    let counted = sku.zip(quantity);
                    state.replenishments.insert(id.to_string(), Replenishment { counted });
                }
            }
            STOCK => {
                let rows: Vec<StockRow> = lock(
                    tx,
                    keys,
                    "select sku, product_version, stock_version, name, price_cents, currency,
                         received, available, reserved, committed
                     from stock where sku = any($1) order by sku for update",
                    "insert into stock (sku) select unnest($1::text[]) on conflict do nothing",
                )
                .await?;
                for row in rows {
                    state.stock.insert(row.sku.clone(), row.try_into()?);
                }
            }
            other => return Err(sqlx::Error::TypeNotFound { type_name: other.into() }),
        }
        Ok(())
    }

    async fn save(
        &self,
        tx: &mut PgConnection,
        before: &State,
        after: &State,
        _facts: &[Fact<Inventory>],
    ) -> sqlx::Result<()> {
        let reservations: Vec<_> = changed(&before.reservations, &after.reservations).collect();
        save_reservations(tx, &reservations).await?;
        let replenishments: Vec<_> = changed(&before.replenishments, &after.replenishments).collect();
        save_replenishments(tx, &replenishments).await?;
        let stock: Vec<_> = changed(&before.stock, &after.stock).collect();
        save_stock(tx, &stock).await
    }
}

async fn save_reservations(tx: &mut PgConnection, rows: &[(&String, &Reservation)]) -> sqlx::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let none = Goods::new();
    let keys: Vec<String> = rows.iter().map(|(key, _)| (*key).clone()).collect();
    let stages = rows.iter().map(|(_, row)| match &row.stage {
        Stage::New => ("new", &none),
        Stage::Ended => ("ended", &none),
        Stage::Rejected => ("rejected", &none),
        Stage::Reserved(goods) => ("reserved", goods),
        Stage::Committed(goods) => ("committed", goods),
        Stage::Released => ("released", &none),
    });
    let (stages, goods): (Vec<&str>, Vec<Json<&Goods>>) = stages.map(|(stage, goods)| (stage, Json(goods))).unzip();
    sqlx::query(
        "insert into reservation (order_id, version, stage, goods)
         select * from unnest($1::uuid[], $2::bigint[], $3::text[], $4::jsonb[])
         on conflict (order_id) do update
         set version = excluded.version, stage = excluded.stage, goods = excluded.goods, changed_at = clock_timestamp()",
    )
    .bind(uuids(&keys)?)
    .bind(rows.iter().map(|(_, row)| row.version).collect::<Vec<_>>())
    .bind(stages)
    .bind(goods)
    .execute(tx)
    .await?;
    Ok(())
}

async fn save_replenishments(tx: &mut PgConnection, rows: &[(&String, &Replenishment)]) -> sqlx::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let keys: Vec<String> = rows.iter().map(|(key, _)| (*key).clone()).collect();
    let counted = rows.iter().map(|(_, row)| row.counted.clone().unzip());
    let (skus, quantities): (Vec<Option<String>>, Vec<Option<i32>>) = counted.unzip();
    sqlx::query(
        "insert into replenishment (replenishment_id, sku, quantity)
         select * from unnest($1::uuid[], $2::text[], $3::integer[])
         on conflict (replenishment_id) do update set sku = excluded.sku, quantity = excluded.quantity",
    )
    .bind(uuids(&keys)?)
    .bind(skus)
    .bind(quantities)
    .execute(tx)
    .await?;
    Ok(())
}

async fn save_stock(tx: &mut PgConnection, rows: &[(&String, &Stock)]) -> sqlx::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let of = |number: fn(&Stock) -> i64| rows.iter().map(|(_, row)| number(row)).collect::<Vec<_>>();
    let products = || rows.iter().map(|(_, row)| row.product.as_ref());
    sqlx::query(
        "insert into stock (sku, product_version, stock_version, name, price_cents, currency,
             received, available, reserved, committed)
         select * from unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::text[],
             $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[])
         on conflict (sku) do update
         set product_version = excluded.product_version, stock_version = excluded.stock_version,
             name = excluded.name, price_cents = excluded.price_cents, currency = excluded.currency,
             received = excluded.received, available = excluded.available,
             reserved = excluded.reserved, committed = excluded.committed",
    )
    .bind(rows.iter().map(|(sku, _)| sku.as_str()).collect::<Vec<_>>())
    .bind(of(|row| row.product_version))
    .bind(of(|row| row.stock_version))
    .bind(products().map(|product| product.map(|product| product.name.as_str())).collect::<Vec<_>>())
    .bind(products().map(|product| product.map(|product| product.price.as_cents())).collect::<Vec<_>>())
    .bind(products().map(|product| product.map(|product| product.currency.as_str())).collect::<Vec<_>>())
    .bind(of(|row| row.received))
    .bind(of(|row| row.available))
    .bind(of(|row| row.reserved))
    .bind(of(|row| row.committed))
    .execute(tx)
    .await?;
    Ok(())
}

#[derive(FromRow)]
struct ReservationRow {
    order_id: Uuid,
    version: i64,
    stage: String,
    goods: Json<Goods>,
}

impl TryFrom<ReservationRow> for Reservation {
    type Error = sqlx::Error;

    fn try_from(row: ReservationRow) -> sqlx::Result<Self> {
        let goods = row.goods.0;
        let stage = match row.stage.as_str() {
            "new" => Stage::New,
            "ended" => Stage::Ended,
            "rejected" => Stage::Rejected,
            "reserved" => Stage::Reserved(goods),
            "committed" => Stage::Committed(goods),
            "released" => Stage::Released,
            other => return Err(sqlx::Error::Decode(format!("reservation.stage is '{other}'").into())),
        };
        Ok(Self { version: row.version, stage })
    }
}

#[derive(FromRow)]
struct StockRow {
    sku: String,
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

impl TryFrom<StockRow> for Stock {
    type Error = sqlx::Error;

    fn try_from(row: StockRow) -> sqlx::Result<Self> {
        let product = match (row.name, row.price_cents.and_then(Money::try_cents), row.currency) {
            (Some(name), Some(price), Some(currency)) => Some(Product { name, price, currency }),
            (None, None, None) => None,
            _ => return Err(sqlx::Error::Decode(format!("stock '{}' has half a product", row.sku).into())),
        };
        Ok(Self {
            product_version: row.product_version,
            stock_version: row.stock_version,
            product,
            received: row.received,
            available: row.available,
            reserved: row.reserved,
            committed: row.committed,
        })
    }
}
