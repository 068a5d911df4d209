//! What payment decides: the contract's reaction table, row by row.

use std::collections::BTreeMap;

use quadrille_core::{
    Decision, Declaration, Envelope, Input, Moment, Nothing, Policy, Records, Row, bounds, names, rows,
};
use quadrille_events::{
    Money, Uuid,
    payment::{PaymentCaptured, PaymentDeclined, PaymentRefunded, PaymentRequestRefused, RefundRetryRequested},
};

use crate::{CHARGE, Effect, Heard, Outcome, Stated, choreography::CHOREOGRAPHY};

/// The payment service's policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Payment;

/// What is known of orders' money; the key is the order's id.
pub const PAYMENT: &str = "payment";

/// The rows that inputs touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// See [`PAYMENT`].
    pub accounts: BTreeMap<String, Account>,
}

rows! { State { accounts: PAYMENT } }

/// What is known of an order's money.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Account {
    /// `ce_aggregateversion` of the order's last fact on `payment.events`.
    pub version: i64,
    /// How far it has come.
    pub status: Status,
    /// What is to be paid; in its empty form until a charge was wanted.
    pub bill: Bill,
    /// The provider's name for the charge; empty until it was captured.
    pub charge_id: String,
    /// How many refunds were wanted, each under an idempotency key of its own.
    pub refunds: i32,
}

/// What an order costs, and whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bill {
    /// The user who ordered.
    pub customer_id: Uuid,
    /// How much.
    pub amount: Money,
    /// Of what.
    pub currency: String,
    /// The provider's token for the card.
    pub token: String,
}

/// How far an order's payment has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Nothing was heard of the order yet.
    #[default]
    New,
    /// The order was cancelled before its goods were set aside: kept, to answer the late question with a refusal.
    Ended,
    /// The provider is being asked for the money.
    Charging,
    /// The same, and the order was cancelled meanwhile: what is captured goes back at once.
    ChargingCancelled,
    /// The money is here.
    Captured,
    /// Nothing was taken, and nothing will be.
    Declined,
    /// The provider is being asked to give the money back.
    Refunding,
    /// The money is on its way back.
    Refunded,
    /// The provider refused to give it back: a person sees to it.
    RefundFailed,
}

names!(Status {
    New = "new",
    Ended = "ended",
    Charging = "charging",
    ChargingCancelled = "charging_cancelled",
    Captured = "captured",
    Declined = "declined",
    Refunding = "refunding",
    Refunded = "refunded",
    RefundFailed = "refund_failed",
});

