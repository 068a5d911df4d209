//! What the inventory decides: the contract's reaction table, row by row.

use std::collections::BTreeMap;

use quadrille_core::{Decision, Declaration, Envelope, Input, Moment, Nothing, Policy, Records, Row, rows};
use quadrille_events::{
    Money,
    bounds::{self, Fault},
    keys::SKU,
    order::{OrderDetails, OrderLine},
    product::{PriceChanged, ProductListed, ProductListingRequested},
    reservation::{
        MissingLine, ReservationCommitted, ReservationRejected, ReservationReleased, ReservedLine, StockReserved,
    },
    stock::{StockReplenished, StockReplenishmentRequested, StockRequestRefused},
};
use uuid::Uuid;

use crate::{Heard, Stated, choreography::CHOREOGRAPHY};

/// The inventory's policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inventory;

/// What is set aside for orders; the key is the order's id.
pub const RESERVATION: &str = "reservation";
/// Deliveries of goods that were counted; the key is the delivery's id.
pub const REPLENISHMENT: &str = "replenishment";
/// Products and their stock; the key is the SKU. Last, since a reservation's row tells which SKUs it holds.
pub const STOCK: &str = "stock";

/// The rows that inputs touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// See [`RESERVATION`].
    pub reservations: BTreeMap<String, Reservation>,
    /// See [`REPLENISHMENT`].
    pub replenishments: BTreeMap<String, Replenishment>,
    /// See [`STOCK`].
    pub stock: BTreeMap<String, Stock>,
}

rows! { State { reservations: RESERVATION, replenishments: REPLENISHMENT, stock: STOCK } }

/// What the inventory knows of an order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reservation {
    /// `ce_aggregateversion` of the order's last fact on `reservation.events`.
    pub version: i64,
    /// How far it has come.
    pub stage: Stage,
}

/// A reservation's stages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Nothing was heard of the order yet.
    #[default]
    New,
    /// The order was cancelled before the question came: kept, to answer the late question with a refusal.
    Ended,
    /// Nothing is set aside, and nothing will be.
    Rejected,
    /// Its goods are set aside.
    Reserved(Goods),
    /// Its goods left with the parcel.
    Committed(Goods),
    /// Its goods are available again.
    Released,
}

/// How many of each SKU.
pub type Goods = BTreeMap<String, i64>;

/// A delivery of goods. In its empty form until one was counted: a refused one leaves its id free.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Replenishment {
    /// What was counted.
    pub counted: Option<(String, i32)>,
}

/// A SKU's product and stock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stock {
    /// `ce_aggregateversion` of the SKU's last fact on `product.events`.
    pub product_version: i64,
    /// `ce_aggregateversion` of the SKU's last fact on `stock.events`.
    pub stock_version: i64,
    /// The product; none until it was listed.
    pub product: Option<Product>,
    /// All that ever came in.
    pub received: i64,
    /// What orders may still have.
    pub available: i64,
    /// What is set aside for orders.
    pub reserved: i64,
    /// What left with a parcel.
    pub committed: i64,
}

/// A listed product.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Product {
    /// Its name, fixed when it was listed.
    pub name: String,
    /// The price of one.
    pub price: Money,
    /// The price's currency, fixed when it was listed.
    pub currency: String,
}

