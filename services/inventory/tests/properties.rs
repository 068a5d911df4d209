//! What holds whatever the inventory hears, in whatever order and however often.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::*;
use proptest::{collection::vec, prelude::*};
use quadrille_core::{Fact, Records, TopicKind};
use quadrille_events::Uuid;
use quadrille_inventory::{Heard, Inventory, State, Stated, policy::Stage};
use quadrille_testkit::{Given, given};

const ORDERS: [Uuid; 2] = [ORDER, OTHER_ORDER];

/// Plays a story: after each step the stock adds up.
fn play(story: Vec<Heard>) -> Given<Inventory> {
    story.into_iter().fold(given(), |played, heard| {
        let played = played.heard(heard);
        stock_adds_up(played.state());
        played
    })
}

fn stock_adds_up(state: &State) {
    let mut held = BTreeMap::<&str, (i64, i64)>::new();
    for reservation in state.reservations.values() {
        match &reservation.stage {
            Stage::Reserved(goods) => {
                goods.iter().for_each(|(sku, quantity)| held.entry(sku).or_default().0 += quantity)
            }
            Stage::Committed(goods) => {
                goods.iter().for_each(|(sku, quantity)| held.entry(sku).or_default().1 += quantity)
            }
            Stage::New | Stage::Ended | Stage::Rejected | Stage::Released => {}
        }
    }
    for (sku, stock) in &state.stock {
        assert!(stock.available >= 0, "{sku}: {stock:?}");
        assert_eq!(stock.received, stock.available + stock.reserved + stock.committed, "{sku}");
        let held = held.get(sku.as_str()).copied().unwrap_or_default();
        assert_eq!((stock.reserved, stock.committed), held, "{sku}: what orders hold");
    }
}

fn count(facts: &[Fact<Inventory>], order: Uuid, is: fn(&Stated) -> bool) -> usize {
    facts.iter().filter(|fact| fact.key == order.to_string() && is(&fact.record)).count()
}

proptest! {
    #[test]
    fn anything_in_any_order_and_however_often(story in vec(anything(2), 0..60)) {
        let keys = |is: fn(&Heard) -> bool| -> BTreeSet<String> {
            story.iter().filter(|heard| is(heard)).map(Records::key).collect()
        };
        let asked = keys(|heard| matches!(heard, Heard::CustomerVerified(_)));
        let cancelled = keys(|heard| matches!(heard, Heard::OrderCancelled(_)));
        let played = play(story);
        let (state, facts) = (played.state(), played.facts());

        // What was received is what was said to be, each delivery once.
        let mut received = BTreeMap::<String, i64>::new();
        let mut deliveries = BTreeSet::new();
        for fact in facts {
            if let Stated::StockReplenished(replenished) = &fact.record {
                *received.entry(fact.key.clone()).or_default() += i64::from(replenished.quantity);
                prop_assert!(deliveries.insert(replenished.replenishment_id));
            }
        }
        for (sku, stock) in &state.stock {
            prop_assert_eq!(stock.received, received.get(sku).copied().unwrap_or(0));
        }

        for order in ORDERS {
            let key = order.to_string();
            let reserved = count(facts, order, |fact| matches!(fact, Stated::StockReserved(_)));
            let rejected = count(facts, order, |fact| matches!(fact, Stated::ReservationRejected(_)));
            let committed = count(facts, order, |fact| matches!(fact, Stated::ReservationCommitted(_)));
            let released = count(facts, order, |fact| matches!(fact, Stated::ReservationReleased(_)));
            // Every question is answered once.
            prop_assert_eq!(reserved + rejected, usize::from(asked.contains(&key)));
            prop_assert!(committed <= reserved && released <= reserved);
            // Who was cancelled holds nothing.
            if cancelled.contains(&key) {
                prop_assert_eq!(reserved, released);
                let stage = &state.reservations[&key].stage;
                prop_assert!(matches!(stage, Stage::Ended | Stage::Rejected | Stage::Released), "{:?}", stage);
            }
        }
    }

    /// An event that comes again under another id changes nothing: the inbox may have forgotten it.
    #[test]
    fn an_event_twice_is_an_event_once(story in vec(anything(2), 0..40), twice in any::<prop::sample::Index>()) {
        let events = story.iter().enumerate().filter(|(_, heard)| heard.record_type().topic.kind == TopicKind::Events);
        let events: Vec<usize> = events.map(|(at, _)| at).collect();
        prop_assume!(!events.is_empty());
        let at = events[twice.index(events.len())];
        let mut repeated = story.clone();
        repeated.insert(at, story[at].clone());
        let (once, twice) = (play(story), play(repeated));
        let records = |played: &Given<Inventory>| -> Vec<Stated> {
            played.facts().iter().map(|fact| fact.record.clone()).collect()
        };
        prop_assert_eq!(once.state(), twice.state());
        prop_assert_eq!(records(&once), records(&twice));
    }
}
