//! The kinds of order: how each is asked for, what its client does later, and what must come of it.

use quadrille_events::{Delivery, Money, OrderRequested, Personal, RequestedLine};
use uuid::Uuid;

use crate::story::{End, Story};

/// A kind of order. Its [`Plan`] tells all about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "Kind::plan names each")]
pub enum Kind {
    Good,
    UnknownCustomer,
    ShortOfStock,
    TwoLines,
    Declined,
    Cancelled,

    UnknownSku,
    OtherTotal,
    TotalOverflows,
    NoLines,
    TooManyLines,
    TooMany,
    MostLines,
    Most,
    Dearest,

    DeclinedLater,
    ChargeNotMade,
    ChargeTimedOut,
    ChargeUnknown,
    ChargeNeverTold,
    ChargeForgotten,
    PriceChanges,

    CancelledUnclaimed,
    CancelledAsCaptured,
    CancelledBeforeHandOver,
    CancelledInHandOver,
    CancelledOnTheWay,
    CancelledTooLate,
    CancelledTwice,

    RefundRefused,
    RefundUnknown,
    RefundNeverTold,

    CarrierRefuses,
    HandOverTimedOut,
    ParcelReturns,
    ParcelLost,

    ExpiresUnconfirmed,
    ExpiresOnTheWay,
    ExpiresAsCaptured,
    ExpiresAsDelivered,
    CapturedInTime,
    DeliveredInTime,

    SameAgain,
    OtherContentWhileOpen,
    OtherContentAfterDelivery,
    OtherContentAfterRejection,

    Deactivated,
    DeactivatedLater,
    AddressLate,
    AddressChanges,
    MailPutOff,
    MailRefused,
    MailCut,
    MailServerAway,
}

impl Kind {
    /// Six that together touch every service: what is placed by the hundred.
    pub const BASIC: [Self; 6] =
        [Self::Good, Self::UnknownCustomer, Self::ShortOfStock, Self::TwoLines, Self::Declined, Self::Cancelled];

    /// Those whose moment comes by itself, or by what their client does once it has seen a fact.
    pub const BY_THEMSELVES: [Self; 43] = [
        Self::Good,
        Self::UnknownCustomer,
        Self::ShortOfStock,
        Self::TwoLines,
        Self::Declined,
        Self::Cancelled,
        Self::UnknownSku,
        Self::OtherTotal,
        Self::TotalOverflows,
        Self::NoLines,
        Self::TooManyLines,
        Self::TooMany,
        Self::MostLines,
        Self::Most,
        Self::Dearest,
        Self::DeclinedLater,
        Self::ChargeNotMade,
        Self::ChargeTimedOut,
        Self::ChargeUnknown,
        Self::PriceChanges,
        Self::CancelledInHandOver,
        Self::CancelledOnTheWay,
        Self::CancelledTooLate,
        Self::CancelledTwice,
        Self::RefundRefused,
        Self::RefundUnknown,
        Self::CarrierRefuses,
        Self::HandOverTimedOut,
        Self::ParcelReturns,
        Self::ParcelLost,
        Self::ExpiresUnconfirmed,
        Self::ExpiresOnTheWay,
        Self::SameAgain,
        Self::OtherContentWhileOpen,
        Self::OtherContentAfterDelivery,
        Self::OtherContentAfterRejection,
        Self::Deactivated,
        Self::DeactivatedLater,
        Self::AddressLate,
        Self::AddressChanges,
        Self::MailPutOff,
        Self::MailRefused,
        Self::MailCut,
    ];

    /// A mixture of the basic ones: half of the orders are good, each other kind is a tenth.
    pub fn mixed(count: usize) -> impl Iterator<Item = Self> {
        (0..count).map(|number| *Self::BASIC.get(number % 10).unwrap_or(&Self::Good))
    }

