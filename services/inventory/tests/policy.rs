//! The reaction table's rows of the inventory, one test or more each.

mod common;

use common::*;
use quadrille_events::{
    Money, Uuid,
    product::{PriceChanged, ProductListed, ProductListingRequested},
    reservation::{
        MissingLine, ReservationCommitted, ReservationRejected, ReservationReleased, ReservedLine, StockReserved,
    },
    stock::{StockReplenished, StockRequestRefused},
};
use quadrille_inventory::{
    Inventory, State, Stated,
    policy::{Stage, Stock},
};
use quadrille_testkit::{Given, given};

/// TEA-1 and MUG-1 are listed, ten of each came in.
fn stocked() -> Given<Inventory> {
    given::<Inventory>()
        .heard(listing("TEA-1", 1999))
        .heard(listing("MUG-1", 500))
        .heard(replenishment(1, "TEA-1", 10))
        .heard(replenishment(2, "MUG-1", 10))
}

fn lines(lines: &[(&str, i32)]) -> Vec<ReservedLine> {
    lines.iter().map(|(sku, quantity)| ReservedLine::new((*sku).into(), *quantity)).collect()
}

/// Available, reserved, committed.
fn shelf(state: &State, sku: &str) -> (i64, i64, i64) {
    let stock = &state.stock[sku];
    assert_eq!(stock.received, stock.available + stock.reserved + stock.committed);
    (stock.available, stock.reserved, stock.committed)
}

#[track_caller]
fn refused(story: &Given<Inventory>, reason: &str, field: &str) {
    match &story.stated()[..] {
        [Stated::StockRequestRefused(refused)] => {
            assert_eq!((refused.reason.as_str(), refused.field.as_str()), (reason, field));
            assert!(refused.detail.starts_with(&format!("{field} must ")), "{}", refused.detail);
        }
        other => panic!("{other:#?}"),
    }
}

// Products.

#[test]
fn an_unknown_sku_is_listed() {
    given::<Inventory>().heard(listing("TEA-1", 1999)).then_states([ProductListed {
        name: "The TEA-1".into(),
        currency: "EUR".into(),
        ..ProductListed::new("TEA-1".into(), Money::cents(1999))
    }]);
}

#[test]
fn another_price_is_a_price_change() {
    stocked().heard(listing("TEA-1", 2100)).then_states([PriceChanged {
        currency: "EUR".into(),
        ..PriceChanged::new("TEA-1".into(), Money::cents(2100), Money::cents(1999))
    }]);
}

#[test]
fn the_price_changes_under_a_listing_that_leaves_the_name_out() {
    let unnamed = ProductListingRequested { name: String::new(), ..listing("TEA-1", 2100) };
    stocked()
        .heard(unnamed)
        .then_states_types(["PriceChanged"])
        .then_state(|state| state.stock["TEA-1"].product.as_ref().is_some_and(|product| product.name == "The TEA-1"));
}

#[test]
fn the_same_listing_again_says_nothing() {
    stocked().heard(listing("TEA-1", 1999)).then_nothing();
}

#[test]
fn another_currency_is_refused() {
    let dollars = ProductListingRequested { currency: "USD".into(), ..listing("TEA-1", 1999) };
    let story = stocked().heard(dollars);
    refused(&story, "other_currency", "currency");
}

#[test]
fn another_name_is_refused_whatever_the_price() {
    for cents in [1999, 2100] {
        let renamed = ProductListingRequested { name: "Coffee".into(), ..listing("TEA-1", cents) };
        let story = stocked().heard(renamed);
        refused(&story, "conflicting_content", "name");
    }
}

#[test]
fn a_listing_beyond_bounds_is_refused_by_its_field() {
    let sound = listing("TEA-1", 1999);
    let with = |change: fn(&mut ProductListingRequested)| {
        let mut asked = sound.clone();
        change(&mut asked);
        given::<Inventory>().heard(asked)
    };
    refused(&with(|asked| asked.price = Money::ZERO), "bounds", "price");
    refused(&with(|asked| asked.price = Money::cents(-1)), "bounds", "price");
    refused(&with(|asked| asked.currency = "eur".into()), "bounds", "currency");
    refused(&with(|asked| asked.currency.clear()), "bounds", "currency");
    refused(&with(|asked| asked.name = "x".repeat(501)), "bounds", "name");
    refused(&with(|asked| asked.name = "tea\0".into()), "bounds", "name");
    refused(&with(|asked| asked.name = "tea\u{2028}".into()), "bounds", "name");
    refused(&with(|asked| asked.name = "\u{200b}".into()), "bounds", "name");
    with(|asked| asked.price = Money::cents(1)).then_states_types(["ProductListed"]);
    with(|asked| asked.price = Money::MAX).then_states_types(["ProductListed"]);
}

