//! The service over its table.

use std::process::ExitCode;

use meters_readings::{Meter, Readings, State};
use quadrille_core::Fact;
use quadrille_runtime::{Mapped, Service, Store, table};
use sqlx::PgConnection;

table! {
    struct MeterRow in "meter" {
        key meter: String,
        watt_hours: i64,
        version: i64,
    }
}

impl Mapped for MeterRow {
    type Value = Meter;

    fn from_value(meter: String, &Meter { watt_hours, version }: &Meter) -> Self {
        Self { meter, watt_hours, version }
    }

    fn into_value(self) -> sqlx::Result<Meter> {
        Ok(Meter { watt_hours: self.watt_hours, version: self.version })
    }
}

struct Tables;

impl Store for Tables {
    type Policy = Readings;

    async fn load(&self, tx: &mut PgConnection, _: &str, meters: &[String], state: &mut State) -> sqlx::Result<()> {
        MeterRow::load(tx, meters, state).await
    }

    async fn save(&self, tx: &mut PgConnection, old: &State, new: &State, _: &[Fact<Readings>]) -> sqlx::Result<()> {
        MeterRow::save(tx, old, new).await
    }
}

fn main() -> ExitCode {
    Service::new(Tables).migrations(&sqlx::migrate!()).http("127.0.0.1:9201").main()
}
