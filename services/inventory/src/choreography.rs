//! The inventory service's part in the choreography: what comes of what, and what it lets go of.

use quadrille_core::{
    Declaration, Policy, Record, Records,
    declaration::{Answer, Compensation, Reaction},
};
use quadrille_events::{
    order::OrderCancelled,
    product::{PriceChanged, ProductListed, ProductListingRequested},
    reservation::{ReservationCommitted, ReservationRejected, ReservationReleased, StockReserved},
    shipment::ShipmentDispatched,
    stock::{StockReplenished, StockReplenishmentRequested, StockRequestRefused},
    verification::CustomerVerified,
};

use crate::{Heard, Inventory, Stated};

/// What `quadrille check` holds against the other services, and the policy's tests against the policy.
pub const CHOREOGRAPHY: Declaration = Declaration {
    file: file!(),
    reactions: &[
        Reaction::heard(ProductListingRequested::TYPE).states(&[
            ProductListed::TYPE,
            PriceChanged::TYPE,
            StockRequestRefused::TYPE,
        ]),
        Reaction::heard(StockReplenishmentRequested::TYPE).states(&[StockReplenished::TYPE, StockRequestRefused::TYPE]),
        Reaction::heard(CustomerVerified::TYPE)
            .states(&[StockReserved::TYPE, ReservationRejected::TYPE])
            .until("Reserved, Rejected, Committed, Released"),
        Reaction::heard(ShipmentDispatched::TYPE).states(&[ReservationCommitted::TYPE]).until("Committed, Released"),
        Reaction::heard(OrderCancelled::TYPE).states(&[ReservationReleased::TYPE]).until("Ended, Rejected, Released"),
    ],
    asks: &[StockReserved::TYPE],
    answers: &[
        Answer {
            question: ProductListingRequested::TYPE,
            facts: &[ProductListed::TYPE, PriceChanged::TYPE, StockRequestRefused::TYPE],
        },
        Answer {
            question: StockReplenishmentRequested::TYPE,
            facts: &[StockReplenished::TYPE, StockRequestRefused::TYPE],
        },
        Answer { question: CustomerVerified::TYPE, facts: &[StockReserved::TYPE, ReservationRejected::TYPE] },
    ],
    compensations: &[Compensation {
        fact: StockReserved::TYPE,
        on: &[OrderCancelled::TYPE],
        by: &[ReservationReleased::TYPE],
        refused: None,
    }],
    // What lets go of the goods.
    alarms: &[OrderCancelled::TYPE],
    public: &[StockReplenished::TYPE, StockRequestRefused::TYPE, ReservationCommitted::TYPE, ReservationReleased::TYPE],
    saga_topics: &["reservation.events"],
    ..Declaration::new(Inventory::SERVICE, Heard::TYPES, Stated::TYPES)
};
