//! The notification service: writes a mail to the customer when an order is confirmed, shipped or cancelled and when money goes back.
//!
//! Addresses are folded from the users' events. A mail whose address is not known yet waits an hour for it; the mails of one order go
//! one after another. Nothing hangs on a mail, so one that is refused or cannot be delivered is stated as failed.

pub mod choreography;
pub mod letters;
#[cfg(feature = "service")]
pub mod outside;
pub mod policy;
#[cfg(feature = "service")]
mod smtp;
#[cfg(feature = "service")]
pub mod store;

use quadrille_core::{Named, kinds, names, records};
use quadrille_events::{
    Uuid,
    notification::{NotificationFailed, NotificationSent},
    order::{OrderCancelled, OrderConfirmed, OrderShipped},
    payment::PaymentRefunded,
    user::{UserProfileUpdated, UserRegistered},
};
use serde::{Deserialize, Serialize};

pub use policy::{Notification, State};

records! {
    /// What it hears.
    pub enum Heard {
        // order.events, payment.events
        OrderConfirmed, OrderShipped, OrderCancelled, PaymentRefunded,
        // user.events. Not UserDeactivated: what was ordered before is still told of.
        UserRegistered, UserProfileUpdated,
    }
}

records! {
    /// What it states, on notification.events.
    pub enum Stated {
        NotificationSent, NotificationFailed,
    }
}

/// What a mail is about. At most one of each per order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// The order is paid for.
    OrderConfirmed,
    /// Its parcel is with the carrier.
    OrderShipped,
    /// It is cancelled.
    OrderCancelled,
    /// Its money is on its way back.
    PaymentRefunded,
}

names!(About {
    OrderConfirmed = "order_confirmed",
    OrderShipped = "order_shipped",
    OrderCancelled = "order_cancelled",
    PaymentRefunded = "payment_refunded",
});

/// The name of every [`Mail`]'s kind.
pub const MAIL: &str = "mail";

/// What the mail server is asked to do: send this mail.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mail {
    /// The order.
    pub order_id: Uuid,
    /// What the mail is about.
    pub about: About,
    /// The address, as the user gave it.
    pub to: String,
    /// The user's name; may be empty.
    pub name: String,
    /// The subject.
    pub subject: String,
    /// The text.
    pub text: String,
}

impl Named for Mail {
    fn kind(&self) -> &'static str {
        MAIL
    }

    /// One address that becomes known may let the mails of several orders go.
    fn name(&self) -> String {
        format!("mail/{}/{}", self.about.name(), self.order_id)
    }
}

/// A mail's Message-ID: the effect's id, so that it is the same at every try.
pub fn message_id(effect: Uuid) -> String {
    format!("<{effect}@mail.quadrille.example>")
}

/// What became of a mail.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// The mail server took it.
    Sent {
        /// What the mail is about.
        about: About,
    },
    /// It was given up.
    Failed {
        /// What the mail is about.
        about: About,
        /// Why: `refused`, `undelivered`, `bad_address`, `unsupported_address`.
        reason: String,
        /// The reason as a sentence.
        #[serde(default)]
        detail: String,
    },
}

kinds!(Outcome { Sent: SENT = "sent", Failed: FAILED = "failed" });

/// The kind of [`Timer::GiveUp`].
pub const GIVE_UP: &str = "give_up";

/// What the clock may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "timer", rename_all = "snake_case")]
pub enum Timer {
    /// The address has not become known in time.
    GiveUp {
        /// Whose address.
        customer_id: Uuid,
        /// What the mail is about.
        about: About,
    },
}

impl Named for Timer {
    fn kind(&self) -> &'static str {
        GIVE_UP
    }

    fn name(&self) -> String {
        let Self::GiveUp { about, .. } = self;
        give_up(*about)
    }
}

/// The name of [`Timer::GiveUp`].
pub fn give_up(about: About) -> String {
    format!("{GIVE_UP}/{}", about.name())
}