    /// All about it.
    pub fn plan(self) -> Plan {
        use Deed::*;
        use When::*;
        match self {
            Self::Good => Plan::delivered("good", "every service does its part"),
            Self::UnknownCustomer => {
                Plan::cancelled("unknown customer", "unknown_customer", "nobody registered").by(Customer::Nobody)
            }
            Self::ShortOfStock => {
                Plan::cancelled("short of stock", "insufficient_stock", "5 are wanted, 3 are there: none is set aside")
                    .of(|goods| vec![line(&goods.few, FEW + 2)])
            }
            Self::TwoLines => Plan::delivered("one SKU on two lines", "2 and 3 are set aside as 5")
                .of(|goods| vec![line(&goods.plenty, 2), line(&goods.plenty, 3)]),
            Self::Declined => Plan::cancelled("declined", "declined", "the card is declined: the goods go back")
                .paid_by("tok_decline"),
            Self::Cancelled => Plan::cancelled(
                "cancelled before confirmation",
                "requested",
                "the provider still thinks: the charge comes, and is refunded",
            )
            .paid_by("tok_slow_4000")
            .money(1, 1)
            // Should it be confirmed all the same (its cancellation came too late), its parcel is to be had back: it then ends as
            // asked, by a recall.
            .delivered_by("keep")
            .then(&[(ChargeAtProvider, Cancel)]),

            Self::UnknownSku => Plan::rejected("unknown SKU", "unknown_sku", "it is not on the price list")
                .of(|goods| vec![line(&format!("NO-{}", goods.tag), 1)]),
            Self::OtherTotal => {
                Plan::rejected("price changed", "price_changed", "its expected_total is not today's total")
                    .expecting(Money::cents(1))
            }
            Self::TotalOverflows => Plan::rejected("total overflows", "overflow", "2 of the dearest are too much")
                .of(|goods| vec![line(&goods.dearest, 2)]),
            Self::NoLines => Plan::rejected("no lines", "bounds", "an order has 1 to 100 lines").of(|_| vec![]),
            Self::TooManyLines => Plan::rejected("101 lines", "bounds", "an order has 1 to 100 lines")
                .of(|goods| vec![line(&goods.cheapest, 1); 101]),
            Self::TooMany => Plan::rejected("1,000,001 pieces", "bounds", "a line has 1 to 1,000,000 pieces")
                .of(|goods| vec![line(&goods.cheapest, 1_000_001)]),
            Self::MostLines => {
                Plan::delivered("100 lines", "at the bound").of(|goods| vec![line(&goods.plenty, 1); 100])
            }
            Self::Most => Plan::delivered("1,000,000 pieces", "at the bound, and at the lowest price")
                .of(|goods| vec![line(&goods.cheapest, 1_000_000)]),
            Self::Dearest => {
                Plan::delivered("9,999,999,999.99 in all", "at the bound").of(|goods| vec![line(&goods.dearest, 1)])
            }

            Self::DeclinedLater => {
                Plan::cancelled("declined after two tries", "declined", "the provider is away twice, then declines")
                    .paid_by("tok_decline_after_two_tries")
            }
            Self::ChargeNotMade => Plan::delivered(
                "charge lost on its way",
                "no answer; asked, the provider knows nothing: charged by the next try",
            )
            .paid_by("tok_timeout_before"),
            Self::ChargeTimedOut => Plan::delivered(
                "charge's answer lost",
                "charged, but no answer; asked, the provider knows: charged once",
            )
            .paid_by("tok_timeout_after_charge"),
            Self::ChargeUnknown => {
                Plan::delivered("charge unknown for a while", "asked again until the provider says what it did")
                    .paid_by("tok_unknown_2")
            }
            Self::ChargeNeverTold => {
                Plan::delivered("charge never told", "charged, and the provider never says so: a person does")
                    .paid_by("tok_unknown")
            }
            Self::ChargeForgotten => Plan::cancelled(
                "charge lost for too long",
                "declined",
                "not charged, and too late to try again: a person says so",
            )
            .paid_by("tok_timeout_before"),
            Self::PriceChanges => {
                Plan::delivered("price changes before the charge", "it is charged what it was when it was ordered")
                    .of(|goods| vec![line(&goods.changing, 2)])
                    .paid_by("tok_fail_twice")
                    .then(&[(Heard("OrderCreated"), ChangePrice)])
            }

            Self::CancelledUnclaimed => {
                Plan::cancelled("cancelled, charge unclaimed", "requested", "the charge is withdrawn: nobody is asked")
            }
            Self::CancelledAsCaptured => {
                Plan::cancelled("cancelled, just captured", "requested", "the capture is not heard of yet: refunded")
                    .money(1, 1)
            }
            Self::CancelledBeforeHandOver => Plan::cancelled(
                "cancelled before the hand-over",
                "shipment_aborted",
                "the hand-over is withdrawn: no parcel leaves",
            )
            .money(1, 1)
            .stated(&[("OrderRecallRequested", 1)]),
            Self::CancelledInHandOver => Plan::cancelled(
                "cancelled during the hand-over",
                "shipment_recalled",
                "the recall waits for the carrier's answer, and then goes out",
            )
            .delivered_by("keep_accept_slow_3000")
            .money(1, 1)
            .stated(&[("OrderRecallRequested", 1)])
            .then(&[(ParcelAtCarrier, Cancel)]),
            Self::CancelledOnTheWay => {
                Plan::cancelled("cancelled on its way", "shipment_recalled", "the parcel is called back, then refunded")
                    .delivered_by("keep")
                    .money(1, 1)
                    .stated(&[("OrderRecallRequested", 1)])
                    .then(&[(Heard("OrderShipped"), Cancel)])
            }
            Self::CancelledTooLate => {
                Plan::delivered("cancelled too late", "the recall finds it delivered: a notice says so, money stays")
                    .delivered_by("recall_too_late")
                    .stated(&[("OrderRecallRequested", 1), ("OrderCancellationRefused", 1)])
                    .then(&[(Heard("OrderShipped"), Cancel)])
            }
            Self::CancelledTwice => Plan::cancelled(
                "cancelled twice",
                "shipment_recalled",
                "the second is refused: the recall is under way",
            )
            .delivered_by("recall_slow_2000")
            .money(1, 1)
            .stated(&[("OrderRecallRequested", 1), ("OrderCancellationRefused", 1)])
            .then(&[(Heard("OrderShipped"), Cancel), (Heard("OrderRecallRequested"), Cancel)]),

            Self::RefundRefused => Plan::cancelled(
                "refund refused, then retried",
                "shipment_recalled",
                "RefundFailed waits for a person, who asks again: a new key",
            )
            .paid_by("tok_refuse_refund_once")
            .delivered_by("keep")
            .money(1, 1)
            .stated(&[("OrderRecallRequested", 1), ("RefundFailed", 1)])
            .then(&[(Heard("OrderShipped"), Cancel), (Heard("RefundFailed"), RetryRefund)]),
            Self::RefundUnknown => Plan::cancelled(
                "refund unknown for a while",
                "shipment_recalled",
                "asked again until the provider says that it was done: once",
            )
            .paid_by("tok_refund_unknown_2")
            .delivered_by("keep")
            .money(1, 1)
            .stated(&[("OrderRecallRequested", 1)])
            .then(&[(Heard("OrderShipped"), Cancel)]),

            Self::RefundNeverTold => Plan::cancelled(
                "refund never told",
                "shipment_recalled",
                "given back, and the provider never says so: a person does",
            )
            .paid_by("tok_refund_unknown")
            .delivered_by("keep")
            .money(1, 1)
            .stated(&[("OrderRecallRequested", 1)])
            .then(&[(Heard("OrderShipped"), Cancel)]),

            Self::CarrierRefuses => {
                Plan::cancelled("carrier refuses", "shipment_aborted", "no parcel leaves: goods and money go back")
                    .delivered_by("refuse")
                    .money(1, 1)
            }
            Self::HandOverTimedOut => Plan::delivered(
                "hand-over's answer lost",
                "accepted, but no answer; asked, the carrier knows: one parcel",
            )
            .delivered_by("timeout_after_accept"),
            Self::ParcelReturns => {
                Plan::cancelled("parcel returns", "shipment_recalled", "the carrier brings it back: refunded")
                    .delivered_by("return")
                    .money(1, 1)
            }

            Self::ParcelLost => Plan::cancelled(
                "parcel lost",
                "shipment_recalled",
                "the carrier knows nothing; a person says what became of it",
            )
            .delivered_by("lose")
            .money(1, 1)
            .then(&[(InVain("track"), AnswerThatItReturned)]),

            Self::ExpiresUnconfirmed => Plan::cancelled(
                "deadline before confirmation",
                "expired",
                "the provider is silent for a minute; the charge comes, and is refunded",
            )
            .paid_by("tok_unknown_6")
            .money(1, 1)
            .confirmed_within(2_000),
            Self::ExpiresOnTheWay => Plan::cancelled(
                "deadline after confirmation",
                "shipment_recalled",
                "the parcel is on its way for too long: called back",
            )
            .delivered_by("keep")
            .money(1, 1)
            .ended_within(2_000)
            .stated(&[("OrderRecallRequested", 1)]),
            Self::ExpiresAsCaptured => {
                Plan::cancelled("deadline, just captured", "expired", "the capture is not heard of yet: refunded")
                    .money(1, 1)
                    .confirmed_within(2_000)
            }
            Self::ExpiresAsDelivered => {
                Plan::delivered("deadline, just delivered", "the recall comes too late, and nobody asked for it")
                    .ended_within(2_000)
                    .stated(&[("OrderRecallRequested", 1)])
            }

            Self::CapturedInTime => Plan::delivered(
                "deadline passed, captured before",
                "the order service was down; the answer lay on the topic, and is read first",
            )
            .paid_by("tok_slow_4000")
            .confirmed_within(6_000),
            Self::DeliveredInTime => Plan::delivered(
                "deadline passed, delivered before",
                "the order service was down; the answer lay on the topic: no recall",
            )
            .delivered_by("accept_slow_4000")
            .ended_within(6_000),

            Self::SameAgain => Plan::delivered("the same order again", "one order: a repeat has no answer of its own")
                .then(&[(Heard("OrderCreated"), SameAgain), (Heard("OrderDelivered"), SameAgain)]),
            Self::OtherContentWhileOpen => {
                Plan::delivered("its id again, other content", "refused; the first goes its way")
                    .paid_by("tok_fail_twice")
                    .stated(&[("OrderRequestRefused", 1)])
                    .then(&[(Heard("OrderCreated"), OtherContent)])
            }
            Self::OtherContentAfterDelivery => {
                Plan::delivered("the same after delivery", "refused; what was delivered stays delivered")
                    .stated(&[("OrderRequestRefused", 1)])
                    .then(&[(Heard("OrderDelivered"), OtherContent)])
            }
            Self::OtherContentAfterRejection => {
                Plan::rejected("the same after rejection", "unknown_sku", "refused: a rejection is final for its id")
                    .of(|goods| vec![line(&format!("NO-{}", goods.tag), 1)])
                    .stated(&[("OrderRequestRefused", 1)])
                    .then(&[(Heard("OrderRejected"), OtherContent)])
            }

            Self::Deactivated => {
                Plan::cancelled("customer deactivated", "deactivated_customer", "before the order: not verified")
                    .by(Customer::Deactivated)
            }
            Self::DeactivatedLater => {
                Plan::delivered("customer deactivated later", "verified is verified: the order goes its way")
                    .by(Customer::Own("ann"))
                    .paid_by("tok_fail_twice")
                    .then(&[(Heard("CustomerVerified"), Deactivate)])
            }
            Self::AddressLate => Plan::delivered("address known later", "the mails wait for it, and then go in order")
                .by(Customer::WithoutAddress)
                .then(&[(Heard("OrderShipped"), TellAddress)]),
            Self::AddressChanges => {
                Plan::delivered("address changes while a mail waits", "what was due before goes to the address of then")
                    .by(Customer::Own("defer451-twice"))
                    .then(&[(InVain("mail"), TellAddress)])
            }
            Self::MailPutOff => Plan::delivered("mail put off (451)", "tried again under its Message-ID")
                .by(Customer::Own("defer451-once")),
            Self::MailRefused => Plan::delivered("mail refused (550)", "stated as failed; the order goes its way")
                .by(Customer::Own("reject550"))
                .stated(&[("NotificationFailed", 2)]),
            Self::MailCut => Plan::delivered("mail cut after its text", "sent again: two copies, one Message-ID")
                .by(Customer::Own("cut-after-data-once")),
            Self::MailServerAway => {
                Plan::delivered("mail server away", "the mails go once it is back, in order").by(Customer::Own("ann"))
            }
        }
    }

