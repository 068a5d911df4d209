//! Policies with one thing wrong: what the claims must catch.
//!
//! A policy knows nothing of them: an [`Altered`] one is the policy that ships, with one input ignored or one decision replaced.
//! Here, and only here, the model names what a policy's state may be.

use std::{fmt::Debug, hash::Hash};

use quadrille_core::{Decision, Declaration, Envelope, Input, Moment, Perform, Policy, Row, SetTimer};

mod inventory;
mod order;
mod payment;
mod shipping;
mod table;
mod user;

pub use table::{Mutation, TABLE, Wrong};

/// One thing that is wrong with a policy.
pub trait Alter: Clone + Copy + Debug + PartialEq + Eq + Hash + Send + Sync + 'static {
    /// The policy.
    type Of: Policy;

    /// Whether this input is ignored, in this state.
    fn ignores(_state: &<Self::Of as Policy>::State, _input: &Envelope<Self::Of>) -> bool {
        false
    }

    /// What the policy sees of the moment.
    fn sees(moment: &Moment) -> Moment {
        moment.clone()
    }

    /// What is decided in place of `decision`.
    fn decides(
        _state: &<Self::Of as Policy>::State,
        _input: &Envelope<Self::Of>,
        decision: Decision<Self::Of>,
    ) -> Decision<Self::Of> {
        decision
    }

    /// What is forgotten once all is done.
    fn forgets(_state: &mut <Self::Of as Policy>::State, _input: &Envelope<Self::Of>) {}
}

/// A policy with one thing wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Altered<A: Alter>(A);

impl<A: Alter> Policy for Altered<A> {
    const SERVICE: &'static str = A::Of::SERVICE;
    const TABLES: &'static [&'static str] = A::Of::TABLES;
    const CHOREOGRAPHY: Declaration = A::Of::CHOREOGRAPHY;
    type Heard = <A::Of as Policy>::Heard;
    type Stated = <A::Of as Policy>::Stated;
    type Effect = <A::Of as Policy>::Effect;
    type Outcome = <A::Of as Policy>::Outcome;
    type Timer = <A::Of as Policy>::Timer;
    type Command = <A::Of as Policy>::Command;
    type State = <A::Of as Policy>::State;

    fn rows(state: &Self::State, input: &Envelope<Self>) -> Vec<Row> {
        A::Of::rows(state, &original(input))
    }

    fn react(state: &Self::State, moment: &Moment, input: &Envelope<Self>) -> Decision<Self> {
        let input = original(input);
        if A::ignores(state, &input) {
            return Decision::nothing();
        }
        of(A::decides(state, &input, A::Of::react(state, &A::sees(moment), &input)))
    }

    fn evolve(state: &mut Self::State, input: &Envelope<Self>, decision: &Decision<Self>) {
        let input = original(input);
        if !A::ignores(state, &input) {
            A::Of::evolve(state, &input, &of(decision.clone()));
            A::forgets(state, &input);
        }
    }

    fn version<'a>(state: &'a mut Self::State, fact: &Self::Stated) -> &'a mut i64 {
        A::Of::version(state, fact)
    }
}

fn original<A: Alter>(input: &Envelope<Altered<A>>) -> Envelope<A::Of> {
    let Envelope { id, cause, key, version, trace, input } = input.clone();
    let input = match input {
        Input::Record(heard) => Input::Record(heard),
        Input::Gone(gone) => Input::Gone(gone),
        Input::Timer(timer) => Input::Timer(timer),
        Input::Command(command) => Input::Command(command),
        Input::Outcome { effect, outcome } => Input::Outcome { effect, outcome },
    };
    Envelope { id, cause, key, version, trace, input }
}

/// One policy's decision as another's that speaks of the same things.
#[expect(clippy::map_identity, reason = "the two sides are of different types")]
fn of<From, To>(decision: Decision<From>) -> Decision<To>
where
    From: Policy,
    To: Policy<Stated = From::Stated, Effect = From::Effect, Timer = From::Timer>,
{
    let Decision { facts, perform, withdraw, set, clear } = decision;
    let perform = perform.into_iter().map(|Perform { key, effect }| Perform { key, effect }).collect();
    let set = set.into_iter().map(|SetTimer { key, timer, due }| SetTimer { key, timer, due }).collect();
    Decision { facts, perform, withdraw, set, clear }
}