#[test]
fn every_spelling_of_a_sku_is_one_sku() {
    stocked()
        .heard(listing("tea-1", 2100))
        .then_states_types(["PriceChanged"])
        .heard(replenishment(3, "tEa-1", 5))
        .then_states([StockReplenished::new("TEA-1".into(), Uuid::from_u128(3), 5)])
        .heard(verified(ORDER, &[("tea-1", 2), ("TEA-1", 3)]))
        .then_state(|state| shelf(state, "TEA-1") == (10, 5, 0));
}

// Stock.

#[test]
fn goods_that_come_in_are_available() {
    stocked()
        .heard(replenishment(3, "TEA-1", 5))
        .then_states([StockReplenished::new("TEA-1".into(), Uuid::from_u128(3), 5)])
        .then_state(|state| shelf(state, "TEA-1") == (15, 0, 0));
}

#[test]
fn the_same_delivery_counts_once() {
    stocked()
        .heard(replenishment(1, "TEA-1", 10))
        .then_nothing()
        .then_state(|state| shelf(state, "TEA-1") == (10, 0, 0));
}

#[test]
fn a_known_delivery_with_other_content_is_refused() {
    for other in [replenishment(1, "TEA-1", 11), replenishment(1, "MUG-1", 10)] {
        let story = stocked().heard(other);
        refused(&story, "conflicting_content", "replenishment_id");
        assert_eq!(shelf(story.state(), "TEA-1"), (10, 0, 0));
        assert_eq!(shelf(story.state(), "MUG-1"), (10, 0, 0));
    }
}

#[test]
fn goods_of_an_unlisted_sku_are_refused_and_may_come_again_once_it_is_listed() {
    let story = given::<Inventory>().heard(replenishment(1, "TEA-1", 10));
    refused(&story, "unknown_sku", "sku");
    assert!(
        matches!(&story.stated()[..], [Stated::StockRequestRefused(StockRequestRefused { replenishment_id: Some(id), .. })]
        if *id == Uuid::from_u128(1))
    );
    story.heard(listing("TEA-1", 1999)).heard(replenishment(1, "TEA-1", 10)).then_states_types(["StockReplenished"]);
}

#[test]
fn quantities_beyond_bounds_are_refused() {
    for quantity in [0, -5, i32::MIN, 1_000_001] {
        let story = stocked().heard(replenishment(3, "TEA-1", quantity));
        refused(&story, "bounds", "quantity");
        assert_eq!(shelf(story.state(), "TEA-1"), (10, 0, 0));
    }
}

// Reservations.

#[test]
fn what_suffices_is_set_aside_and_the_baton_goes_on_unchanged() {
    stocked()
        .heard(verified(ORDER, &[("TEA-1", 10), ("MUG-1", 1)]))
        .then_states([StockReserved::new(ORDER, details(&[("TEA-1", 10), ("MUG-1", 1)]))])
        .then_state(|state| shelf(state, "TEA-1") == (0, 10, 0) && shelf(state, "MUG-1") == (9, 1, 0));
}

#[test]
fn lines_of_one_sku_are_summed() {
    stocked()
        .heard(verified(ORDER, &[("TEA-1", 6), ("TEA-1", 5)]))
        .then_states([ReservationRejected {
            reason: "insufficient_stock".into(),
            missing: vec![MissingLine::new("TEA-1".into(), 11, 10)],
            detail: "11 of TEA-1 wanted, 10 available".into(),
            ..ReservationRejected::new(ORDER)
        }])
        .heard(verified(OTHER_ORDER, &[("TEA-1", 6), ("TEA-1", 4)]))
        .then_states_types(["StockReserved"])
        .then_state(|state| shelf(state, "TEA-1") == (0, 10, 0));
}

#[test]
fn it_is_all_or_nothing_and_every_sku_that_falls_short_is_named() {
    stocked()
        .heard(verified(ORDER, &[("TEA-1", 1), ("MUG-1", 11), ("CUP-1", 2)]))
        .then_states([ReservationRejected {
            reason: "insufficient_stock".into(),
            missing: vec![MissingLine::new("CUP-1".into(), 2, 0), MissingLine::new("MUG-1".into(), 11, 10)],
            detail: "2 of CUP-1 wanted, 0 available; 11 of MUG-1 wanted, 10 available".into(),
            ..ReservationRejected::new(ORDER)
        }])
        .then_state(|state| shelf(state, "TEA-1") == (10, 0, 0) && shelf(state, "MUG-1") == (10, 0, 0));
}

