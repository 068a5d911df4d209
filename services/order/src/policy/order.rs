//! An order: what was stated about it, folded.

use quadrille_core::Timestamp;
use quadrille_events::order::OrderDetails;
use uuid::Uuid;

use crate::Stated;

/// An order as its facts tell it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Order {
    /// The version of the last fact on `order.events`, which is the length of the order's stream.
    pub version: i64,
    /// What the order is.
    pub status: Status,
}

/// What an order is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::large_enum_variant, reason = "nearly all orders are accepted ones")]
pub enum Status {
    /// It was never asked for; all that may have been stated is refusals.
    #[default]
    Unknown,
    /// It never came to be, and never will.
    Rejected {
        /// The request's digest, to tell its repeats from other content.
        request_digest: String,
    },
    /// It has a saga.
    Accepted(Accepted),
}

/// An accepted order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Accepted {
    /// Its id.
    pub order_id: Uuid,
    /// The request's digest, to tell its repeats from other content.
    pub request_digest: String,
    /// The baton.
    pub details: OrderDetails,
    /// Cancelled if not confirmed by then.
    pub confirm_by: Timestamp,
    /// The shortened time to end, if one was asked for.
    pub end_within_ms: Option<i64>,
    /// Recalled if not ended by then; known once it is confirmed.
    pub end_by: Option<Timestamp>,
    /// How far it has come.
    pub stage: Stage,
}

/// An accepted order's stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Not paid for yet.
    Pending,
    /// Paid for; a parcel may be on its way.
    Confirmed,
    /// The carrier has the parcel.
    Shipped,
    /// Shipping was asked to bring it back; shipping's last word ends it.
    Recalling {
        /// Whether a client asked, rather than a deadline.
        asked: bool,
        /// Whether the carrier has the parcel.
        shipped: bool,
    },
    /// The good end.
    Delivered,
    /// The other end.
    Cancelled,
}

impl Order {
    /// An order of which nothing was heard.
    pub const fn unknown() -> Self {
        Self { version: 0, status: Status::Unknown }
    }

    /// The digest of the request that made this order what it is; none while the id is free.
    pub fn request_digest(&self) -> Option<&str> {
        match &self.status {
            Status::Unknown => None,
            Status::Rejected { request_digest } => Some(request_digest),
            Status::Accepted(accepted) => Some(&accepted.request_digest),
        }
    }

    /// Folds a whole stream, from its first fact on: what the order's row must be.
    pub fn fold<'a>(facts: impl IntoIterator<Item = &'a Stated>) -> Self {
        let mut order = Self::default();
        for fact in facts {
            order.apply(fact);
            order.version += 1;
        }
        order
    }

    /// Folds one fact. The version is its caller's: [`process`](quadrille_core::process) counts it.
    pub fn apply(&mut self, fact: &Stated) {
        match (&mut self.status, fact) {
            (status, Stated::OrderCreated(created)) => {
                *status = Status::Accepted(Accepted {
                    order_id: created.order_id,
                    request_digest: created.request_digest.clone(),
                    details: created.details.clone(),
                    confirm_by: created.confirm_by,
                    end_within_ms: created.end_within_ms,
                    end_by: None,
                    stage: Stage::Pending,
                });
            }
            (status, Stated::OrderRejected(rejected)) => {
                *status = Status::Rejected { request_digest: rejected.request_digest.clone() };
            }
            (Status::Accepted(order), Stated::OrderConfirmed(confirmed)) => {
                order.end_by = Some(confirmed.end_by);
                order.stage = Stage::Confirmed;
            }
            (Status::Accepted(order), Stated::OrderShipped(_)) => {
                order.stage = match order.stage {
                    Stage::Recalling { asked, .. } => Stage::Recalling { asked, shipped: true },
                    _ => Stage::Shipped,
                };
            }
            (Status::Accepted(order), Stated::OrderRecallRequested(recall)) => {
                order.stage =
                    Stage::Recalling { asked: recall.reason == "requested", shipped: order.stage == Stage::Shipped };
            }
            (Status::Accepted(order), Stated::OrderDelivered(_)) => order.stage = Stage::Delivered,
            (Status::Accepted(order), Stated::OrderCancelled(_)) => order.stage = Stage::Cancelled,
            // Refusals change nothing; what follows only from acceptance cannot come before it.
            (
                _,
                Stated::OrderRequestRefused(_)
                | Stated::OrderCancellationRefused(_)
                | Stated::OrderConfirmed(_)
                | Stated::OrderShipped(_)
                | Stated::OrderRecallRequested(_)
                | Stated::OrderDelivered(_)
                | Stated::OrderCancelled(_),
            ) => {}
        }
    }
}
