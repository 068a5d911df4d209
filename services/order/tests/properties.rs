//! What holds whatever the order service hears, in whatever order and however often.

mod common;

use common::*;
use proptest::{collection::vec, prelude::*};
use quadrille_core::{Fact, Input, Named, Records, TopicKind};
use quadrille_order::{
    Heard, Orders, Stated, Timer,
    policy::{Order, Stage, Status},
};
use quadrille_testkit::{Given, given};

/// Anything that may happen to one order and its price list.
fn anything() -> impl Strategy<Value = Input<Orders>> {
    prop_oneof![
        12 => heard().prop_map(Input::Record),
        1 => prop::sample::select(vec![Timer::ConfirmBy, Timer::EndBy]).prop_map(Input::Timer),
    ]
}

/// Plays a story; a timer fires only while it is set, as its row is gone otherwise.
fn play(story: Vec<Input<Orders>>) -> Given<Orders> {
    let mut played = given().heard(listed("TEA-1", 1999)).heard(listed("MUG-1", 500));
    for (number, input) in (2..).zip(story) {
        let asks = matches!(input, Input::Record(Heard::OrderCancellationRequested(_)));
        played = match input {
            // Product events are of version 1 at first, of any later.
            Input::Record(heard) => played.heard_as(number / 2 + 1, heard),
            Input::Timer(timer) if played.is_set(ORDER, &timer) => played.fired(ORDER, timer),
            Input::Gone(_) | Input::Timer(_) | Input::Outcome { .. } | Input::Command(_) => continue,
        };
        assert!(!asks || played.stated().len() == 1, "a cancellation has one answer: {:#?}", played.stated());
    }
    played
}

fn timers(played: &Given<Orders>) -> Vec<String> {
    played.service().timers.iter().map(|row| row.timer.name()).collect()
}

fn is_end(fact: &Stated) -> bool {
    matches!(fact, Stated::OrderRejected(_) | Stated::OrderDelivered(_) | Stated::OrderCancelled(_))
}

fn is_refusal(fact: &Stated) -> bool {
    matches!(fact, Stated::OrderRequestRefused(_) | Stated::OrderCancellationRefused(_))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn anything_in_any_order_and_however_often(story in vec(anything(), 0..40)) {
        let played = play(story);
        let stated: Vec<Stated> = played.facts().iter().map(|fact| fact.record.clone()).collect();

        // An order is accepted or rejected, once, and ends once; after its end only refusals are stated.
        let count = |is: fn(&Stated) -> bool| stated.iter().filter(|fact| is(fact)).count();
        prop_assert!(count(|fact| matches!(fact, Stated::OrderCreated(_) | Stated::OrderRejected(_))) <= 1);
        prop_assert!(count(|fact| matches!(fact, Stated::OrderConfirmed(_))) <= 1);
        prop_assert!(count(|fact| matches!(fact, Stated::OrderShipped(_))) <= 1);
        prop_assert!(count(|fact| matches!(fact, Stated::OrderRecallRequested(_))) <= 1);
        prop_assert!(count(is_end) <= 1);
        if let Some(end) = stated.iter().position(is_end) {
            prop_assert!(stated[end + 1..].iter().all(is_refusal), "{:#?}", stated);
        }

        // The row is what its facts come to, and its version their number.
        let row = played.state().orders.get(&ORDER.to_string()).cloned().unwrap_or_default();
        prop_assert_eq!(Order::fold(&stated), row.clone());
        prop_assert_eq!(row.version, stated.len() as i64);

        // Every wait ends: a deadline is set while the order waits for one, and none is left behind.
        let expected: &[&str] = match &row.status {
            Status::Accepted(order) => match order.stage {
                Stage::Pending => &["confirm_by"],
                Stage::Confirmed | Stage::Shipped => &["end_by"],
                Stage::Recalling { .. } | Stage::Delivered | Stage::Cancelled => &[],
            },
            Status::Unknown | Status::Rejected { .. } => &[],
        };
        prop_assert_eq!(timers(&played), expected);
    }

    /// What others state comes again under another id without effect: the inbox may have forgotten it.
    #[test]
    fn an_event_twice_is_an_event_once(story in vec(anything(), 1..40), twice in any::<prop::sample::Index>()) {
        // Product events are left out: `play` numbers them by their place, which a repeat moves.
        let is_product = |input: &Input<Orders>| matches!(input, Input::Record(heard) if heard.record_type().topic.name == "product.events");
        let story: Vec<_> = story.into_iter().filter(|input| !is_product(input)).collect();
        let is_event = |at: &usize| matches!(&story[*at], Input::Record(heard) if heard.record_type().topic.kind == TopicKind::Events);
        let events: Vec<usize> = (0..story.len()).filter(is_event).collect();
        prop_assume!(!events.is_empty());
        let at = events[twice.index(events.len())];
        let mut repeated = story.clone();
        repeated.insert(at, story[at].clone());

        let (once, twice) = (play(story), play(repeated));
        let names = |facts: &[Fact<Orders>]| facts.iter().map(|fact| fact.record.record_type().name).collect::<Vec<_>>();
        prop_assert_eq!(names(once.facts()), names(twice.facts()));
        prop_assert_eq!(once.state(), twice.state());
        prop_assert_eq!(timers(&once), timers(&twice));
    }
}
