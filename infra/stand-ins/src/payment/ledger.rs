//! What the provider did, and under which keys.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::Path,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::tokens;
use crate::{behaviour::Behaviour, journal::Journal, money::Cents, server::now_ms};

/// So many keys are kept; beyond that the provider is unavailable. About 200 MB.
const KEYS: usize = 500_000;

/// What kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Money is taken.
    Charge,
    /// It is given back.
    Refund,
}

/// A charge or a refund that the provider decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Charge or refund.
    pub kind: Kind,
    /// The provider's name for it: `ch_1`, `re_1`.
    pub id: String,
    /// The idempotency key that it was wanted under.
    pub key: String,
    /// The order that it was wanted for.
    pub order_id: String,
    /// How much.
    pub amount: Cents,
    /// Of what.
    pub currency: String,
    /// The card's token, or the id of the charge that a refund gives back.
    pub source: String,
    /// Whether it was done, or refused.
    pub accepted: bool,
    /// Why it was refused.
    #[serde(default)]
    pub reason: String,
    /// The same as a sentence.
    #[serde(default)]
    pub detail: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
}

/// What a request asks for.
pub(super) struct Wanted {
    pub order_id: String,
    pub amount: Cents,
    pub currency: String,
    pub source: String,
}

impl Wanted {
    pub fn check(&self) -> Result<(), String> {
        let short = |text: &str, limit| !text.is_empty() && text.len() <= limit;
        match self {
            _ if self.amount < Cents(1) => Err("amount: at least 0.01 is needed".to_owned()),
            _ if self.currency.len() != 3 => Err("currency: three letters are needed".to_owned()),
            _ if !short(&self.order_id, 100) => Err("order_id: 1 to 100 bytes are needed".to_owned()),
            _ if self.source.len() > 600 => Err("token, charge_id: at most 600 bytes are accepted".to_owned()),
            _ => Ok(()),
        }
    }

    fn is(&self, done: &Operation) -> bool {
        (&self.order_id, self.amount, &self.currency, &self.source)
            == (&done.order_id, done.amount, &done.currency, &done.source)
    }
}

/// What a request or a question is answered.
pub(super) enum Reply {
    /// The verdict, told after so many milliseconds.
    Verdict(Operation, u64),
    /// Nothing at all.
    Silence,
    /// 503.
    Unavailable,
    /// The key stands for something else.
    OtherContent,
}

/// How often a key came.
#[derive(Default, Serialize)]
struct Traffic {
    requests: u32,
    asked: u32,
    #[serde(skip)]
    decided: bool,
}

/// A line of the journal.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    /// A request that did nothing, or nothing again.
    Request(Kind, String),
    /// A request that was decided.
    Decided(Operation),
    /// All keys were forgotten.
    Forgot,
}

#[derive(Default)]
pub(super) struct Ledger {
    operations: Vec<Operation>,
    /// Keys that are remembered, and their operations.
    keys: HashMap<(Kind, String), usize>,
    traffic: HashMap<(Kind, String), Traffic>,
    /// Accepted charges, by the provider's name for them.
    charges: HashMap<String, usize>,
    /// How many refunds of a charge were refused.
    refusals: HashMap<String, u32>,
    journal: Journal,
}

impl Ledger {
    pub fn open(path: Option<&Path>) -> io::Result<Self> {
        let mut ledger = Self::default();
        let journal = Journal::open(path, |entry| ledger.fold(entry))?;
        Ok(Self { journal, ..ledger })
    }

    fn fold(&mut self, entry: Entry) {
        match entry {
            Entry::Request(kind, key) => self.traffic.entry((kind, key)).or_default().requests += 1,
            Entry::Forgot => self.keys.clear(),
            Entry::Decided(operation) => {
                let key = (operation.kind, operation.key.clone());
                let index = self.operations.len();
                let traffic = self.traffic.entry(key.clone()).or_default();
                traffic.requests += 1;
                traffic.decided = true;
                self.keys.insert(key, index);
                match (operation.kind, operation.accepted) {
                    (Kind::Charge, true) => drop(self.charges.insert(operation.id.clone(), index)),
                    (Kind::Refund, false) => *self.refusals.entry(operation.source.clone()).or_default() += 1,
                    _ => {}
                }
                self.operations.push(operation);
            }
        }
    }

    fn record(&mut self, entry: Entry) -> io::Result<()> {
        self.journal.append(&entry)?;
        self.fold(entry);
        Ok(())
    }

