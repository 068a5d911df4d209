//! What the user service could get wrong.

use quadrille_core::Envelope;
use quadrille_user::{State, Users};

use super::Alter;

/// What was said of an order's customer is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VerdictForgotten;

impl Alter for VerdictForgotten {
    type Of = Users;

    fn forgets(state: &mut State, input: &Envelope<Users>) {
        if let Some(verdict) = state.verdicts.get_mut(&input.key) {
            verdict.verified = None;
        }
    }
}
