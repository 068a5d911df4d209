//! What a service writes itself about the outside world: how an effect is performed, and how its fate is asked for.

use std::{future::Future, marker::PhantomData, time::Duration};

use quadrille_core::{Named, Policy};
use uuid::Uuid;

/// The outside world that a service's effects reach: a payment provider, a carrier, a mail server.
///
/// **What is not known is not stated.** An answer that did not come is [`Answer::Unknown`], never a refusal.
pub trait Outside: Send + Sync + 'static {
    /// The policy whose effects these are.
    type Policy: Policy;

    /// Performs `effect` under the idempotency key `id`. Called for the first try, and again only where [`Outside::ask`] found nothing.
    fn perform(&self, id: Uuid, effect: &Effect<Self>) -> impl Future<Output = Answer<Outcome<Self>>> + Send;

    /// Asks what became of the key `id`: called before every try but the first.
    fn ask(&self, id: Uuid, effect: &Effect<Self>) -> impl Future<Output = Answer<Outcome<Self>>> + Send;

    /// How long `effect` is tried, and what then.
    fn limit(&self, _effect: &Effect<Self>) -> Limit<Outcome<Self>> {
        Limit { after: Duration::from_secs(20 * 3600), then: Then::Park }
    }
}

/// An outside's effects.
pub type Effect<O> = <<O as Outside>::Policy as Policy>::Effect;
/// An outside's outcomes.
pub type Outcome<O> = <<O as Outside>::Policy as Policy>::Outcome;

/// What the outside said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<O> {
    /// The outcome, final.
    Known(O),
    /// To [`Outside::ask`]: the outside has no trace of the key, so the effect may be performed (again).
    Nothing,
    /// Nothing can be said now, with the reason; it is asked again later.
    Unknown(String),
}

/// When to stop trying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit<O> {
    /// Counted from the first try. Must be shorter than the outside remembers idempotency keys.
    pub after: Duration,
    /// What follows.
    pub then: Then<O>,
}

/// What follows when the limit has passed without an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then<O> {
    /// The effect waits for a person: shown, alarmed, redriven or answered.
    Park,
    /// This outcome, for effects on which nothing hangs.
    Conclude(O),
}

/// For services without effects.
pub struct NoOutside<P>(PhantomData<P>);

impl<P> Default for NoOutside<P> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<P: Policy> Outside for NoOutside<P> {
    type Policy = P;

    async fn perform(&self, _: Uuid, effect: &P::Effect) -> Answer<P::Outcome> {
        Answer::Unknown(format!("{} has no outside, so '{}' cannot be performed", P::SERVICE, effect.kind()))
    }

    async fn ask(&self, id: Uuid, effect: &P::Effect) -> Answer<P::Outcome> {
        self.perform(id, effect).await
    }
}
