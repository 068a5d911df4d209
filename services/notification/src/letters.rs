//! What mails say. Pure text: whatever a user or a provider wrote stands in it as text, on one line.

use std::fmt::Write;

use quadrille_core::bounds::{fitted, is_blank};
use quadrille_events::{
    Uuid,
    order::{OrderCancelled, OrderConfirmed, OrderShipped},
    payment::PaymentRefunded,
};
use serde::{Deserialize, Serialize};

use crate::{About, Mail};

/// A mail before it is addressed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Letter {
    /// The subject.
    pub subject: String,
    /// The text, without greeting.
    pub text: String,
}

impl Letter {
    fn new(subject: &str, text: String) -> Self {
        Self { subject: subject.to_owned(), text }
    }

    /// The letter as a mail to this person.
    pub fn to(&self, order_id: Uuid, about: About, address: &str, name: &str) -> Mail {
        let name = fitted(name.trim());
        let greeting = if is_blank(&name) { "Hello".to_owned() } else { format!("Dear {name}") };
        Mail {
            order_id,
            about,
            to: address.to_owned(),
            subject: self.subject.clone(),
            text: format!("{greeting},\n\n{}\n\nYour shop\n", self.text),
            name,
        }
    }
}

/// OrderConfirmed as a letter.
pub fn confirmed(order: &OrderConfirmed) -> Letter {
    let details = &order.details;
    let mut text = format!("your order {} is confirmed and paid for.\n\n", order.order_id);
    for line in &details.lines {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {} x {} at {}", line.quantity, fitted(&line.sku), line.unit_price);
    }
    let _ = write!(text, "\nTotal: {} {}", details.total, fitted(&details.currency));
    Letter::new("Your order is confirmed", text)
}

/// OrderShipped as a letter.
pub fn shipped(order: &OrderShipped) -> Letter {
    let text = format!(
        "the parcel of your order {} is with the carrier.\n\nTracking number: {}",
        order.order_id,
        fitted(&order.tracking_id)
    );
    Letter::new("Your parcel is on its way", text)
}

/// OrderCancelled as a letter.
pub fn cancelled(order: &OrderCancelled) -> Letter {
    let why = if order.detail.is_empty() { order.reason.replace('_', " ") } else { order.detail.clone() };
    let text = format!(
        "your order {} over {} {} is cancelled.\n\nReason: {}\n\nWhatever was charged for it goes back to you.",
        order.order_id,
        order.total,
        fitted(&order.currency),
        fitted(&why)
    );
    Letter::new("Your order is cancelled", text)
}

/// PaymentRefunded as a letter.
pub fn refunded(payment: &PaymentRefunded) -> Letter {
    let text = format!(
        "{} {} for your order {} are on their way back to you.\n\nRefund: {}",
        payment.amount,
        fitted(&payment.currency),
        payment.order_id,
        fitted(&payment.refund_id)
    );
    Letter::new("Your money is on its way back", text)
}
