//! What is claimed of every state of a world: the contract's section 3, and that it can happen at all.
//!
//! Claims look at what everyone can see: records, what is true outside, stock, and whether rows wait. None looks at how far a policy
//! thinks it has come.

use quadrille_core::Declaration;
use stateright::{Model, Property};

use crate::{
    outside::{Kept, Parcel, Said},
    record::{
        Kind::{self, *},
        Record,
    },
    spec::{Forgets, Spec},
    world::{State, World},
};

/// The claims of a world.
pub fn of(spec: &Spec) -> Vec<Property<World>> {
    if spec.mails {
        return [
            Property::always("a mail goes once, under one Message-ID", mails_go_once),
            Property::always("at the end each mail that was due was sent or given up", mails_are_told),
            Property::always("what is not at its end goes on by itself", goes_on),
        ]
        .into_iter()
        .chain(expected(spec))
        .collect();
    }
    let mut claims = vec![
        Property::always("stock is never negative and adds up (1)", stock_adds_up),
        Property::always("what is set aside is what orders hold (1)", stock_is_held_by_orders),
        Property::always("an order is captured and refunded at most once (2)", money_moves_once),
        Property::always("payment states what the provider did (2)", payment_tells_the_truth),
        Property::always("an order ends once, and then only refusals are stated (3)", ends_once),
        Property::always("shipping states where the parcel is (4)", shipping_tells_the_truth),
        Property::always("what is not at its end goes on by itself (4)", goes_on),
        Property::always("no parcel is with the customer after OrderCancelled (4)", no_parcel_after_cancelled),
        Property::always("an id stands for one type (5)", ids_name_types),
        Property::always("every cause is a record (7)", causes_exist),
        Property::always("no question is answered twice or unasked (9)", answers_at_most_once),
        Property::always("every request is answered, once (9)", requests_are_answered),
        Property::always("the baton is passed on unchanged", one_baton),
        Property::always("at the end every accepted order has ended (3)", all_end),
        Property::always("at the end a cancelled order holds nothing (2, 4)", cancelled_holds_nothing),
        Property::always("at the end a delivered order is paid for and gone (1, 2)", delivered_is_paid_for),
        Property::always("at the end every question is answered (9)", all_answered),
        Property::always(
            "a dead letter that raises no alarm leaves no order open and nothing of a cancelled one",
            letters_harm_nothing,
        ),
    ];
    // Rule 13: an inbox is needed for requests, and for nothing else.
    if spec.forgets != Forgets::All {
        claims.push(Property::always("versions are consecutive, repeats are exact (5, 6)", versions_are_consecutive));
    }
    claims.extend(expected(spec));
    claims
}

/// What must be seen to happen in a world.
fn expected(spec: &Spec) -> Vec<Property<World>> {
    let expected: Vec<_> = occurrences().into_iter().filter(|claim| spec.sometimes.contains(&claim.name)).collect();
    assert_eq!(expected.len(), spec.sometimes.len(), "claims.rs does not know all of {:?}", spec.sometimes);
    expected
}

macro_rules! occurrences {
    ($($name:literal),+ $(,)?) => {
        /// Every ending, every refusal and every compensation, by the record that tells of it.
        pub const OCCURRENCES: &[&str] = &[$($name),+];

        /// Each as what must be seen to happen. A claim is a function that captures nothing, hence a macro.
        fn occurrences() -> Vec<Property<World>> {
            vec![$(Property::sometimes($name, |world: &World, state: &State| happened(world, state, $name))),+]
        }
    };
}

