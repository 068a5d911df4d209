//! The contract's reaction table for notification, row by row.

mod common;

use chrono::TimeDelta;
use common::*;
use quadrille_core::{Named, Policy};
use quadrille_events::{Uuid, notification::*};
use quadrille_notification::{
    About, Heard, Notification, Outcome, message_id,
    policy::{MOST_WAITING, Status},
};
use quadrille_testkit::{Given, given, start};

const ANN: &str = "ann@example.com";

fn known() -> Given<Notification> {
    given::<Notification>().heard(registered(Some(ANN)))
}

fn unknown() -> Given<Notification> {
    given::<Notification>()
}

fn all(order: quadrille_events::Uuid) -> [(About, Heard); 4] {
    [
        (About::OrderConfirmed, confirmed(order).into()),
        (About::OrderShipped, shipped(order).into()),
        (About::OrderCancelled, cancelled(order).into()),
        (About::PaymentRefunded, refunded(order).into()),
    ]
}

fn name(about: About) -> String {
    mail(ORDER, about, ANN).name()
}

fn failed(about: About, message_id: String, reason: &str, detail: &str) -> NotificationFailed {
    NotificationFailed {
        kind: about.name().into(),
        message_id,
        reason: reason.into(),
        detail: detail.into(),
        ..NotificationFailed::new(ORDER, CUSTOMER)
    }
}

#[test]
fn a_mail_goes_to_an_address_that_is_known() {
    for (about, heard) in all(ORDER) {
        let _ = known()
            .heard(heard)
            .then_states::<NotificationSent>([])
            .then_performs([mail(ORDER, about, ANN)])
            .then_sets([])
            .again()
            .then_nothing();
    }
}

#[test]
fn a_mail_without_an_address_waits_an_hour() {
    for (about, heard) in all(ORDER) {
        let story = unknown()
            .heard(heard)
            .then_performs([])
            .then_sets([(give_up(about), start() + TimeDelta::hours(1))])
            .again()
            .then_nothing()
            .fired(ORDER, give_up(about));
        let detail = "No address of the customer became known within an hour.";
        let _ = story
            .then_states([failed(about, String::new(), "no_address", detail)])
            .then_state(|state| state.addresses[&CUSTOMER.to_string()].waiting.is_empty())
            .again()
            .then_nothing()
            .heard(registered(Some(ANN)))
            .then_nothing();
    }
}

#[test]
fn a_thousand_orders_of_one_customer_wait_and_no_more() {
    let most = MOST_WAITING as u128;
    let waiting = (1..=most).fold(unknown(), |story, n| story.heard(confirmed(id(n))));
    let late = id(most + 1);
    let detail = "1000 orders of this customer wait for an address already.";
    let refused = NotificationFailed {
        kind: About::OrderConfirmed.name().into(),
        reason: "no_address".into(),
        detail: detail.into(),
        ..NotificationFailed::new(late, CUSTOMER)
    };
    let _ = waiting
        .heard(confirmed(late))
        .then_states([refused])
        .then_sets([])
        .again()
        .then_nothing()
        // One that waits already takes another mail.
        .heard(shipped(id(1)))
        .then_sets([(give_up(About::OrderShipped), start() + TimeDelta::hours(1))])
        .then_state(|state| state.addresses[&CUSTOMER.to_string()].waiting.len() == MOST_WAITING)
        // Once one is given up there is room.
        .fired(id(2), give_up(About::OrderConfirmed))
        .heard(cancelled(late))
        .then_sets([(give_up(About::OrderCancelled), start() + TimeDelta::hours(1))]);
}

#[test]
fn an_address_heard_late_lets_all_waiting_mails_go_each_orders_in_order() {
    let (first, second) = (id(1), id(2));
    let _ = unknown()
        .heard(confirmed(second))
        .heard(cancelled(first))
        .heard(refunded(first))
        .heard(registered(Some(ANN)))
        .then_performs([
            mail(first, About::OrderCancelled, ANN),
            mail(first, About::PaymentRefunded, ANN),
            mail(second, About::OrderConfirmed, ANN),
        ])
        .then_clears(["give_up/order_cancelled", "give_up/payment_refunded", "give_up/order_confirmed"])
        .then_state(|state| state.addresses[&CUSTOMER.to_string()].waiting.is_empty())
        .again()
        .then_nothing();
}

#[test]
fn one_mail_given_up_leaves_the_others_waiting() {
    let _ = unknown()
        .heard(confirmed(ORDER))
        .heard(shipped(ORDER))
        .fired(ORDER, give_up(About::OrderConfirmed))
        .then_states_types(["NotificationFailed"])
        .heard(registered(Some(ANN)))
        .then_performs([mail(ORDER, About::OrderShipped, ANN)]);
}

#[test]
fn a_user_without_an_address_is_no_address() {
    let _ = unknown()
        .heard(registered(None))
        .heard(confirmed(ORDER))
        .then_performs([])
        .heard(moved(Some("  ")))
        .then_nothing()
        .heard(moved(Some(ANN)))
        .then_performs([mail(ORDER, About::OrderConfirmed, ANN)]);
}