#[test]
fn a_sentence_names_three_skus_and_counts_the_rest() {
    let lines = [("CUP-1", 1), ("CUP-2", 1), ("CUP-3", 1), ("CUP-4", 1), ("CUP-5", 1)];
    match &stocked().heard(verified(ORDER, &lines)).stated()[..] {
        [Stated::ReservationRejected(rejected)] => {
            assert_eq!(rejected.missing.len(), 5);
            assert!(
                rejected.detail.ends_with("1 of CUP-3 wanted, 0 available; and 2 more SKUs"),
                "{}",
                rejected.detail
            );
        }
        other => panic!("{other:#?}"),
    }
}

#[test]
fn a_forged_quantity_takes_nothing_from_the_shelf() {
    for lines in [[("TEA-1", 12), ("TEA-1", -5)], [("TEA-1", 0), ("MUG-1", 1)], [("TEA-1", i32::MIN), ("MUG-1", 1)]] {
        let story = stocked().heard(verified(ORDER, &lines)).then_states_types(["ReservationRejected"]);
        assert_eq!(shelf(story.state(), "TEA-1"), (10, 0, 0));
        assert_eq!(shelf(story.state(), "MUG-1"), (10, 0, 0));
    }
}

#[test]
fn an_order_is_answered_once() {
    stocked().heard(verified(ORDER, &[("TEA-1", 2)])).again().then_nothing();
    stocked().heard(verified(ORDER, &[("TEA-1", 20)])).again().then_nothing();
}

#[test]
fn a_cancellation_that_comes_first_is_kept_and_the_late_question_refused() {
    stocked()
        .heard(cancelled(ORDER))
        .then_nothing()
        .then_state(|state| state.reservations[&ORDER.to_string()].stage == Stage::Ended)
        .heard(verified(ORDER, &[("TEA-1", 2)]))
        .then_states([ReservationRejected {
            reason: "order_cancelled".into(),
            detail: "the order was cancelled before its goods were set aside".into(),
            ..ReservationRejected::new(ORDER)
        }])
        .again()
        .then_nothing()
        .heard(cancelled(ORDER))
        .then_nothing()
        .then_state(|state| shelf(state, "TEA-1") == (10, 0, 0));
}

#[test]
fn goods_leave_with_the_parcel() {
    stocked()
        .heard(verified(ORDER, &[("TEA-1", 2), ("MUG-1", 1), ("TEA-1", 1)]))
        .heard(dispatched(ORDER))
        .then_states([ReservationCommitted {
            lines: lines(&[("MUG-1", 1), ("TEA-1", 3)]),
            ..ReservationCommitted::new(ORDER)
        }])
        .then_state(|state| shelf(state, "TEA-1") == (7, 0, 3) && shelf(state, "MUG-1") == (9, 0, 1))
        .again()
        .then_nothing();
}

#[test]
fn what_was_reserved_is_released_once() {
    stocked()
        .heard(verified(ORDER, &[("TEA-1", 3)]))
        .heard(cancelled(ORDER))
        .then_states([ReservationReleased { lines: lines(&[("TEA-1", 3)]), ..ReservationReleased::new(ORDER) }])
        .then_state(|state| shelf(state, "TEA-1") == (10, 0, 0))
        .again()
        .then_nothing()
        .heard(dispatched(ORDER))
        .then_nothing()
        .heard(verified(ORDER, &[("TEA-1", 3)]))
        .then_nothing()
        .then_state(|state| shelf(state, "TEA-1") == (10, 0, 0));
}

#[test]
fn what_left_with_a_recalled_parcel_is_available_again() {
    stocked()
        .heard(verified(ORDER, &[("TEA-1", 3)]))
        .heard(dispatched(ORDER))
        .heard(cancelled(ORDER))
        .then_states_types(["ReservationReleased"])
        .then_state(|state| shelf(state, "TEA-1") == (10, 0, 0));
}

#[test]
fn a_rejected_reservation_absorbs_everything() {
    stocked()
        .heard(verified(ORDER, &[("TEA-1", 11)]))
        .heard(dispatched(ORDER))
        .then_nothing()
        .heard(cancelled(ORDER))
        .then_nothing()
        .then_state(|state| state.reservations[&ORDER.to_string()].stage == Stage::Rejected);
}

#[test]
fn a_parcel_of_an_unknown_order_changes_nothing() {
    stocked().heard(dispatched(ORDER)).then_nothing();
}

#[test]
fn products_stock_and_orders_are_numbered_each_by_itself() {
    let story = stocked()
        .heard(listing("TEA-1", 2100))
        .heard(replenishment(3, "TEA-1", 0))
        .heard(verified(ORDER, &[("TEA-1", 1)]))
        .heard(cancelled(ORDER));
    let Stock { product_version, stock_version, .. } = story.state().stock["TEA-1"];
    assert_eq!((product_version, stock_version), (2, 2));
    assert_eq!(story.state().reservations[&ORDER.to_string()].version, 2);
    assert_eq!(story.outcome().facts[0].version, Some(2));
}
