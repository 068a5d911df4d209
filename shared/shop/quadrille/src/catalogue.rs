//! What the shop's command line is for.

use std::sync::LazyLock;

use quadrille_cli::{Catalogue, Sagas, Service};
use quadrille_core::Policy;
use quadrille_events::{RECORD_TYPES, TOPICS};
use quadrille_roster::{Visitor, each};

/// The shop's topics, records and services, and the platform's.
pub static CATALOGUE: LazyLock<Catalogue> =
    LazyLock::new(|| Catalogue::new(TOPICS, RECORD_TYPES, each(&Services)).with_sagas(ORDERS));

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