    /// As people read it.
    pub fn name(self) -> &'static str {
        self.plan().name
    }

    /// The end that is asked for.
    pub fn asked(self) -> End {
        self.plan().end
    }
}

/// How an order is asked for, what its client does later, and what must come of it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// As people read it.
    pub name: &'static str,
    /// What comes of it, and why.
    pub why: &'static str,
    /// Who orders.
    pub customer: Customer,
    /// What is ordered.
    lines: fn(&Goods) -> Vec<RequestedLine>,
    token: &'static str,
    method: &'static str,
    expected_total: Option<Money>,
    confirm_within_ms: Option<i64>,
    end_within_ms: Option<i64>,
    /// What its client does, one after another, each once something has happened.
    pub later: &'static [(When, Deed)],
    /// The end that is asked for.
    pub end: End,
    /// What the payment provider must have done in the end: charges, refunds.
    pub money: (u64, u64),
    /// How often each fact off the straight path must be stated; those that are not named here, never.
    pub stated: &'static [(&'static str, u32)],
}

/// Facts off the straight path: an order's plan names those that must be stated of it.
pub const OFF_THE_PATH: [&str; 6] = [
    "OrderRequestRefused",
    "OrderRecallRequested",
    "OrderCancellationRefused",
    "RefundFailed",
    "PaymentRequestRefused",
    "NotificationFailed",
];

