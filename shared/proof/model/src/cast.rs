//! Who plays in a world.

use std::sync::Arc;

use quadrille_core::Policy;
use quadrille_inventory::Inventory;
use quadrille_notification::Notification;
use quadrille_roster::{Visitor, each};

use crate::{
    database::Level,
    flaw::Flaw,
    record::Records,
    service::{Player, Service},
    spec::Forgets,
};

/// What each service is made of beside its policy.
pub struct Parts {
    /// The world's records.
    pub records: Arc<Records>,
    /// What is wrong with the runtime.
    pub flaw: Option<Flaw>,
    /// What inboxes forget.
    pub forgets: Forgets,
}

/// A service with an altered policy, in the place of its original.
pub type Mutant = fn(&Parts) -> Box<dyn Service>;

/// A service with this policy.
pub fn play<P: Policy>(parts: &Parts) -> Box<dyn Service> {
    Box::new(player::<P>(parts))
}

/// An inventory with this policy, which shows its stock.
pub fn stocked<P: Policy<State = quadrille_inventory::State>>(parts: &Parts) -> Box<dyn Service> {
    Box::new(player::<P>(parts).with_stock(stock))
}

/// The notification service.
pub fn notification(parts: &Parts) -> Box<dyn Service> {
    play::<Notification>(parts)
}

/// The services that an order's saga goes through. The notification service is not among them: see [`World::of_mails`].
///
/// [`World::of_mails`]: crate::world::World::of_mails
pub fn all(parts: &Parts, mutant: Option<Mutant>) -> Vec<Box<dyn Service>> {
    let mut all = each(&Play(parts));
    all.retain(|service| service.name() != Notification::SERVICE);
    if let Some(inventory) = all.iter_mut().find(|service| service.name() == Inventory::SERVICE) {
        *inventory = stocked::<Inventory>(parts);
    }
    if let Some(mutant) = mutant.map(|mutant| mutant(parts)) {
        all.retain(|service| service.name() != mutant.name());
        all.push(mutant);
    }
    all
}

struct Play<'a>(&'a Parts);

impl Visitor for Play<'_> {
    type Output = Box<dyn Service>;

    fn visit<P: Policy>(&self) -> Self::Output {
        play::<P>(self.0)
    }
}

fn player<P: Policy>(parts: &Parts) -> Player<P> {
    Player::new(parts.records.clone(), parts.flaw, parts.forgets)
}

fn stock(state: &quadrille_inventory::State) -> Vec<Level> {
    let level = |(sku, stock): (&String, &quadrille_inventory::policy::Stock)| Level {
        sku: sku.clone(),
        received: stock.received,
        available: stock.available,
        reserved: stock.reserved,
        committed: stock.committed,
    };
    state.stock.iter().map(level).collect()
}
