//! The payment service's part in the choreography: what comes of what, and what it asks of the provider.

use quadrille_core::{
    Declaration, Policy, Record, Records,
    declaration::{Answer, Compensation, Effect, End, Reaction, Wait},
};
use quadrille_events::{
    order::OrderCancelled,
    payment::{
        PaymentCaptured, PaymentDeclined, PaymentRefunded, PaymentRequestRefused, RefundFailed, RefundRetryRequested,
    },
    reservation::StockReserved,
};

use crate::{CAPTURED, CHARGE, DECLINED, Heard, Payment, REFUND, REFUNDED, REFUSED, Stated};

/// What `quadrille check` holds against the other services, and the policy's tests against the policy.
pub const CHOREOGRAPHY: Declaration = Declaration {
    file: file!(),
    reactions: &[
        Reaction::heard(StockReserved::TYPE)
            .states(&[PaymentDeclined::TYPE])
            .wants(&[CHARGE])
            .until("Charging, and all that comes after"),
        Reaction::heard(OrderCancelled::TYPE)
            .states(&[PaymentDeclined::TYPE])
            .wants(&[REFUND])
            .until("Ended, Declined, Refunding, Refunded, RefundFailed"),
        // A refund that failed is asked for again as often as a person wishes.
        Reaction::heard(RefundRetryRequested::TYPE).states(&[PaymentRequestRefused::TYPE]).wants(&[REFUND]),
        // Captured in spite of a cancellation: it goes back at once.
        Reaction::outcome(CAPTURED)
            .states(&[PaymentCaptured::TYPE])
            .wants(&[REFUND])
            .until("Captured, and all that comes after"),
        Reaction::outcome(DECLINED).states(&[PaymentDeclined::TYPE]).until("Declined"),
        Reaction::outcome(REFUNDED).states(&[PaymentRefunded::TYPE]).until("Refunded"),
        Reaction::outcome(REFUSED).states(&[RefundFailed::TYPE]).until("RefundFailed"),
    ],
    answers: &[
        Answer { question: StockReserved::TYPE, facts: &[PaymentCaptured::TYPE, PaymentDeclined::TYPE] },
        Answer {
            question: RefundRetryRequested::TYPE,
            facts: &[PaymentRefunded::TYPE, RefundFailed::TYPE, PaymentRequestRefused::TYPE],
        },
    ],
    compensations: &[Compensation {
        fact: PaymentCaptured::TYPE,
        on: &[OrderCancelled::TYPE],
        by: &[PaymentRefunded::TYPE],
        refused: Some((RefundFailed::TYPE, RefundRetryRequested::TYPE)),
    }],
    waits: &[Wait {
        state: "RefundFailed",
        questions: &[],
        end: End::person("sees RefundFailed, clears it with the provider, and sends RefundRetryRequested"),
    }],
    effects: &[
        Effect {
            kind: CHARGE,
            outcomes: &[CAPTURED, DECLINED],
            examples: &[
                r#"{"outcome":"captured","charge_id":"<its id at the provider>"}"#,
                r#"{"outcome":"declined","reason":"card_declined"}"#,
            ],
            end: End::PARKED,
        },
        Effect {
            kind: REFUND,
            outcomes: &[REFUNDED, REFUSED],
            examples: &[
                r#"{"outcome":"refunded","refund_id":"re_1"}"#,
                r#"{"outcome":"refused","reason":"account_closed"}"#,
            ],
            end: End::PARKED,
        },
    ],
    // What gives the money back.
    alarms: &[OrderCancelled::TYPE],
    public: &[RefundFailed::TYPE, PaymentRequestRefused::TYPE],
    saga_topics: &["payment.requests", "payment.events"],
    outside_ids: &["charge_id", "refund_id"],
    ..Declaration::new(Payment::SERVICE, Heard::TYPES, Stated::TYPES)
};