impl Policy for Inventory {
    const SERVICE: &'static str = "inventory";
    const TABLES: &'static [&'static str] = &[RESERVATION, REPLENISHMENT, STOCK];
    const CHOREOGRAPHY: Declaration = CHOREOGRAPHY;
    type Heard = Heard;
    type Stated = Stated;
    type Effect = Nothing;
    type Outcome = Nothing;
    type Timer = Nothing;
    type Command = Nothing;
    type State = State;

    fn rows(state: &State, input: &Envelope<Self>) -> Vec<Row> {
        let mut rows = vec![];
        match heard(input) {
            Heard::ProductListingRequested(_) => rows.push(Row::new(STOCK, &input.key)),
            Heard::StockReplenishmentRequested(asked) => {
                rows.push(Row::new(REPLENISHMENT, asked.replenishment_id));
                rows.push(Row::new(STOCK, &input.key));
            }
            Heard::CustomerVerified(verified) => {
                rows.push(Row::new(RESERVATION, &input.key));
                rows.extend(verified.details.lines.iter().map(|line| Row::new(STOCK, sku(line))));
            }
            Heard::ShipmentDispatched(_) | Heard::OrderCancelled(_) => {
                rows.push(Row::new(RESERVATION, &input.key));
                if let Stage::Reserved(goods) | Stage::Committed(goods) = state.stage(&input.key) {
                    rows.extend(goods.keys().map(|sku| Row::new(STOCK, sku)));
                }
            }
        }
        rows
    }

    fn react(state: &State, _: &Moment, input: &Envelope<Self>) -> Decision<Self> {
        match (heard(input), state.stage(&input.key)) {
            (Heard::ProductListingRequested(asked), _) => list(state, &input.key, asked),
            (Heard::StockReplenishmentRequested(asked), _) => replenish(state, &input.key, asked),

            (Heard::CustomerVerified(verified), Stage::New) => reserve(state, verified.order_id, &verified.details),
            (Heard::CustomerVerified(verified), Stage::Ended) => Decision::fact(ReservationRejected {
                order_id: verified.order_id,
                reason: "order_cancelled".into(),
                missing: vec![],
                detail: "the order was cancelled before its goods were set aside".into(),
            }),
            (Heard::CustomerVerified(_), _) => Decision::nothing(),

            (Heard::ShipmentDispatched(left), Stage::Reserved(goods)) => {
                Decision::fact(ReservationCommitted { order_id: left.order_id, lines: lines(goods) })
            }
            (Heard::ShipmentDispatched(_), _) => Decision::nothing(),

            (Heard::OrderCancelled(cancelled), Stage::Reserved(goods) | Stage::Committed(goods)) => {
                Decision::fact(ReservationReleased { order_id: cancelled.order_id, lines: lines(goods) })
            }
            // New becomes Ended: see `evolve`.
            (Heard::OrderCancelled(_), _) => Decision::nothing(),
        }
    }

    fn evolve(state: &mut State, input: &Envelope<Self>, decision: &Decision<Self>) {
        for fact in &decision.facts {
            match fact {
                Stated::ProductListed(listed) => {
                    state.stock_mut(&input.key).product = Some(Product {
                        name: listed.name.clone(),
                        price: listed.price,
                        currency: listed.currency.clone(),
                    });
                }
                Stated::PriceChanged(changed) => {
                    if let Some(product) = &mut state.stock_mut(&input.key).product {
                        product.price = changed.price;
                    }
                }
                Stated::StockReplenished(replenished) => {
                    let stock = state.stock_mut(&input.key);
                    stock.received += i64::from(replenished.quantity);
                    stock.available += i64::from(replenished.quantity);
                    let id = replenished.replenishment_id.to_string();
                    state.replenishments.entry(id).or_default().counted =
                        Some((input.key.clone(), replenished.quantity));
                }
                Stated::StockRequestRefused(_) => {}
                Stated::StockReserved(reserved) => {
                    let goods = goods(&reserved.details.lines);
                    for (sku, quantity) in &goods {
                        let stock = state.stock_mut(sku);
                        stock.available -= quantity;
                        stock.reserved += quantity;
                    }
                    state.reservation_mut(&input.key).stage = Stage::Reserved(goods);
                }
                Stated::ReservationRejected(_) => state.reservation_mut(&input.key).stage = Stage::Rejected,
                Stated::ReservationCommitted(_) => {
                    let goods = state.take_goods(&input.key);
                    for (sku, quantity) in &goods {
                        let stock = state.stock_mut(sku);
                        stock.reserved -= quantity;
                        stock.committed += quantity;
                    }
                    state.reservation_mut(&input.key).stage = Stage::Committed(goods);
                }
                Stated::ReservationReleased(_) => {
                    let left = matches!(state.stage(&input.key), Stage::Committed(_));
                    for (sku, quantity) in &state.take_goods(&input.key) {
                        let stock = state.stock_mut(sku);
                        let held = if left { &mut stock.committed } else { &mut stock.reserved };
                        *held -= quantity;
                        stock.available += quantity;
                    }
                    state.reservation_mut(&input.key).stage = Stage::Released;
                }
            }
        }
        if let (Heard::OrderCancelled(_), Stage::New) = (heard(input), state.stage(&input.key)) {
            state.reservation_mut(&input.key).stage = Stage::Ended;
        }
    }

    fn version<'a>(state: &'a mut State, fact: &Stated) -> &'a mut i64 {
        let key = fact.key();
        match fact {
            Stated::ProductListed(_) | Stated::PriceChanged(_) => &mut state.stock_mut(&key).product_version,
            Stated::StockReplenished(_) | Stated::StockRequestRefused(_) => &mut state.stock_mut(&key).stock_version,
            Stated::StockReserved(_)
            | Stated::ReservationRejected(_)
            | Stated::ReservationCommitted(_)
            | Stated::ReservationReleased(_) => &mut state.reservation_mut(&key).version,
        }
    }
}