/// Who orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Customer {
    /// The customer of the goods.
    Shared,
    /// Nobody who is registered.
    Nobody,
    /// One of its own; the address begins with this word, which tells the mail catcher how to behave.
    Own(&'static str),
    /// One of its own, who has not told an address.
    WithoutAddress,
    /// One of its own, who was deactivated before.
    Deactivated,
}

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// This fact of its order.
    Heard(&'static str),
    /// Its effect of this kind was tried in vain.
    InVain(&'static str),
    /// The payment provider has the charge, whatever it has said of it.
    ChargeAtProvider,
    /// The carrier has the parcel, whatever it has said of it.
    ParcelAtCarrier,
}

/// What a client does then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Asks to cancel the order.
    Cancel,
    /// Sends the same order again.
    SameAgain,
    /// Sends another order under its id.
    OtherContent,
    /// Asks for the refused refund again.
    RetryRefund,
    /// States in the carrier's place that the parcel came back, as `quadrille effects answer` does.
    AnswerThatItReturned,
    /// Changes the price of [`Goods::changing`].
    ChangePrice,
    /// Asks to deactivate the customer.
    Deactivate,
    /// Tells the customer's address, or another one.
    TellAddress,
}

impl Plan {
    fn new(name: &'static str, why: &'static str, end: End) -> Self {
        Self {
            name,
            why,
            customer: Customer::Shared,
            lines: |goods| vec![line(&goods.plenty, 2)],
            token: "tok_approve",
            method: "standard",
            expected_total: None,
            confirm_within_ms: None,
            end_within_ms: None,
            later: &[],
            money: (u64::from(end == End::Delivered), 0),
            end,
            stated: &[],
        }
    }

