//! The worlds that are explored, each with its bounds.
//!
//! In all of them: one customer; every deadline at any moment; every request, once, at any moment and in any order; each effect claimed
//! and answered at any moment; logs read in order of their keys and in any interleaving. What is bounded is said in each.

use crate::{
    claims::OCCURRENCES,
    outside::{Parcel, Said},
    record::Record,
    shop,
    spec::{Forgets, Spec},
    world::Left,
};

/// All that `make prove` explores.
pub fn all() -> Vec<Spec> {
    vec![
        one_order(),
        requests(),
        price_list(),
        rewind(),
        forgetful(),
        forgotten_requests(),
        parked(),
        parked_forgetful(),
        last_unit(),
        two_skus(),
    ]
}

/// The largest that an hour and this machine allow: `make prove-deep`.
pub fn deep() -> Vec<Spec> {
    vec![
        Spec {
            name: "one-order-deep",
            about: "one-order with two cancellations, and two words that the parcel is under way",
            requests: one_order().requests.into_iter().chain([shop::cancellation(0, "2")]).collect(),
            left: Left { looks: 2, ..Left::default() },
            states: 0,
            ..one_order()
        },
        Spec {
            name: "parked-deep",
            about: "parked, and one reader goes back as far as it likes, one record is published twice",
            left: Left { parks: 2, rewinds: 1, publishes: 1, ..Left::default() },
            states: 0,
            ..parked()
        },
        Spec {
            name: "last-unit-deep",
            about: "two orders of the last unit, each cancelled at any moment; more may come; everything may be refused or come back",
            requests: last_unit()
                .requests
                .into_iter()
                .chain([shop::cancellation(1, "1"), shop::replenishment("TEA", 2)])
                .collect(),
            never: &[],
            states: 0,
            ..last_unit()
        },
    ]
}

fn base() -> Spec {
    Spec {
        orders: 1,
        mails_at_most: 4,
        skus: &["TEA"],
        setup: vec![shop::registration(), shop::listing("TEA", 1999), shop::replenishment("TEA", 1)],
        requests: vec![one_tea("1"), shop::cancellation(0, "1")],
        ..Spec::default()
    }
}

fn one_tea(ce_id: &str) -> Record {
    shop::order(0, &[("TEA", 1)], ce_id)
}

/// What is seen in other worlds than one-order: in requests, in price-list, and of mails.
const ELSEWHERE: [&str; 6] =
    ["conflicting_content", "Refused/rejected", "unknown_sku", "unknown_customer", "PriceChanged", "Notification"];

/// One order, and all that can become of one while nothing is wrong with the platform.
pub fn one_order() -> Spec {
    Spec {
        name: "one-order",
        states: 860_516,
        about: "one order; its goods may be there or come; a cancellation, a deactivation, two refund retries, one word that the parcel is under way",
        setup: vec![shop::registration(), shop::listing("TEA", 1999)],
        requests: vec![
            shop::replenishment("TEA", 1),
            one_tea("1"),
            shop::cancellation(0, "1"),
            shop::deactivation(),
            shop::refund_retry(0, "1"),
            shop::refund_retry(0, "2"),
        ],
        left: Left { looks: 1, ..Left::default() },
        left_for_mails: Left { rewinds: 1, publishes: 1, ..Left::default() },
        sometimes: OCCURRENCES
            .iter()
            .copied()
            .filter(|name| !ELSEWHERE.iter().any(|elsewhere| name.contains(elsewhere)))
            .collect(),
        ..base()
    }
}

/// What clients may do to one another.
pub fn requests() -> Spec {
    Spec {
        name: "requests",
        states: 122_764,
        about: "two cancellations, other content under the order's id; one request is asked twice",
        requests: vec![
            one_tea("1"),
            shop::order(0, &[("TEA", 2)], "2"),
            shop::cancellation(0, "1"),
            shop::cancellation(0, "2"),
        ],
        left: Left { repeats: 1, ..Left::default() },
        never: &[Said::RefundRefused, Said::ParcelRefused, Said::Declined],
        nowhere: &[Parcel::Lost],
        sometimes: vec![
            "OrderDelivered",
            "OrderRequestRefused/conflicting_content",
            "OrderCancelled/requested",
            "OrderCancelled/insufficient_stock",
            "OrderCancellationRefused/unknown_order",
            "OrderCancellationRefused/cancelled",
            "OrderCancellationRefused/recall_under_way",
        ],
        ..base()
    }
}