occurrences![
    "OrderDelivered",
    "OrderShipped",
    "OrderShipped after OrderRecallRequested",
    "OrderRejected/unknown_sku",
    "OrderRequestRefused/conflicting_content",
    "OrderCancelled/requested",
    "OrderCancelled/expired",
    "OrderCancelled/deactivated_customer",
    "OrderCancelled/insufficient_stock",
    "OrderCancelled/declined",
    "OrderCancelled/shipment_aborted",
    "OrderCancelled/shipment_recalled",
    "OrderRecallRequested/requested",
    "OrderRecallRequested/expired",
    "OrderCancellationRefused/unknown_order",
    "OrderCancellationRefused/rejected",
    "OrderCancellationRefused/cancelled",
    "OrderCancellationRefused/delivered",
    "OrderCancellationRefused/recall_under_way",
    "OrderCancellationRefused/recall_failed",
    "CustomerRejected/deactivated_customer",
    "CustomerRejected/unknown_customer",
    "ReservationRejected/insufficient_stock",
    "ReservationRejected/order_cancelled",
    "ReservationCommitted",
    "ReservationReleased",
    "ReservationReleased after ReservationCommitted",
    "PaymentDeclined/card_declined",
    "PaymentDeclined/order_cancelled",
    "PaymentRefunded",
    "PaymentRefunded after RefundFailed",
    "RefundFailed/account_closed",
    "PaymentRequestRefused/unknown_order",
    "PaymentRequestRefused/no_failed_refund",
    "ShipmentAborted/recalled",
    "ShipmentAborted/carrier_refused",
    "ShipmentRecalled/recalled",
    "ShipmentRecalled/returned",
    "PriceChanged",
    "NotificationSent",
    "NotificationFailed/no_address",
    "NotificationFailed/refused",
    "ShipmentDelivered after OrderRecallRequested",
    "PaymentCaptured after OrderCancelled",
    "StockReserved after OrderCancelled",
];

/// Whether a record of that label was stated; or, of two types of one order, the one can be stated now, after the other.
fn happened(world: &World, state: &State, name: &str) -> bool {
    match name.split_once(" after ") {
        Some((later, earlier)) => (0..world.spec.orders).any(|order| {
            let stated = |state: &State, name: &str| world.stated(state, order, Kind::named(name)) > 0;
            let can_be = || world.next_steps(state).iter().any(|(_, next)| stated(next, later));
            stated(state, earlier) && !stated(state, later) && can_be()
        }),
        None => {
            let mut records = (0..world.places.len()).flat_map(|place| &world.log(state, place).records);
            records.any(|record| world.records.get(*record).label == name)
        }
    }
}

fn stock_adds_up(world: &World, state: &State) -> bool {
    world.stock(state).iter().all(|level| {
        let received = world.received(state, &level.sku);
        level.available >= 0
            && level.reserved >= 0
            && level.committed >= 0
            && level.received == received
            && level.received == level.available + level.reserved + level.committed
    })
}

fn stock_is_held_by_orders(world: &World, state: &State) -> bool {
    world.stock(state).iter().all(|level| {
        let (mut reserved, mut committed) = (0, 0);
        for order in 0..world.spec.orders {
            let stated = |kind| world.stated(state, order, kind) > 0;
            if stated(StockReserved) && !stated(ReservationReleased) {
                let created = world.first(state, order, OrderCreated);
                let wanted = created.and_then(|created| created.goods.get(&level.sku)).copied().unwrap_or_default();
                *if stated(ReservationCommitted) { &mut committed } else { &mut reserved } += wanted;
            }
        }
        (level.reserved, level.committed) == (reserved, committed)
    })
}

fn money_moves_once(world: &World, state: &State) -> bool {
    orders(world, |order, id| {
        let outside = world.outside(state);
        outside.count(id, Said::Captured) <= 1
            && outside.count(id, Said::Refunded) <= 1
            && world.stated(state, order, PaymentCaptured) <= 1
            && world.stated(state, order, PaymentRefunded) <= 1
    })
}

fn payment_tells_the_truth(world: &World, state: &State) -> bool {
    orders(world, |order, id| {
        let (stated, outside) = (|kind| usize::from(world.stated(state, order, kind)), world.outside(state));
        stated(PaymentCaptured) <= outside.count(id, Said::Captured)
            && stated(PaymentRefunded) <= outside.count(id, Said::Refunded)
            && stated(RefundFailed) <= outside.count(id, Said::RefundRefused)
            && !(stated(PaymentDeclined) > 0 && outside.count(id, Said::Captured) > 0)
    })
}

/// One parcel an order, and what is said of it is so.
fn shipping_tells_the_truth(world: &World, state: &State) -> bool {
    orders(world, |order, id| {
        let (stated, outside) = (|kind| usize::from(world.stated(state, order, kind)), world.outside(state));
        let accepted = outside.count(id, Said::Accepted);
        accepted <= 1
            && stated(ShipmentDispatched) <= accepted
            && stated(OrderShipped) <= stated(ShipmentDispatched)
            && !(stated(ShipmentAborted) > 0 && accepted > 0)
            && (stated(ShipmentDelivered) == 0 || outside.parcel(id) == Parcel::WithCustomer)
            && (stated(ShipmentRecalled) == 0 || outside.parcel(id) == Parcel::Back)
    })
}