/// Lists a product, or gives it another price.
fn list(state: &State, sku: &str, asked: &ProductListingRequested) -> Decision<Inventory> {
    let refused = |reason: &str, fault: Fault| {
        Decision::fact(StockRequestRefused {
            sku: sku.to_owned(),
            request: "ProductListingRequested".into(),
            replenishment_id: None,
            reason: reason.into(),
            field: fault.field,
            detail: fault.detail,
        })
    };
    let name = match asked.name.as_str() {
        "" => Ok(()),
        name => bounds::filled_text("name", name),
    };
    let bounds =
        name.and_then(|()| price("price", asked.price)).and_then(|()| bounds::currency("currency", &asked.currency));
    if let Err(fault) = bounds {
        return refused("bounds", fault);
    }
    let Some(product) = state.stock.get(sku).and_then(|stock| stock.product.as_ref()) else {
        return Decision::fact(ProductListed {
            sku: sku.to_owned(),
            name: asked.name.clone(),
            price: asked.price,
            currency: asked.currency.clone(),
        });
    };
    if asked.currency != product.currency {
        let fix = format_args!("stay {}: list the product in another currency under another SKU", product.currency);
        return refused("other_currency", Fault::new("currency", fix));
    }
    // An empty name says nothing; another one cannot be carried out, and no answer at all would hide that.
    if !asked.name.is_empty() && asked.name != product.name {
        let fix = "stay as it was listed, or be left empty: a listed product's name does not change";
        return refused("conflicting_content", Fault::new("name", fix));
    }
    if asked.price == product.price {
        return Decision::nothing();
    }
    Decision::fact(PriceChanged {
        sku: sku.to_owned(),
        price: asked.price,
        currency: product.currency.clone(),
        old_price: product.price,
    })
}

/// Counts goods that came in, once per delivery.
fn replenish(state: &State, sku: &str, asked: &StockReplenishmentRequested) -> Decision<Inventory> {
    let refused = |reason: &str, fault: Fault| {
        Decision::fact(StockRequestRefused {
            sku: sku.to_owned(),
            request: "StockReplenishmentRequested".into(),
            replenishment_id: Some(asked.replenishment_id),
            reason: reason.into(),
            field: fault.field,
            detail: fault.detail,
        })
    };
    let counted = state.replenishments.get(&asked.replenishment_id.to_string());
    if let Some((counted_sku, quantity)) = counted.and_then(|replenishment| replenishment.counted.as_ref()) {
        if counted_sku == sku && *quantity == asked.quantity {
            return Decision::nothing();
        }
        let fix = "be new for each delivery of goods: this one was counted with another SKU or quantity";
        return refused("conflicting_content", Fault::new("replenishment_id", fix));
    }
    if let Err(fault) = bounds::quantity("quantity", asked.quantity) {
        return refused("bounds", fault);
    }
    if state.stock.get(sku).is_none_or(|stock| stock.product.is_none()) {
        let fix = "be of a listed product: list it first, then send this delivery again";
        return refused("unknown_sku", Fault::new("sku", fix));
    }
    Decision::fact(StockReplenished {
        sku: sku.to_owned(),
        replenishment_id: asked.replenishment_id,
        quantity: asked.quantity,
    })
}

