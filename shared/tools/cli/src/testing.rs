//! The catalogue that this crate's tests go by: the shop's.

use std::sync::LazyLock;

use quadrille_core::Policy;
use quadrille_roster::{Visitor, each};

use crate::{Catalogue, catalogue::Service};

pub static CATALOGUE: LazyLock<Catalogue> =
    LazyLock::new(|| Catalogue::new(quadrille_events::TOPICS, quadrille_events::RECORD_TYPES, each(&Services)));

struct Services;

impl Visitor for Services {
    type Output = Service;

    fn visit<P: Policy>(&self) -> Service {
        Service::of::<P>()
    }
}