    fn delivered(name: &'static str, why: &'static str) -> Self {
        Self::new(name, why, End::Delivered)
    }

    fn cancelled(name: &'static str, reason: &str, why: &'static str) -> Self {
        Self::new(name, why, End::Cancelled(reason.to_owned()))
    }

    fn rejected(name: &'static str, reason: &str, why: &'static str) -> Self {
        Self::new(name, why, End::Rejected(reason.to_owned()))
    }

    fn by(self, customer: Customer) -> Self {
        Self { customer, ..self }
    }

    fn of(self, lines: fn(&Goods) -> Vec<RequestedLine>) -> Self {
        Self { lines, ..self }
    }

    fn paid_by(self, token: &'static str) -> Self {
        Self { token, ..self }
    }

    fn delivered_by(self, method: &'static str) -> Self {
        Self { method, ..self }
    }

    fn expecting(self, total: Money) -> Self {
        Self { expected_total: Some(total), ..self }
    }

    fn confirmed_within(self, ms: i64) -> Self {
        Self { confirm_within_ms: Some(ms), ..self }
    }

    fn ended_within(self, ms: i64) -> Self {
        Self { end_within_ms: Some(ms), ..self }
    }

    fn then(self, later: &'static [(When, Deed)]) -> Self {
        Self { later, ..self }
    }

    fn money(self, charges: u64, refunds: u64) -> Self {
        Self { money: (charges, refunds), ..self }
    }

    fn stated(self, stated: &'static [(&'static str, u32)]) -> Self {
        Self { stated, ..self }
    }

    /// Whether all mails that its facts make due go, or fail: nobody who is not registered has an address.
    fn is_mailed(&self) -> bool {
        self.customer != Customer::Nobody
    }
}

fn line(sku: &str, quantity: i32) -> RequestedLine {
    RequestedLine::new(sku.to_owned(), quantity)
}

/// What is sold, and to whom.
#[derive(Clone, Debug)]
pub struct Goods {
    /// What this run's names have in common, and no other run's have.
    pub tag: String,
    /// There is plenty of it.
    pub plenty: String,
    /// There are [`FEW`].
    pub few: String,
    /// At the lowest price there is.
    pub cheapest: String,
    /// At the highest price there is.
    pub dearest: String,
    /// Its price changes while an order is under way.
    pub changing: String,
    /// Who buys.
    pub customer: Uuid,
}

/// How many of [`Goods::few`] there are: fewer than a short order wants.
pub const FEW: i32 = 3;

