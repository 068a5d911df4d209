//! All that is tried, with the world in which it is caught and the claim that it breaks.

use super::{Altered, inventory, order, payment, shipping, user};
use crate::{
    cast::{Mutant, play, stocked},
    flaw::Flaw,
    spec::Spec,
    worlds,
};

/// One thing that is wrong.
pub struct Mutation {
    /// What.
    pub what: &'static str,
    /// Where.
    pub wrong: Wrong,
    /// The world in which it is caught.
    pub world: fn() -> Spec,
    /// The claim that it breaks.
    pub breaks: &'static str,
    /// After how many steps, at least.
    pub steps: usize,
}

/// Where something is wrong.
#[derive(Clone, Copy)]
pub enum Wrong {
    /// In a policy.
    Policy(Mutant),
    /// In the runtime.
    Runtime(Flaw),
}

const fn policy(
    what: &'static str,
    mutant: Mutant,
    world: fn() -> Spec,
    breaks: &'static str,
    steps: usize,
) -> Mutation {
    Mutation { what, wrong: Wrong::Policy(mutant), world, breaks, steps }
}

const fn runtime(what: &'static str, flaw: Flaw, world: fn() -> Spec, breaks: &'static str, steps: usize) -> Mutation {
    Mutation { what, wrong: Wrong::Runtime(flaw), world, breaks, steps }
}

/// All of them, but those of locks: see [`locks`](crate::locks).
pub const TABLE: &[Mutation] = &[
    runtime(
        "event ids made of the position in place of the type",
        Flaw::IdsByPosition,
        worlds::forgotten_requests,
        "an id stands for one type (5)",
        3,
    ),
    runtime(
        "a timer's or an outcome's event with its setter's id",
        Flaw::SettersId,
        worlds::one_order,
        "at the end every accepted order has ended (3)",
        8,
    ),
    policy(
        "a recall answered ShipmentAborted while the hand-over is under way",
        play::<Altered<shipping::AbortsUnderWay>>,
        worlds::one_order,
        "shipping states where the parcel is (4)",
        12,
    ),
    policy(
        "ShipmentRecalled before the carrier answered",
        play::<Altered<shipping::RecalledAtOnce>>,
        worlds::one_order,
        "shipping states where the parcel is (4)",
        13,
    ),
    policy(
        "OrderCancelled during a charge ignored",
        play::<Altered<payment::CancellationDuringChargeIgnored>>,
        worlds::one_order,
        "at the end a cancelled order holds nothing (2, 4)",
        11,
    ),
    runtime(
        "an unknown charge taken for declined",
        Flaw::UnknownIsDeclined,
        worlds::one_order,
        "payment states what the provider did (2)",
        7,
    ),
    policy(
        "OrderCancelled before CustomerVerified not remembered",
        stocked::<Altered<inventory::EarlyCancellationForgotten>>,
        worlds::one_order,
        "at the end a cancelled order holds nothing (2, 4)",
        9,
    ),
    policy(
        "OrderCancelled before StockReserved not remembered",
        play::<Altered<payment::EarlyCancellationForgotten>>,
        worlds::one_order,
        "at the end a cancelled order holds nothing (2, 4)",
        11,
    ),
    policy(
        "a deadline after the confirmation that cancels",
        play::<Altered<order::EndByCancels>>,
        worlds::one_order,
        "no parcel is with the customer after OrderCancelled (4)",
        12,
    ),
    policy(
        "no deadline to end",
        play::<Altered<order::NoEndBy>>,
        worlds::parked,
        "a dead letter that raises no alarm leaves no order open and nothing of a cancelled one",
        9,
    ),
    policy(
        "the carrier's lateness taken for an abort",
        play::<Altered<shipping::LateIsAborted>>,
        worlds::one_order,
        "shipping states where the parcel is (4)",
        13,
    ),
    runtime(
        "a reservation that expires by its own clock",
        Flaw::OwnClock,
        worlds::one_order,
        "no question is answered twice or unasked (9)",
        5,
    ),
    policy(
        "the release of a committed reservation ignored",
        stocked::<Altered<inventory::CommittedStays>>,
        worlds::one_order,
        "at the end a cancelled order holds nothing (2, 4)",
        21,
    ),
    policy(
        "shipping's unasked last word ignored",
        play::<Altered<order::OnlyAskedWordsCount>>,
        worlds::one_order,
        "at the end every accepted order has ended (3)",
        13,
    ),
    policy(
        "ShipmentDelivered during a recall ignored",
        play::<Altered<order::DeliveryDuringRecallIgnored>>,
        worlds::one_order,
        "at the end every accepted order has ended (3)",
        18,
    ),
    runtime(
        "a redriven refund under the same key",
        Flaw::OneKeyForAllTries,
        worlds::one_order,
        "at the end every question is answered (9)",
        16,
    ),
    policy(
        "a refund that is stated by nobody",
        play::<Altered<payment::RefundUntold>>,
        worlds::one_order,
        "at the end every question is answered (9)",
        13,
    ),
    runtime(
        "a new key on the retry of an unknown refund",
        Flaw::NewKeyOnRetry,
        worlds::one_order,
        "an order is captured and refunded at most once (2)",
        11,
    ),
    policy(
        "OrderRejected as the answer to other content",
        play::<Altered<order::OtherContentIsRejected>>,
        worlds::requests,
        "an order ends once, and then only refusals are stated (3)",
        3,
    ),
    runtime(
        "a client's id that silences another input",
        Flaw::BareClientIds,
        worlds::requests,
        "every request is answered, once (9)",
        2,
    ),
    policy(
        "lines of one SKU checked one by one",
        stocked::<Altered<inventory::LineByLine>>,
        worlds::two_skus,
        "stock is never negative and adds up (1)",
        3,
    ),
    policy(
        "a reservation of some of the SKUs",
        stocked::<Altered<inventory::SomeIsEnough>>,
        worlds::two_skus,
        "what is set aside is what orders hold (1)",
        3,
    ),
    policy(
        "user's verdict not kept",
        play::<Altered<user::VerdictForgotten>>,
        worlds::forgetful,
        "versions are consecutive, repeats are exact (5, 6)",
        4,
    ),
    runtime("inbox off", Flaw::NoInbox, worlds::rewind, "versions are consecutive, repeats are exact (5, 6)", 2),
    policy(
        "an end of shipping that does not absorb a parked event's return",
        play::<Altered<shipping::EndForgotten>>,
        worlds::parked,
        "no question is answered twice or unasked (9)",
        13,
    ),
    policy(
        "an end of payment that does not absorb a parked event's return",
        play::<Altered<payment::EndForgotten>>,
        worlds::parked,
        "at the end a cancelled order holds nothing (2, 4)",
        11,
    ),
];