/// That every run comes to an end of the kind that the claims about ends speak of.
fn goes_on(world: &World, state: &State) -> bool {
    world.is_quiet(state) || world.goes_on(state)
}

fn ends_once(world: &World, state: &State) -> bool {
    (0..world.spec.orders).all(|order| world.saga(state, order).all(|log| log.ends_once))
}

fn no_parcel_after_cancelled(world: &World, state: &State) -> bool {
    orders(world, |order, id| {
        world.stated(state, order, OrderCancelled) == 0 || world.outside(state).parcel(id) != Parcel::WithCustomer
    })
}

fn versions_are_consecutive(world: &World, state: &State) -> bool {
    (0..world.places.len()).all(|place| world.log(state, place).in_order)
}

fn ids_name_types(world: &World, state: &State) -> bool {
    (0..world.places.len()).all(|place| world.log(state, place).ids_name_types)
}

fn causes_exist(world: &World, state: &State) -> bool {
    let records = || (0..world.places.len()).flat_map(|place| &world.log(state, place).records);
    let mut known: Vec<_> = records().map(|record| world.records.get(*record).id).collect();
    known.extend(world.asked_ids(state));
    records().all(|record| known.contains(&world.records.get(*record).cause))
}

/// Each question with the facts of which exactly one answers it: the contract's words, and not the services' own declarations, which a
/// judge does not ask.
const QUESTIONS: [(Kind, &[Kind]); 4] = [
    (OrderCreated, &[CustomerVerified, CustomerRejected]),
    (CustomerVerified, &[StockReserved, ReservationRejected]),
    (StockReserved, &[PaymentCaptured, PaymentDeclined]),
    (OrderConfirmed, &[ShipmentDelivered, ShipmentAborted, ShipmentRecalled]),
];

fn answers_at_most_once(world: &World, state: &State) -> bool {
    orders(world, |order, _| {
        let stated = |kind| world.stated(state, order, kind);
        QUESTIONS.iter().all(|(asked, answers)| world.stated_any(state, order, answers) <= stated(*asked))
            && stated(ReservationCommitted) <= stated(StockReserved).min(stated(ShipmentDispatched))
            && stated(ReservationReleased) <= stated(StockReserved).min(stated(OrderCancelled))
            && stated(PaymentRefunded) <= stated(PaymentCaptured).min(stated(OrderCancelled))
    })
}

fn requests_are_answered(world: &World, state: &State) -> bool {
    (0..world.requests.len()).filter(|request| world.asked(state, *request)).all(|request| {
        let asked = world.request(request);
        let answers = |kinds: &[Kind]| world.caused(state, asked, kinds);
        let once = |kinds: &[Kind]| match answers(kinds) {
            1 => true,
            0 => false,
            // Whose inbox forgets takes a repeat for a new request.
            _ => world.spec.forgets == Forgets::All,
        };
        match asked.kind {
            // A repeat under another id has no answer of its own.
            OrderRequested => {
                let same = |other: usize| other != request && world.request(other).datum == asked.datum;
                let is_repeat = (0..world.requests.len()).any(|other| same(other) && world.asked(state, other));
                let kinds = [OrderCreated, OrderRejected, OrderRequestRefused];
                once(&kinds) || is_repeat && answers(&kinds) == 0
            }
            OrderCancellationRequested => once(&[OrderCancelled, OrderRecallRequested, OrderCancellationRefused]),
            UserDeactivationRequested => once(&[UserDeactivated, UserRequestRefused]),
            StockReplenishmentRequested => once(&[StockReplenished, StockRequestRefused]),
            _ => true,
        }
    })
}

fn one_baton(world: &World, state: &State) -> bool {
    (0..world.spec.orders).all(|order| {
        let mut batons =
            world.saga(state, order).filter_map(|log| log.baton).map(|record| &world.records.get(record).baton);
        let first = batons.next();
        world.saga(state, order).all(|log| log.one_baton) && batons.all(|baton| Some(baton) == first)
    })
}

