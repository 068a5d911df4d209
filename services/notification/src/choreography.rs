//! The notification service's part in the choreography: what comes of what, and what it asks of the mail server.

use chrono::TimeDelta;
use quadrille_core::{
    Declaration, Policy, Record, Records,
    declaration::{Effect, End, Reaction, Wait},
};
use quadrille_events::{
    notification::{NotificationFailed, NotificationSent},
    order::{OrderCancelled, OrderConfirmed, OrderShipped},
    payment::PaymentRefunded,
    user::{UserProfileUpdated, UserRegistered},
};

use crate::{FAILED, GIVE_UP, Heard, MAIL, Notification, SENT, Stated, policy::ADDRESS_WITHIN};

/// For how long a mail is tried again; nothing hangs on it.
pub const GIVE_UP_AFTER: TimeDelta = TimeDelta::hours(24);

/// At most one mail of each kind an order.
const TOLD: &str = "waiting, sending, sent, failed";

/// What `quadrille check` holds against the other services, and the policy's tests against the policy.
pub const CHOREOGRAPHY: Declaration = Declaration {
    file: file!(),
    reactions: &[
        Reaction::heard(OrderConfirmed::TYPE)
            .states(&[NotificationFailed::TYPE])
            .wants(&[MAIL])
            .sets(&[GIVE_UP])
            .until(TOLD),
        Reaction::heard(OrderShipped::TYPE)
            .states(&[NotificationFailed::TYPE])
            .wants(&[MAIL])
            .sets(&[GIVE_UP])
            .until(TOLD),
        Reaction::heard(OrderCancelled::TYPE)
            .states(&[NotificationFailed::TYPE])
            .wants(&[MAIL])
            .sets(&[GIVE_UP])
            .until(TOLD),
        Reaction::heard(PaymentRefunded::TYPE)
            .states(&[NotificationFailed::TYPE])
            .wants(&[MAIL])
            .sets(&[GIVE_UP])
            .until(TOLD),
        // An address that becomes known: what waits for it goes.
        Reaction::heard(UserRegistered::TYPE).wants(&[MAIL]).until("nothing waits for the address"),
        Reaction::heard(UserProfileUpdated::TYPE).wants(&[MAIL]).until("nothing waits for the address"),
        Reaction::timer(GIVE_UP).states(&[NotificationFailed::TYPE]).until("sending, sent, failed"),
        Reaction::outcome(SENT).states(&[NotificationSent::TYPE]).until("sent, failed"),
        Reaction::outcome(FAILED).states(&[NotificationFailed::TYPE]).until("sent, failed"),
    ],
    waits: &[Wait { state: "waiting for an address", questions: &[], end: End::deadline(GIVE_UP, ADDRESS_WITHIN) }],
    effects: &[Effect {
        kind: MAIL,
        outcomes: &[SENT, FAILED],
        examples: &[
            r#"{"outcome":"sent","about":"order_shipped"}"#,
            r#"{"outcome":"failed","about":"order_shipped","reason":"undelivered"}"#,
        ],
        end: End::deadline("given up", GIVE_UP_AFTER),
    }],
    public: &[NotificationSent::TYPE, NotificationFailed::TYPE],
    saga_topics: &["notification.events"],
    outside_ids: &["message_id"],
    ..Declaration::new(Notification::SERVICE, Heard::TYPES, Stated::TYPES)
};
