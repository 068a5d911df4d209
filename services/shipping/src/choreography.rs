//! The shipping service's part in the choreography: what comes of what, and what it asks of the carrier.

use quadrille_core::{
    Declaration, Policy, Record, Records,
    declaration::{Answer, Compensation, Effect, End, Reaction},
};
use quadrille_events::{
    order::{OrderConfirmed, OrderRecallRequested},
    shipment::{ShipmentAborted, ShipmentDelivered, ShipmentDispatched, ShipmentRecalled},
};

use crate::{
    ACCEPTED, ASK_AGAIN, DELIVERED, HAND_OVER, Heard, RECALL, REFUSED, RETURNED, Shipping, Stated, TRACK, UNDER_WAY,
};

/// The states that absorb all that the carrier says.
const ENDED: &str = "Aborted, Delivered, Recalled";

/// What `quadrille check` holds against the other services, and the policy's tests against the policy.
pub const CHOREOGRAPHY: Declaration = Declaration {
    file: file!(),
    reactions: &[
        Reaction::heard(OrderConfirmed::TYPE).wants(&[HAND_OVER]).until("Handing, and all that comes after"),
        Reaction::heard(OrderRecallRequested::TYPE)
            .states(&[ShipmentAborted::TYPE])
            .wants(&[RECALL])
            .until("Recalling, Aborted, Delivered, Recalled"),
        // Handed over in spite of a recall: it is called back at once.
        Reaction::outcome(ACCEPTED)
            .states(&[ShipmentDispatched::TYPE])
            .wants(&[TRACK, RECALL])
            .until("Dispatched, and all that comes after"),
        Reaction::outcome(REFUSED).states(&[ShipmentAborted::TYPE]).until("Aborted"),
        Reaction::outcome(UNDER_WAY).sets(&[ASK_AGAIN]).until(ENDED),
        Reaction::timer(ASK_AGAIN).wants(&[TRACK]).until(ENDED),
        Reaction::outcome(DELIVERED).states(&[ShipmentDelivered::TYPE]).until(ENDED),
        Reaction::outcome(RETURNED).states(&[ShipmentRecalled::TYPE]).until(ENDED),
    ],
    answers: &[Answer {
        question: OrderConfirmed::TYPE,
        facts: &[ShipmentDelivered::TYPE, ShipmentAborted::TYPE, ShipmentRecalled::TYPE],
    }],
    // It may come too late: then ShipmentDelivered is the last word.
    compensations: &[Compensation {
        fact: ShipmentDispatched::TYPE,
        on: &[OrderRecallRequested::TYPE],
        by: &[ShipmentRecalled::TYPE],
        refused: None,
    }],
    effects: &[
        Effect {
            kind: HAND_OVER,
            outcomes: &[ACCEPTED, REFUSED],
            examples: &[
                r#"{"outcome":"accepted","tracking_id":"tr_1"}"#,
                r#"{"outcome":"refused","reason":"no_service"}"#,
            ],
            end: End::PARKED,
        },
        Effect {
            kind: TRACK,
            outcomes: &[UNDER_WAY, DELIVERED, RETURNED],
            examples: &[r#"{"outcome":"delivered"}"#, r#"{"outcome":"returned"}"#],
            end: End::PARKED,
        },
        Effect {
            kind: RECALL,
            outcomes: &[UNDER_WAY, DELIVERED, RETURNED],
            examples: &[r#"{"outcome":"returned"}"#, r#"{"outcome":"delivered"}"#],
            end: End::PARKED,
        },
    ],
    // The order's last deadline: nobody answers in its place.
    alarms: &[OrderRecallRequested::TYPE],
    saga_topics: &["shipment.events"],
    outside_ids: &["tracking_id"],
    ..Declaration::new(Shipping::SERVICE, Heard::TYPES, Stated::TYPES)
};