    /// A request to charge or to refund.
    pub fn request(&mut self, kind: Kind, key: String, wanted: Wanted) -> io::Result<Reply> {
        let id = (kind, key);
        let earlier = self.traffic.get(&id).map_or(0, |traffic| traffic.requests);
        if let Some(done) = self.keys.get(&id).map(|index| self.operations[*index].clone()) {
            self.record(Entry::Request(kind, id.1))?;
            return Ok(match wanted.is(&done) {
                true => self.verdict(done, 0),
                false => Reply::OtherContent,
            });
        }
        if self.traffic.len() >= KEYS {
            return Ok(Reply::Unavailable);
        }
        let behaviour = self.behaviour(kind, &wanted.source);
        if earlier < behaviour.fails {
            self.record(Entry::Request(kind, id.1))?;
            return Ok(Reply::Unavailable);
        }
        if behaviour.silent_before && earlier == 0 {
            self.record(Entry::Request(kind, id.1))?;
            return Ok(Reply::Silence);
        }
        let operation = self.decide(kind, id.1, wanted, &behaviour);
        self.record(Entry::Decided(operation.clone()))?;
        Ok(match behaviour.silent_after && earlier == 0 {
            true => Reply::Silence,
            false => self.verdict(operation, behaviour.slow_ms),
        })
    }

    /// What became of a key, or `None` where it is not known.
    pub fn ask(&mut self, kind: Kind, key: &str) -> Option<Reply> {
        let id = (kind, key.to_owned());
        if let Some(traffic) = self.traffic.get_mut(&id) {
            traffic.asked += 1;
        }
        let operation = self.operations[*self.keys.get(&id)?].clone();
        Some(self.verdict(operation, 0))
    }

    /// Forgets all keys and says how many.
    pub fn forget(&mut self) -> io::Result<usize> {
        let keys = self.keys.len();
        self.record(Entry::Forgot)?;
        Ok(keys)
    }

    fn behaviour(&self, kind: Kind, source: &str) -> Behaviour {
        if kind == Kind::Charge {
            return tokens::charge(source);
        }
        let Some(charge) = self.charges.get(source) else {
            return Behaviour::refusing("unknown_charge");
        };
        let mut behaviour = tokens::refund(&self.operations[*charge].source);
        if self.refusals.get(source).is_some_and(|refused| *refused >= behaviour.refuses) {
            behaviour.refuses = 0;
        }
        behaviour
    }

    fn decide(&self, kind: Kind, key: String, wanted: Wanted, behaviour: &Behaviour) -> Operation {
        let accepted = behaviour.refuses == 0;
        let prefix = if kind == Kind::Charge { "ch" } else { "re" };
        let deed = if kind == Kind::Charge { "charge" } else { "refund" };
        Operation {
            kind,
            id: format!("{prefix}_{}", self.operations.len() + 1),
            key,
            order_id: wanted.order_id,
            amount: wanted.amount,
            currency: wanted.currency,
            source: wanted.source,
            accepted,
            reason: if accepted { String::new() } else { behaviour.reason.clone() },
            detail: match accepted {
                true => String::new(),
                false => format!("The provider refused the {deed}: {}.", behaviour.reason.replace('_', " ")),
            },
            at_ms: now_ms(),
        }
    }

    /// The verdict, unless the token hides it still.
    fn verdict(&self, operation: Operation, slow_ms: u64) -> Reply {
        let hides = self.behaviour(operation.kind, &operation.source).hides;
        let traffic = self.traffic.get(&(operation.kind, operation.key.clone()));
        let answers = traffic.map_or(0, |traffic| traffic.requests.saturating_add(traffic.asked));
        match answers <= hides && hides > 0 {
            true => Reply::Unavailable,
            false => Reply::Verdict(operation, slow_ms),
        }
    }

    /// All of it, or one order's part.
    pub fn told(&self, order_id: Option<&str>) -> Value {
        let chosen = |operation: &&Operation| order_id.is_none_or(|order| operation.order_id == order);
        let mut orders = BTreeMap::<&str, Sums>::new();
        let (mut charges, mut refunds) = (vec![], vec![]);
        for operation in self.operations.iter().filter(chosen) {
            let traffic = self.traffic.get(&(operation.kind, operation.key.clone()));
            let mut line = json!(operation);
            line["requests"] = json!(traffic.map_or(0, |traffic| traffic.requests));
            line["asked"] = json!(traffic.map_or(0, |traffic| traffic.asked));
            let sums = orders.entry(&operation.order_id).or_default();
            let (lines, sum, count) = match operation.kind {
                Kind::Charge => (&mut charges, &mut sums.captured, &mut sums.charges),
                Kind::Refund => (&mut refunds, &mut sums.refunded, &mut sums.refunds),
            };
            lines.push(line);
            if operation.accepted {
                sum.0 += operation.amount.0;
                *count += 1;
            }
        }
        for sums in orders.values_mut() {
            sums.net = Cents(sums.captured.0 - sums.refunded.0);
        }
        let undecided = self.traffic.iter().filter(|(_, traffic)| !traffic.decided);
        let undecided = undecided.map(|((kind, key), traffic)| json!({"kind": kind, "key": key, "traffic": traffic}));
        json!({
            "charges": charges,
            "refunds": refunds,
            "orders": orders,
            "undecided": if order_id.is_none() { undecided.collect() } else { vec![] },
        })
    }
}

/// What an order came to.
#[derive(Default, Serialize)]
struct Sums {
    charges: u32,
    refunds: u32,
    captured: Cents,
    refunded: Cents,
    net: Cents,
}