impl Policy for Payment {
    const SERVICE: &'static str = "payment";
    const TABLES: &'static [&'static str] = &[PAYMENT];
    const CHOREOGRAPHY: Declaration = CHOREOGRAPHY;
    type Heard = Heard;
    type Stated = Stated;
    type Effect = Effect;
    type Outcome = Outcome;
    type Timer = Nothing;
    type Command = Nothing;
    type State = State;

    fn rows(_: &State, input: &Envelope<Self>) -> Vec<Row> {
        vec![Row::new(PAYMENT, &input.key)]
    }

    fn react(state: &State, moment: &Moment, input: &Envelope<Self>) -> Decision<Self> {
        use Status::*;
        let (key, order_id) = (&input.key, order_id(input));
        let empty = Account::default();
        let account = state.accounts.get(key).unwrap_or(&empty);
        let Account { status, bill, charge_id, .. } = account;

        match &input.input {
            Input::Record(Heard::StockReserved(reserved)) => match status {
                New => Decision::nothing().perform(
                    key,
                    Effect::Charge {
                        order_id,
                        amount: reserved.details.total,
                        currency: reserved.details.currency.clone(),
                        token: reserved.details.payment_token.clone(),
                    },
                ),
                Ended => Decision::fact(cancelled(order_id)),
                _ => Decision::nothing(),
            },

            Input::Record(Heard::OrderCancelled(_)) => match status {
                Charging if !moment.claims.contains(key, CHARGE) => {
                    Decision::fact(cancelled(order_id)).withdraw(key, CHARGE)
                }
                Captured => Decision::nothing().perform(key, refund(order_id, bill, charge_id)),
                // New becomes Ended; a claimed charge can no longer be withdrawn, so the cancellation is remembered: see `evolve`.
                _ => Decision::nothing(),
            },

            Input::Record(Heard::RefundRetryRequested(asked)) => match (status, check(asked)) {
                (_, Err(fault)) => Decision::fact(refused(order_id, "bounds", &fault.detail)),
                (RefundFailed, Ok(())) => Decision::nothing().perform(key, refund(order_id, bill, charge_id)),
                (New, Ok(())) => {
                    let detail = "No such order is known here: check its id.";
                    Decision::fact(refused(order_id, "unknown_order", detail))
                }
                (_, Ok(())) => {
                    let detail = "Only a refund that has failed can be tried again.";
                    Decision::fact(refused(order_id, "no_failed_refund", detail))
                }
            },

            Input::Outcome { outcome, .. } => match (outcome, status) {
                (Outcome::Declined { reason, detail }, Charging | ChargingCancelled) => {
                    Decision::fact(PaymentDeclined { order_id, reason: reason.clone(), detail: detail.clone() })
                }
                (Outcome::Captured { charge_id }, Charging) => Decision::fact(captured(order_id, bill, charge_id)),
                (Outcome::Captured { charge_id }, ChargingCancelled) => {
                    Decision::fact(captured(order_id, bill, charge_id)).perform(key, refund(order_id, bill, charge_id))
                }
                (Outcome::Refunded { refund_id }, Refunding) => Decision::fact(PaymentRefunded {
                    order_id,
                    customer_id: bill.customer_id,
                    amount: bill.amount,
                    currency: bill.currency.clone(),
                    charge_id: charge_id.clone(),
                    refund_id: refund_id.clone(),
                }),
                (Outcome::Refused { reason, detail }, Refunding) => Decision::fact(quadrille_events::RefundFailed {
                    order_id,
                    customer_id: bill.customer_id,
                    amount: bill.amount,
                    currency: bill.currency.clone(),
                    charge_id: charge_id.clone(),
                    reason: reason.clone(),
                    detail: detail.clone(),
                }),
                _ => Decision::nothing(),
            },

            Input::Gone(never) | Input::Timer(never) | Input::Command(never) => match *never {},
        }
    }

    fn answers(effect: &Effect, outcome: &Outcome) -> bool {
        match (effect, outcome) {
            (Effect::Charge { .. }, Outcome::Captured { charge_id }) => !charge_id.trim().is_empty(),
            (Effect::Charge { .. }, Outcome::Declined { .. }) => true,
            (Effect::Refund { .. }, Outcome::Refunded { .. } | Outcome::Refused { .. }) => true,
            (Effect::Charge { .. }, Outcome::Refunded { .. } | Outcome::Refused { .. })
            | (Effect::Refund { .. }, Outcome::Captured { .. } | Outcome::Declined { .. }) => false,
        }
    }

    fn evolve(state: &mut State, input: &Envelope<Self>, decision: &Decision<Self>) {
        let account = state.accounts.entry(input.key.clone()).or_default();
        for fact in &decision.facts {
            match fact {
                Stated::PaymentCaptured(captured) => {
                    account.status = Status::Captured;
                    account.charge_id = captured.charge_id.clone();
                }
                Stated::PaymentDeclined(_) => account.status = Status::Declined,
                Stated::PaymentRefunded(_) => account.status = Status::Refunded,
                Stated::RefundFailed(_) => account.status = Status::RefundFailed,
                Stated::PaymentRequestRefused(_) => {}
            }
        }
        for wanted in &decision.perform {
            match wanted.effect {
                Effect::Charge { .. } => account.status = Status::Charging,
                Effect::Refund { .. } => {
                    account.status = Status::Refunding;
                    account.refunds += 1;
                }
            }
        }
        match (&input.input, account.status) {
            (Input::Record(Heard::StockReserved(reserved)), Status::Charging) => {
                account.bill = Bill {
                    customer_id: reserved.details.customer_id,
                    amount: reserved.details.total,
                    currency: reserved.details.currency.clone(),
                    token: reserved.details.payment_token.clone(),
                };
            }
            (Input::Record(Heard::OrderCancelled(_)), Status::New) => account.status = Status::Ended,
            (Input::Record(Heard::OrderCancelled(_)), Status::Charging) => account.status = Status::ChargingCancelled,
            _ => {}
        }
    }

    fn version<'a>(state: &'a mut State, fact: &Stated) -> &'a mut i64 {
        &mut state.accounts.entry(fact.key()).or_default().version
    }
}

/// The order that an input speaks of: keys of these topics are UUIDs, checked when a record is decoded.
fn order_id(input: &Envelope<Payment>) -> Uuid {
    Uuid::try_parse(&input.key).unwrap_or_default()
}

fn captured(order_id: Uuid, bill: &Bill, charge_id: &str) -> PaymentCaptured {
    PaymentCaptured { order_id, amount: bill.amount, currency: bill.currency.clone(), charge_id: charge_id.to_owned() }
}

fn cancelled(order_id: Uuid) -> PaymentDeclined {
    PaymentDeclined {
        order_id,
        reason: "order_cancelled".into(),
        detail: "The order was cancelled before anything was charged.".into(),
    }
}

/// Undoes PaymentCaptured.
fn refund(order_id: Uuid, bill: &Bill, charge_id: &str) -> Effect {
    Effect::Refund { order_id, charge_id: charge_id.to_owned(), amount: bill.amount, currency: bill.currency.clone() }
}

fn check(asked: &RefundRetryRequested) -> Result<(), bounds::Fault> {
    bounds::text("who", &asked.who).and_then(|()| bounds::text("why", &asked.why))
}

fn refused(order_id: Uuid, reason: &str, detail: &str) -> PaymentRequestRefused {
    PaymentRequestRefused {
        order_id,
        request: "RefundRetryRequested".into(),
        reason: reason.into(),
        detail: detail.into(),
    }
}
