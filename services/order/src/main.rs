//! The order service, composed.

use std::process::ExitCode;

use quadrille_order::store::OrderStore;
use quadrille_runtime::Service;

fn main() -> ExitCode {
    Service::new(OrderStore::default())
        .migrations(&quadrille_event_store::MIGRATOR)
        .migrations(&sqlx::migrate!())
        .http("127.0.0.1:9102")
        .main()
}
