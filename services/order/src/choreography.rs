//! The order service's part in the choreography: what comes of what, what it asks, and how long it waits.

use quadrille_core::{
    Declaration, Policy, Record, Records,
    declaration::{Answer, Compensation, End, Reaction, Wait},
};
use quadrille_events::{
    order::{
        OrderCancellationRefused, OrderCancellationRequested, OrderCancelled, OrderConfirmed, OrderCreated,
        OrderDelivered, OrderRecallRequested, OrderRejected, OrderRequestRefused, OrderRequested, OrderShipped,
    },
    payment::{PaymentCaptured, PaymentDeclined},
    product::{PriceChanged, ProductListed},
    reservation::{ReservationRejected, StockReserved},
    shipment::{ShipmentAborted, ShipmentDelivered, ShipmentDispatched, ShipmentRecalled},
    verification::{CustomerRejected, CustomerVerified},
};

use crate::{
    CONFIRM_BY, END_BY, Heard, Orders, Stated,
    policy::{CONFIRM_WITHIN, END_WITHIN},
};

/// The states that absorb what ends an order that is not confirmed.
const NOT_PENDING: &str = "Confirmed, Shipped, Recalling, Delivered, Cancelled";
/// The states that absorb everything.
const ENDED: &str = "Delivered, Cancelled";

/// What `quadrille check` holds against the other services, and the policy's tests against the policy.
pub const CHOREOGRAPHY: Declaration = Declaration {
    file: file!(),
    reactions: &[
        Reaction::heard(OrderRequested::TYPE)
            .states(&[OrderCreated::TYPE, OrderRejected::TYPE, OrderRequestRefused::TYPE])
            .sets(&[CONFIRM_BY]),
        Reaction::heard(OrderCancellationRequested::TYPE).states(&[
            OrderCancelled::TYPE,
            OrderRecallRequested::TYPE,
            OrderCancellationRefused::TYPE,
        ]),
        // Its own price list.
        Reaction::heard(ProductListed::TYPE),
        Reaction::heard(PriceChanged::TYPE),
        Reaction::timer(CONFIRM_BY).states(&[OrderCancelled::TYPE]).until(NOT_PENDING),
        Reaction::heard(CustomerRejected::TYPE).states(&[OrderCancelled::TYPE]).until(NOT_PENDING),
        Reaction::heard(ReservationRejected::TYPE).states(&[OrderCancelled::TYPE]).until(NOT_PENDING),
        Reaction::heard(PaymentDeclined::TYPE).states(&[OrderCancelled::TYPE]).until(NOT_PENDING),
        Reaction::heard(PaymentCaptured::TYPE).states(&[OrderConfirmed::TYPE]).sets(&[END_BY]).until(NOT_PENDING),
        Reaction::timer(END_BY).states(&[OrderRecallRequested::TYPE]).until("Recalling, Delivered, Cancelled"),
        Reaction::heard(ShipmentDispatched::TYPE).states(&[OrderShipped::TYPE]).until("Shipped, Delivered, Cancelled"),
        Reaction::heard(ShipmentAborted::TYPE).states(&[OrderCancelled::TYPE]).until(ENDED),
        Reaction::heard(ShipmentRecalled::TYPE).states(&[OrderCancelled::TYPE]).until(ENDED),
        // With a notice to whoever had asked for a cancellation that came too late.
        Reaction::heard(ShipmentDelivered::TYPE)
            .states(&[OrderDelivered::TYPE, OrderCancellationRefused::TYPE])
            .until(ENDED),
    ],
    asks: &[OrderCreated::TYPE, OrderConfirmed::TYPE],
    answers: &[
        Answer {
            question: OrderRequested::TYPE,
            facts: &[OrderCreated::TYPE, OrderRejected::TYPE, OrderRequestRefused::TYPE],
        },
        Answer {
            question: OrderCancellationRequested::TYPE,
            facts: &[OrderCancelled::TYPE, OrderRecallRequested::TYPE, OrderCancellationRefused::TYPE],
        },
    ],
    compensations: &[Compensation {
        fact: OrderCreated::TYPE,
        on: &[
            CustomerRejected::TYPE,
            ReservationRejected::TYPE,
            PaymentDeclined::TYPE,
            ShipmentAborted::TYPE,
            ShipmentRecalled::TYPE,
        ],
        by: &[OrderCancelled::TYPE],
        refused: None,
    }],
    waits: &[
        Wait {
            state: "Pending",
            questions: &[OrderCreated::TYPE, CustomerVerified::TYPE, StockReserved::TYPE],
            end: End::deadline(CONFIRM_BY, CONFIRM_WITHIN),
        },
        Wait {
            state: "Confirmed, Shipped",
            questions: &[OrderConfirmed::TYPE],
            end: End::deadline(END_BY, END_WITHIN),
        },
        Wait {
            state: "Recalling",
            questions: &[OrderConfirmed::TYPE],
            end: End::person("sees shipping's effect parked, and answers it (`quadrille effects answer`)"),
        },
    ],
    // Shipping's last word: no deadline comes after it.
    alarms: &[ShipmentDelivered::TYPE, ShipmentAborted::TYPE, ShipmentRecalled::TYPE],
    public: &[OrderRejected::TYPE, OrderRequestRefused::TYPE, OrderDelivered::TYPE, OrderCancellationRefused::TYPE],
    saga_topics: &["order.requests", "order.events"],
    ..Declaration::new(Orders::SERVICE, Heard::TYPES, Stated::TYPES)
};
