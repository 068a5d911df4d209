//! The six kinds of order, and what must come of each.

use quadrille_events::{Delivery, OrderRequested, Personal, RequestedLine};
use uuid::Uuid;

use crate::story::{End, Story};

/// A kind of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Everything is well.
    Good,
    /// Nobody knows who ordered.
    UnknownCustomer,
    /// More is wanted than there is.
    ShortOfStock,
    /// One SKU stands on two lines.
    TwoLines,
    /// The card is declined.
    Declined,
    /// Cancelled while the provider still thinks.
    Cancelled,
}

impl Kind {
    /// All six.
    pub const ALL: [Self; 6] =
        [Self::Good, Self::UnknownCustomer, Self::ShortOfStock, Self::TwoLines, Self::Declined, Self::Cancelled];

    /// A mixture: half of the orders are good, each other kind is a tenth.
    pub fn mixed(count: usize) -> impl Iterator<Item = Self> {
        (0..count).map(|number| *Self::ALL.get(number % 10).unwrap_or(&Self::Good))
    }

    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::UnknownCustomer => "unknown customer",
            Self::ShortOfStock => "short of stock",
            Self::TwoLines => "one SKU on two lines",
            Self::Declined => "declined",
            Self::Cancelled => "cancelled before confirmation",
        }
    }

    /// The end that is asked for.
    pub fn asked(self) -> End {
        let cancelled = |reason: &str| End::Cancelled(reason.to_owned());
        match self {
            Self::Good | Self::TwoLines => End::Delivered,
            Self::UnknownCustomer => cancelled("unknown_customer"),
            Self::ShortOfStock => cancelled("insufficient_stock"),
            Self::Declined => cancelled("declined"),
            Self::Cancelled => cancelled("requested"),
        }
    }

    /// What the payment provider must have done in the end: charges, refunds.
    pub fn money(self) -> (u64, u64) {
        match self {
            Self::Good | Self::TwoLines => (1, 0),
            Self::Cancelled => (1, 1),
            _ => (0, 0),
        }
    }
}

/// What is sold: one to sell plenty of, one of which there is too little.
#[derive(Clone, Debug)]
pub struct Goods {
    /// What this run's names have in common, and no other run's have.
    pub tag: String,
    /// There is plenty of it.
    pub plenty: String,
    /// There are [`FEW`].
    pub few: String,
    /// Who buys.
    pub customer: Uuid,
}

impl Goods {
    /// Goods that nobody knows of yet.
    pub fn new() -> Self {
        let tag = Uuid::new_v4().simple().to_string()[..6].to_uppercase();
        Self { plenty: format!("TEA-{tag}"), few: format!("CUP-{tag}"), customer: Uuid::new_v4(), tag }
    }
}

impl Default for Goods {
    fn default() -> Self {
        Self::new()
    }
}

/// How many of [`Goods::few`] there are: fewer than a short order wants.
pub const FEW: i32 = 3;

/// An order that was placed.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    /// Its id.
    pub id: Uuid,
    /// What it was placed for.
    pub kind: Kind,
}

impl Placed {
    /// A new order of this kind; nobody knows of it yet.
    pub fn new(kind: Kind) -> Self {
        Self { id: Uuid::new_v4(), kind }
    }

    /// Its key.
    pub fn key(&self) -> String {
        self.id.to_string()
    }

    /// What its customer asks for. `thinks_ms` is how long the provider thinks about an order that is to be cancelled meanwhile.
    pub fn request(&self, goods: &Goods, thinks_ms: u32) -> OrderRequested {
        let line = |sku: &str, quantity| RequestedLine::new(sku.to_owned(), quantity);
        let customer = if self.kind == Kind::UnknownCustomer { Uuid::new_v4() } else { goods.customer };
        let lines = match self.kind {
            Kind::ShortOfStock => vec![line(&goods.few, FEW + 2)],
            Kind::TwoLines => vec![line(&goods.plenty, 2), line(&goods.plenty, 3)],
            _ => vec![line(&goods.plenty, 2)],
        };
        let token = match self.kind {
            Kind::Declined => "tok_decline".to_owned(),
            Kind::Cancelled => format!("tok_slow_{thinks_ms}"),
            _ => "tok_approve".to_owned(),
        };
        // Should such an order be confirmed all the same (its cancellation came too late), its parcel is to be had back: it then
        // ends as asked, by a recall.
        let method = if self.kind == Kind::Cancelled { "keep" } else { "standard" };
        let personal = Personal {
            name: Some("Ann Example".to_owned()),
            address: Some("1 Harbour Street, 20095 Hamburg".to_owned()),
            ..Personal::default()
        };
        OrderRequested {
            lines,
            currency: "EUR".to_owned(),
            payment_token: token,
            delivery: Delivery { method: method.to_owned(), personal },
            ..OrderRequested::new(self.id, customer)
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
}
