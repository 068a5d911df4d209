//! What the shop's command line is for.

use std::sync::LazyLock;

use quadrille_cli::{Catalogue, Sagas, Service, Setting};
use quadrille_core::Policy;
use quadrille_events::{RECORD_TYPES, TOPICS};
use quadrille_program::{Key, address};
use quadrille_roster::{Visitor, each};

/// The shop's topics, records and services, and the platform's.
pub static CATALOGUE: LazyLock<Catalogue> =
    LazyLock::new(|| Catalogue::new(TOPICS, RECORD_TYPES, each(&Services)).with_sagas(ORDERS).with_settings(SETTINGS));

/// For the audit.
const SETTINGS: &[Setting] = &[Setting {
    key: Key::address(
        "tools.provider_url",
        "http://host:port or https://host:port",
        address::http,
        "the payment provider's ledger is below it",
    ),
    default: "http://127.0.0.1:8071",
}];

/// Orders, as the order service has them.
const ORDERS: Sagas = Sagas {
    service: "order",
    states: "select status, count(*) from orders where status <> 'unknown' group by status",
    ended: &["delivered", "cancelled", "rejected"],
};

struct Services;

impl Visitor for Services {
    type Output = Service;

    fn visit<P: Policy>(&self) -> Service {
        Service::of::<P>()
    }
}