fn all_end(world: &World, state: &State) -> bool {
    !is_over(world, state) || orders(world, |order, _| ended(world, state, order))
}

fn cancelled_holds_nothing(world: &World, state: &State) -> bool {
    !is_over(world, state) || orders(world, |order, id| nets_to_zero(world, state, order, id))
}

fn delivered_is_paid_for(world: &World, state: &State) -> bool {
    !is_over(world, state)
        || orders(world, |order, id| {
            let (stated, outside) = (|kind| world.stated(state, order, kind), world.outside(state));
            stated(OrderDelivered) == 0
                || outside.count(id, Said::Captured) == 1
                    && outside.count(id, Said::Refunded) == 0
                    && stated(ReservationCommitted) == 1
                    && outside.parcel(id) == Parcel::WithCustomer
        })
}

fn all_answered(world: &World, state: &State) -> bool {
    !is_over(world, state)
        || orders(world, |order, id| {
            let stated = |kind| world.stated(state, order, kind);
            let refunds = [PaymentRefunded, RefundFailed];
            // A retry is answered with its refund's outcome, which bears the retry's cause.
            let retries = (0..world.requests.len()).filter(|request| world.asked(state, *request));
            let mut retries = retries
                .map(|request| world.request(request))
                .filter(|asked| asked.kind == RefundRetryRequested && asked.key == id);
            QUESTIONS.iter().all(|(asked, answers)| world.stated_any(state, order, answers) == stated(*asked))
                && (stated(OrderCancelled) == 0
                    || stated(PaymentCaptured) == 0
                    || world.stated_any(state, order, &refunds) > 0)
                && retries.all(|asked| {
                    world.caused(state, asked, &[PaymentRefunded, RefundFailed, PaymentRequestRefused]) == 1
                })
        })
}

/// The services say themselves which of their letters are alarmed at once: all others end by the two deadlines.
fn letters_harm_nothing(world: &World, state: &State) -> bool {
    let alarmed = |(service, record): (&Declaration, &Record)| {
        service.alarms.iter().any(|alarm| Kind::named(alarm.name) == record.kind)
    };
    !world.is_quiet(state)
        || world.letters(state).any(alarmed)
        || orders(world, |order, id| ended(world, state, order) && nets_to_zero(world, state, order, id))
}

/// Nothing more will happen by itself, and nothing waits for a person.
fn is_over(world: &World, state: &State) -> bool {
    world.is_quiet(state) && world.letters(state).next().is_none()
}

fn ended(world: &World, state: &State, order: usize) -> bool {
    let stated = |kind| world.stated(state, order, kind);
    stated(OrderCreated) == stated(OrderDelivered) + stated(OrderCancelled)
}

/// Stock and money of a cancelled order are back, or a refund that failed is shown to a person; its parcel is nowhere or back.
fn nets_to_zero(world: &World, state: &State, order: usize, id: &str) -> bool {
    let (stated, outside) = (|kind| world.stated(state, order, kind), world.outside(state));
    let is_refunded = outside.count(id, Said::Captured) == outside.count(id, Said::Refunded);
    stated(OrderCancelled) == 0
        || stated(ReservationReleased) == stated(StockReserved)
            && (is_refunded || stated(RefundFailed) > 0)
            && matches!(outside.parcel(id), Parcel::None | Parcel::Back)
}

fn mails_go_once(world: &World, state: &State) -> bool {
    let kept = || world.outside(state).kept.values();
    let once =
        |mail: &Kept| kept().filter(|other| (&other.order, &other.name) == (&mail.order, &mail.name)).count() == 1;
    kept().all(once)
        && orders(world, |order, id| {
            kept().filter(|mail| mail.order == id).count() <= world.mails_due_of(state, order).into()
        })
}

fn mails_are_told(world: &World, state: &State) -> bool {
    let stated = |kind| (0..world.places.len()).map(|place| world.log(state, place).stated(kind)).sum::<u8>();
    !world.is_quiet(state) || stated(NotificationSent) + stated(NotificationFailed) == world.mails_due(state)
}

fn orders(world: &World, claim: impl Fn(usize, &str) -> bool) -> bool {
    world.order_ids.iter().enumerate().all(|(order, id)| claim(order, id))
}
