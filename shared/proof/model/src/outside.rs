//! The world outside: the payment provider, the carrier and the mail server, as far as services can notice.
//!
//! The provider and the mail server remember each idempotency key with what came of it, and say the same again. The carrier's parcels
//! move by themselves: delivered, brought back or lost at any moment once they are with the carrier.

use std::collections::{BTreeMap, btree_map::Entry};

use uuid::Uuid;

use crate::database::Effect;

/// What the outside says of an effect, or a person in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Said {
    Captured,
    Declined,
    Refunded,
    RefundRefused,
    Accepted,
    ParcelRefused,
    UnderWay,
    Delivered,
    Returned,
    Sent,
    MailRefused,
}

/// Where a parcel truly is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Parcel {
    #[default]
    None,
    WithCarrier,
    Lost,
    WithCustomer,
    Back,
}

/// What the outside remembers of an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kept {
    /// The order.
    pub order: String,
    /// The effect's name within the order.
    pub name: String,
    /// What came of it.
    pub said: Said,
}

/// What is true outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Outside {
    /// What came of each idempotency key.
    pub kept: BTreeMap<Uuid, Kept>,
    /// Each order's parcel.
    pub parcels: BTreeMap<String, Parcel>,
}

impl Outside {
    /// How often this came of an order's keys.
    pub fn count(&self, order: &str, said: Said) -> usize {
        self.kept.values().filter(|kept| kept.order == order && kept.said == said).count()
    }

    /// Where an order's parcel is.
    pub fn parcel(&self, order: &str) -> Parcel {
        self.parcels.get(order).copied().unwrap_or_default()
    }

    /// The outside performs an effect, of which it chooses `said` if its key is new to it.
    pub fn perform(&mut self, effect: &Effect, said: Said) {
        let Effect { id, key: order, name, .. } = effect;
        if let Entry::Vacant(new) = self.kept.entry(*id) {
            new.insert(Kept { order: order.clone(), name: name.clone(), said });
            if said == Said::Accepted {
                self.parcels.insert(order.to_owned(), Parcel::WithCarrier);
            }
        }
    }
}

/// Among what the outside may choose when it first performs an effect of this kind; empty where it only looks at the parcel.
pub fn choices(kind: &str) -> &'static [Said] {
    match kind {
        "charge" => &[Said::Captured, Said::Declined],
        "refund" => &[Said::Refunded, Said::RefundRefused],
        "hand_over" => &[Said::Accepted, Said::ParcelRefused],
        "mail" => &[Said::Sent, Said::MailRefused],
        _ => &[],
    }
}

impl Said {
    /// As a service's outcome in JSON, which is how a person would write it. `effect` is the effect's JSON.
    pub fn outcome(self, effect: &serde_json::Value) -> serde_json::Value {
        use serde_json::json;
        match self {
            Self::Captured => json!({"outcome": "captured", "charge_id": "ch"}),
            Self::Declined => json!({"outcome": "declined", "reason": "card_declined"}),
            Self::Refunded => json!({"outcome": "refunded", "refund_id": "re"}),
            Self::RefundRefused => json!({"outcome": "refused", "reason": "account_closed"}),
            Self::Accepted => json!({"outcome": "accepted", "tracking_id": "parcel"}),
            Self::ParcelRefused => json!({"outcome": "refused", "reason": "carrier_refused"}),
            Self::UnderWay => json!({"outcome": "under_way"}),
            Self::Delivered => json!({"outcome": "delivered"}),
            Self::Returned => json!({"outcome": "returned"}),
            Self::Sent => json!({"outcome": "sent", "about": effect["about"]}),
            Self::MailRefused => json!({"outcome": "failed", "about": effect["about"], "reason": "refused"}),
        }
    }
}