/// Sets all of an order's goods aside, or none.
fn reserve(state: &State, order_id: Uuid, details: &OrderDetails) -> Decision<Inventory> {
    let rejected = |reason: &str, missing: Vec<MissingLine>, detail: String| {
        Decision::fact(ReservationRejected { order_id, reason: reason.into(), missing, detail })
    };
    // The order service checked this; an event made by someone else must not take goods from the shelf all the same.
    for (index, line) in details.lines.iter().enumerate() {
        if let Err(fault) = bounds::quantity(format_args!("details.lines[{index}].quantity"), line.quantity) {
            return rejected("bounds", vec![], fault.detail);
        }
    }
    let goods = goods(&details.lines);
    let missing: Vec<MissingLine> = goods
        .iter()
        .map(|(sku, wanted)| (sku, *wanted, state.stock.get(sku).map_or(0, |stock| stock.available)))
        .filter(|(_, wanted, available)| wanted > available)
        .map(|(sku, wanted, available)| MissingLine { sku: sku.clone(), wanted, available })
        .collect();
    if missing.is_empty() {
        return Decision::fact(StockReserved { order_id, details: details.clone() });
    }
    let short =
        missing.iter().map(|line| format!("{} of {} wanted, {} available", line.wanted, line.sku, line.available));
    // `missing` has them all; a sentence of a hundred SKUs is none.
    let mut detail: Vec<String> = short.take(3).collect();
    if missing.len() > detail.len() {
        detail.push(format!("and {} more SKUs", missing.len() - detail.len()));
    }
    rejected("insufficient_stock", missing, detail.join("; "))
}

fn price(field: &str, price: Money) -> Result<(), Fault> {
    if (Money::cents(1)..=Money::MAX).contains(&price) {
        Ok(())
    } else {
        Err(Fault::new(field, format_args!("be from 0.01 to {}", Money::MAX)))
    }
}

/// Quantities per SKU, summed over lines: one SKU may stand on several.
fn goods(lines: &[OrderLine]) -> Goods {
    let mut goods = Goods::new();
    for line in lines {
        *goods.entry(sku(line)).or_default() += i64::from(line.quantity);
    }
    goods
}

/// A line's SKU in its normal form. What is no SKU stays as it is: no stock has that name.
fn sku(line: &OrderLine) -> String {
    SKU.normal_form(&line.sku).unwrap_or_else(|| line.sku.clone())
}

fn lines(goods: &Goods) -> Vec<ReservedLine> {
    goods
        .iter()
        .map(|(sku, quantity)| ReservedLine {
            sku: sku.clone(),
            // 100 lines of a million each at most: far from the end of an i32.
            quantity: i32::try_from(*quantity).unwrap_or(i32::MAX),
        })
        .collect()
}

fn heard(input: &Envelope<Inventory>) -> &Heard {
    match &input.input {
        Input::Record(heard) => heard,
        Input::Gone(never) | Input::Timer(never) | Input::Command(never) | Input::Outcome { outcome: never, .. } => {
            match *never {}
        }
    }
}

impl State {
    fn stage(&self, order: &str) -> &Stage {
        self.reservations.get(order).map_or(&Stage::New, |reservation| &reservation.stage)
    }

    fn reservation_mut(&mut self, order: &str) -> &mut Reservation {
        self.reservations.entry(order.to_owned()).or_default()
    }

    fn stock_mut(&mut self, sku: &str) -> &mut Stock {
        self.stock.entry(sku.to_owned()).or_default()
    }

    /// What an order holds, out of its reservation.
    fn take_goods(&mut self, order: &str) -> Goods {
        match std::mem::take(&mut self.reservation_mut(order).stage) {
            Stage::Reserved(goods) | Stage::Committed(goods) => goods,
            Stage::New | Stage::Ended | Stage::Rejected | Stage::Released => Goods::new(),
        }
    }
}