#[test]
fn a_mail_goes_to_the_newest_address() {
    let _ = known().heard(moved(Some("new@example.com"))).then_nothing().heard(confirmed(ORDER)).then_performs([mail(
        ORDER,
        About::OrderConfirmed,
        "new@example.com",
    )]);
}

#[test]
fn user_events_that_are_not_newer_are_ignored() {
    let _ = known()
        .heard(moved(Some("new@example.com")))
        .heard_as(1, registered(Some(ANN)))
        .then_nothing()
        .heard_as(2, moved(Some("again@example.com")))
        .heard_as(0, moved(Some("nobody@example.com")))
        .then_nothing()
        .heard(confirmed(ORDER))
        .then_performs([mail(ORDER, About::OrderConfirmed, "new@example.com")]);
}

/// A mail server that sees one Message-ID twice may drop the second: it must be the effect's, at every try.
#[test]
fn a_message_id_is_the_effects() {
    assert_eq!(message_id(Uuid::nil()), "<00000000-0000-0000-0000-000000000000@mail.quadrille.example>");
}

#[test]
fn a_person_answers_a_mail_with_an_outcome_of_that_mail() {
    let mail = mail(ORDER, About::OrderConfirmed, "ann@example.com");
    assert!(Notification::answers(&mail, &Outcome::Sent { about: About::OrderConfirmed }));
    assert!(!Notification::answers(&mail, &refused(About::OrderShipped)));
}

#[test]
fn a_mail_that_was_taken_is_stated_once() {
    let story = known().heard(confirmed(ORDER));
    let effect = story.outcome().effects[0].id;
    let _ = story
        .answered(ORDER, &name(About::OrderConfirmed), Outcome::Sent { about: About::OrderConfirmed })
        .then_states([NotificationSent {
            kind: "order_confirmed".into(),
            message_id: message_id(effect),
            ..NotificationSent::new(ORDER, CUSTOMER)
        }])
        .again()
        .then_nothing()
        .heard(confirmed(ORDER))
        .then_nothing();
}

#[test]
fn a_mail_that_was_given_up_is_stated_once_with_its_message_id() {
    let story = known().heard(confirmed(ORDER));
    let effect = story.outcome().effects[0].id;
    let _ = story
        .answered(ORDER, &name(About::OrderConfirmed), refused(About::OrderConfirmed))
        .then_states([failed(About::OrderConfirmed, message_id(effect), "refused", "Nobody here has this address.")])
        .again()
        .then_nothing();
}

#[test]
fn outcomes_and_timers_of_other_mails_change_nothing() {
    let story = known().heard(confirmed(ORDER));
    let sending = |story: Given<Notification>| {
        story.then_nothing().then_state(|state| state.notices[&ORDER.to_string()].mails[0].status == Status::Sending)
    };
    let story = sending(story.fired(ORDER, give_up(About::OrderConfirmed)));
    let story = sending(story.fired(ORDER, give_up(About::OrderShipped)));
    let other = Outcome::Sent { about: About::OrderShipped };
    let _ = sending(story.answered(ORDER, &name(About::OrderConfirmed), other));
}

#[test]
fn what_strangers_wrote_stays_text_on_one_line() {
    let mut user = registered(Some(ANN));
    user.personal.name = Some("Ann\r\nBcc: evil@example.com\0".into());
    let mut order = confirmed(ORDER);
    order.details.lines[0].sku = "TEA\r\n.\r\nQUIT".into();
    let story = given::<Notification>().heard(user).heard(order);
    let mail = &story.outcome().effects[0].effect;
    assert_eq!(mail.name, "Ann  Bcc: evil@example.com ");
    assert!(mail.text.starts_with("Dear Ann  Bcc: evil@example.com ,\n\n"), "{}", mail.text);
    assert!(mail.text.contains("2 x TEA  .  QUIT at 19.99"), "{}", mail.text);
}

#[test]
fn nobody_is_greeted_by_a_name_that_nobody_sees() {
    for name in ["", "  ", "\u{200b}", "\u{2028}\u{3164}"] {
        let mut user = registered(Some(ANN));
        user.personal.name = Some(name.into());
        let story = given::<Notification>().heard(user).heard(confirmed(ORDER));
        let mail = &story.outcome().effects[0].effect;
        assert!(mail.text.starts_with("Hello,\n\n"), "{name:?}: {}", mail.text);
    }
}

#[test]
fn a_letter_says_what_happened() {
    let text = |about| mail(ORDER, about, ANN).text;
    assert_eq!(
        text(About::OrderConfirmed),
        format!(
            "Dear Ann Example,\n\nyour order {ORDER} is confirmed and paid for.\n\n  2 x TEA-1 at 19.99\n\nTotal: 39.98 EUR\n\nYour shop\n"
        )
    );
    assert!(text(About::OrderShipped).contains("Tracking number: PARCEL-1"));
    assert!(text(About::OrderCancelled).contains("Reason: insufficient stock"));
    assert!(text(About::PaymentRefunded).contains("39.98 EUR"));
}