/// An order may come before its product is on the price list.
pub fn price_list() -> Spec {
    Spec {
        name: "price-list",
        states: 783_568,
        about: "one order that may come before its customer and its product, whose price changes; a cancellation, the same content and other content",
        setup: vec![],
        requests: vec![
            shop::registration(),
            shop::listing("TEA", 1999),
            shop::listing("TEA", 2499),
            shop::replenishment("TEA", 1),
            one_tea("1"),
            one_tea("2"),
            shop::order(0, &[("TEA", 2)], "3"),
            shop::cancellation(0, "1"),
        ],
        never: &[Said::RefundRefused, Said::ParcelRefused],
        nowhere: &[Parcel::Lost],
        sometimes: vec![
            "OrderDelivered",
            "CustomerRejected/unknown_customer",
            "PriceChanged",
            "OrderRejected/unknown_sku",
            "OrderCancellationRefused/rejected",
            "OrderRequestRefused/conflicting_content",
        ],
        ..base()
    }
}

/// A service dies between its database's commit and its offset's, and the relay between the broker's answer and the row's removal.
pub fn rewind() -> Spec {
    Spec {
        name: "rewind",
        states: 2_554_266,
        about: "one order; a cancellation; one reader goes back as far as it likes; one record is published twice; one request is asked twice",
        left: Left { rewinds: 1, publishes: 1, repeats: 1, ..Left::default() },
        nowhere: &[Parcel::Lost],
        sometimes: vec!["OrderDelivered", "OrderCancelled/requested", "PaymentRefunded", "ShipmentRecalled/recalled"],
        ..base()
    }
}

/// The same, long after: the inbox has forgotten the events that come back.
pub fn forgetful() -> Spec {
    Spec {
        name: "forgetful",
        states: 2_478_089,
        about: "as rewind, and every inbox forgets every event at once",
        forgets: Forgets::Events,
        ..rewind()
    }
}

/// And it has forgotten the requests too: a repeat may be answered again, and nothing else is doubled.
pub fn forgotten_requests() -> Spec {
    Spec {
        name: "forgotten-requests",
        states: 13_715,
        about: "one order; a cancellation; one request is asked twice, and every inbox forgets requests too: a repeat may be answered again, under an id of its own type",
        forgets: Forgets::All,
        left: Left { repeats: 1, ..Left::default() },
        ..rewind()
    }
}

/// Dead letters.
pub fn parked() -> Spec {
    Spec {
        name: "parked",
        states: 358_904,
        about: "one order; its goods may be there or come; a cancellation, a deactivation; one word that the parcel is under way; two records become dead letters, with their keys held or not, and are redriven at any time or never",
        setup: vec![shop::registration(), shop::listing("TEA", 1999)],
        requests: vec![shop::replenishment("TEA", 1), one_tea("1"), shop::cancellation(0, "1"), shop::deactivation()],
        left: Left { parks: 2, looks: 1, ..Left::default() },
        nowhere: &[Parcel::Lost],
        sometimes: vec![
            "OrderDelivered",
            "OrderCancelled/requested",
            "OrderCancelled/expired",
            "PaymentRefunded",
            "ShipmentRecalled/recalled",
        ],
        ..base()
    }
}

/// Dead letters that come back when nobody remembers what was handled.
pub fn parked_forgetful() -> Spec {
    Spec {
        name: "parked-forgetful",
        states: 363_168,
        about: "one order; a cancellation; one dead letter, one reader goes back as far as it likes, and every inbox forgets every event at once",
        left: Left { parks: 1, rewinds: 1, ..Left::default() },
        forgets: Forgets::Events,
        requests: base().requests,
        setup: base().setup,
        ..parked()
    }
}

/// Two orders and one unit.
pub fn last_unit() -> Spec {
    Spec {
        name: "last-unit",
        states: 1_985_744,
        about: "two orders of the last unit of one SKU; a cancellation of the first; refunds and parcels are accepted",
        orders: 2,
        // Two orders of three mails each are the product of what one is: what they share, the address, shows with fewer.
        mails_at_most: 3,
        requests: vec![one_tea("1"), shop::order(1, &[("TEA", 1)], "1"), shop::cancellation(0, "1")],
        never: &[Said::RefundRefused, Said::ParcelRefused],
        nowhere: &[Parcel::Lost],
        sometimes: vec!["OrderDelivered", "OrderCancelled/insufficient_stock", "ReservationReleased"],
        ..base()
    }
}

/// Two SKUs of which one is short, and one of them on two lines.
pub fn two_skus() -> Spec {
    Spec {
        name: "two-skus",
        states: 4_998,
        about: "one order of two SKUs, one of them on two lines and short until more comes; a cancellation",
        skus: &["TEA", "MUG"],
        setup: vec![
            shop::registration(),
            shop::listing("TEA", 1999),
            shop::listing("MUG", 500),
            shop::replenishment("TEA", 1),
            shop::replenishment("MUG", 1),
        ],
        requests: vec![
            shop::order(0, &[("TEA", 1), ("TEA", 1), ("MUG", 1)], "1"),
            shop::replenishment("TEA", 2),
            shop::cancellation(0, "1"),
        ],
        nowhere: &[Parcel::Lost],
        sometimes: vec![
            "OrderDelivered",
            "OrderCancelled/insufficient_stock",
            "ReservationReleased",
            "ReservationCommitted",
        ],
        ..base()
    }
}
