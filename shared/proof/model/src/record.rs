//! Records: what services state and clients ask, as it lies in a topic.

use std::collections::BTreeMap;

use quadrille_core::{Fact, Policy, Record as Typed, RecordType, Records as _, ids};
use quadrille_events::records_named;
use uuid::Uuid;

use crate::interner::Interner;

macro_rules! kinds {
    ($($name:ident),+ $(,)?) => {
        /// A record type of the shop, by its short name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)]
        pub enum Kind { $($name),+ }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The short name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }
        }
    };
}

kinds! {
    // requests
    UserRegistrationRequested, UserProfileUpdateRequested, UserDeactivationRequested, ProductListingRequested, StockReplenishmentRequested,
    OrderRequested, OrderCancellationRequested, RefundRetryRequested,
    // user.events, verification.events
    UserRegistered, UserRegistrationRejected, UserProfileUpdated, UserDeactivated, UserRequestRefused,
    CustomerVerified, CustomerRejected,
    // product.events, stock.events, reservation.events
    ProductListed, PriceChanged, StockReplenished, StockRequestRefused,
    StockReserved, ReservationRejected, ReservationCommitted, ReservationReleased,
    // order.events
    OrderCreated, OrderRejected, OrderRequestRefused, OrderConfirmed, OrderShipped, OrderDelivered, OrderCancelled,
    OrderRecallRequested, OrderCancellationRefused,
    // payment.events, shipment.events, notification.events
    PaymentCaptured, PaymentDeclined, PaymentRefunded, RefundFailed, PaymentRequestRefused,
    ShipmentDispatched, ShipmentDelivered, ShipmentAborted, ShipmentRecalled,
    NotificationSent, NotificationFailed,
}

/// A record with what its headers say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// Its type.
    pub kind: Kind,
    /// Its topic.
    pub topic: &'static str,
    /// Its key.
    pub key: String,
    /// `ce_aggregateversion`; 0 for a request.
    pub version: i64,
    /// The input id that it has for whoever hears it.
    pub id: Uuid,
    /// `ce_causationid`; a request's own id.
    pub cause: Uuid,
    /// What a client calls its request; empty for a fact.
    pub ce_id: String,
    /// The Avro datum, by our own schema.
    pub datum: Vec<u8>,
    /// Its type and its `reason`, where it has one: what claims tell endings apart by, `OrderCancelled/expired`.
    pub label: String,
    /// The baton, as it carries it, where it does.
    pub baton: Option<String>,
    /// How many of each SKU it speaks of: the baton's lines summed, or one delivery of goods.
    pub goods: BTreeMap<String, i64>,
}

/// All records of a world.
pub type Records = Interner<Record>;

impl Kind {
    /// The type of that full name.
    ///
    /// # Panics
    /// Where the list above lacks it.
    pub fn named(full: &str) -> Self {
        let short = full.rsplit('.').next().unwrap_or(full);
        *Self::ALL.iter().find(|kind| kind.name() == short).unwrap_or_else(|| panic!("record.rs does not list {full}"))
    }
}

impl Record {
    /// The request of the client `source` under the id `ce_id`.
    pub fn request<R: Typed>(request: &R, source: &str, ce_id: &str) -> Self {
        let key = request.key();
        let id = ids::request(&R::TYPE.topic.name, &key, R::TYPE.name, source, ce_id);
        let mut datum = vec![];
        request.encode(&mut datum);
        Self { ce_id: ce_id.to_owned(), ..Self::new(&R::TYPE, key, 0, id, id, datum) }
    }

    /// A fact as the relay publishes it.
    pub fn fact<P: Policy>(fact: &Fact<P>) -> Self {
        let mut datum = vec![];
        fact.record.encode(&mut datum);
        let (ty, key) = (fact.record.record_type(), fact.key.clone());
        match (fact.version, fact.cause) {
            (Some(version), Some(cause)) => Self::new(ty, key, version, fact.id, cause, datum),
            _ => {
                let (source, ce_id) = (format!("/quadrille/{}", P::SERVICE), fact.id.to_string());
                let id = ids::request(&ty.topic.name, &key, ty.name, &source, &ce_id);
                Self { ce_id, ..Self::new(ty, key, 0, id, id, datum) }
            }
        }
    }

    fn new(ty: &RecordType, key: String, version: i64, id: Uuid, cause: Uuid, datum: Vec<u8>) -> Self {
        let info = records_named(ty.name).next();
        let json = info.and_then(|info| info.to_json(&datum).ok()).unwrap_or_default();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap_or_default();
        let kind = Kind::named(ty.name);
        let label = match json["reason"].as_str() {
            None | Some("") => kind.name().to_owned(),
            Some(reason) => format!("{}/{reason}", kind.name()),
        };
        let baton = json["details"].is_object().then(|| json["details"].to_string());
        let mut goods = BTreeMap::new();
        for line in json["details"]["lines"].as_array().into_iter().flatten().chain([&json]) {
            if let (Some(sku), Some(quantity)) = (line["sku"].as_str(), line["quantity"].as_i64()) {
                *goods.entry(sku.to_owned()).or_default() += quantity;
            }
        }
        Self { kind, topic: &ty.topic.name, key, version, id, cause, ce_id: String::new(), datum, label, baton, goods }
    }
}