/// A product: how it is listed, and how much of it comes in.
pub struct Product<'a> {
    /// Its SKU.
    pub sku: &'a str,
    /// Its name.
    pub name: &'static str,
    /// Its price.
    pub price: Money,
    /// How much comes in.
    pub quantity: i32,
}

impl Goods {
    /// Goods that nobody knows of yet.
    pub fn new() -> Self {
        let tag = Uuid::new_v4().simple().to_string()[..6].to_uppercase();
        let sku = |name: &str| format!("{name}-{tag}");
        Self {
            plenty: sku("TEA"),
            few: sku("CUP"),
            cheapest: sku("PIN"),
            dearest: sku("GEM"),
            changing: sku("JAM"),
            customer: Uuid::new_v4(),
            tag,
        }
    }

    /// All that is sold.
    pub fn products(&self) -> [Product<'_>; 5] {
        let product = |sku, name, cents, quantity| Product { sku, name, price: Money::cents(cents), quantity };
        [
            product(&self.plenty, "Assam tea", 1_999, 1_000_000),
            product(&self.few, "A cup", 850, FEW),
            product(&self.cheapest, "A pin", 1, 1_000_000),
            product(&self.dearest, "A gem", 999_999_999_999, 10),
            product(&self.changing, "Jam", CHANGING_CENTS.0, 1_000),
        ]
    }
}

/// The price of [`Goods::changing`] at first and later, in cents.
pub const CHANGING_CENTS: (i64, i64) = (450, 475);

impl Default for Goods {
    fn default() -> Self {
        Self::new()
    }
}

/// An order that was placed.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    /// Its id.
    pub id: Uuid,
    /// What it was placed for.
    pub kind: Kind,
    /// Its customer, where it has one of its own.
    pub own_customer: Uuid,
}

impl Placed {
    /// A new order of this kind; nobody knows of it yet.
    pub fn new(kind: Kind) -> Self {
        Self { id: Uuid::new_v4(), kind, own_customer: Uuid::new_v4() }
    }

    /// Its key.
    pub fn key(&self) -> String {
        self.id.to_string()
    }

    /// Who orders.
    pub fn customer(&self, goods: &Goods) -> Uuid {
        match self.kind.plan().customer {
            Customer::Shared => goods.customer,
            _ => self.own_customer,
        }
    }

    /// What its customer asks for.
    pub fn request(&self, goods: &Goods) -> OrderRequested {
        let plan = self.kind.plan();
        let personal = Personal {
            name: Some("Ann Example".to_owned()),
            address: Some("1 Harbour Street, 20095 Hamburg".to_owned()),
            ..Personal::default()
        };
        OrderRequested {
            lines: (plan.lines)(goods),
            currency: "EUR".to_owned(),
            payment_token: plan.token.to_owned(),
            delivery: Delivery { method: plan.method.to_owned(), personal },
            expected_total: plan.expected_total,
            confirm_within_ms: plan.confirm_within_ms,
            end_within_ms: plan.end_within_ms,
            ..OrderRequested::new(self.id, self.customer(goods))
        }
    }

    /// Whether an end is what was asked for. An order that was to be cancelled before its confirmation may have been overtaken by it.
    pub fn ended_as_asked(&self, story: &Story) -> bool {
        match (story.end(), self.kind) {
            (Some(End::Cancelled(reason)), Kind::Cancelled) => {
                reason == "requested" || reason == "shipment_recalled" || reason == "shipment_aborted"
            }
            (Some(end), kind) => end == kind.asked(),
            (None, _) => false,
        }
    }

    /// Whether nothing more is to come: it has ended, all is undone that is to be undone, its mails are out, and what its plan names
    /// was stated.
    pub fn is_over(&self, story: &Story) -> bool {
        let plan = self.kind.plan();
        story.is_settled()
            && (!plan.is_mailed() || story.mails_owed() == 0)
            && u64::from(story.count("PaymentRefunded")) >= plan.money.1
            && plan.stated.iter().all(|(name, times)| story.count(name) >= *times)
    }

    /// What was stated off the straight path and is not in its plan, or the other way round.
    pub fn strays(&self, story: &Story) -> Vec<String> {
        let plan = self.kind.plan();
        let planned = |name| plan.stated.iter().find(|(planned, _)| *planned == name).map_or(0, |(_, times)| *times);
        let strays = OFF_THE_PATH.iter().filter(|name| story.count(name) != planned(**name));
        strays.map(|name| format!("{} {name} instead of {}", story.count(name), planned(name))).collect()
    }
}
