//! What payment could get wrong.

use quadrille_core::{Decision, Envelope, Input};
use quadrille_payment::{Heard, Payment, State, Stated, policy::Status};

use super::Alter;

/// A cancellation that comes before StockReserved is not remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EarlyCancellationForgotten;

impl Alter for EarlyCancellationForgotten {
    type Of = Payment;

    fn ignores(state: &State, input: &Envelope<Payment>) -> bool {
        is_cancelled(input) && status(state, input) == Status::New
    }
}

/// A cancellation during a charge is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CancellationDuringChargeIgnored;

impl Alter for CancellationDuringChargeIgnored {
    type Of = Payment;

    fn ignores(state: &State, input: &Envelope<Payment>) -> bool {
        is_cancelled(input) && status(state, input) == Status::Charging
    }
}

/// What went back is not stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RefundUntold;

impl Alter for RefundUntold {
    type Of = Payment;

    fn decides(_: &State, _: &Envelope<Payment>, mut decision: Decision<Payment>) -> Decision<Payment> {
        decision.facts.retain(|fact| !matches!(fact, Stated::PaymentRefunded(_)));
        decision
    }
}

/// A question that comes back after the end starts a charge: the end does not absorb it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EndForgotten;

impl Alter for EndForgotten {
    type Of = Payment;

    fn forgets(state: &mut State, input: &Envelope<Payment>) {
        if let Some(account) = state.accounts.get_mut(&input.key).filter(|account| account.status == Status::Ended) {
            account.status = Status::New;
        }
    }
}

fn is_cancelled(input: &Envelope<Payment>) -> bool {
    matches!(input.input, Input::Record(Heard::OrderCancelled(_)))
}

fn status(state: &State, input: &Envelope<Payment>) -> Status {
    state.accounts.get(&input.key).map(|account| account.status).unwrap_or_default()
}
