//! The inventory service, composed.

use std::process::ExitCode;

use quadrille_inventory::store::InventoryStore;
use quadrille_runtime::Service;

fn main() -> ExitCode {
    Service::new(InventoryStore).migrations(&sqlx::migrate!()).http("127.0.0.1:9103").main()
}
