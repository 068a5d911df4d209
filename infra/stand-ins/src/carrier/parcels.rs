//! The parcels that the carrier has taken, where they are, and under which keys it was asked.

use std::{collections::HashMap, io, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::methods::{End, Recalled, method};
use crate::{journal::Journal, server::now_ms};

/// So many parcels are kept; beyond that the carrier is unavailable. About 150 MB.
const PARCELS: usize = 500_000;

/// A parcel that was handed over, or refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Parcel {
    /// The idempotency key of its hand-over.
    key: String,
    order_id: String,
    method: String,
    /// The carrier's name for it, where it was accepted.
    tracking_id: Option<String>,
    /// When its way ends, and how.
    ends_at_ms: i64,
    end: End,
    at_ms: i64,
}

/// What a request or a question is answered.
pub(super) enum Reply {
    Accepted { tracking_id: String },
    Refused { reason: String, detail: String },
    Whereabouts(&'static str, String),
    NothingKnown,
    UnknownKey,
    Silence,
    Unavailable,
    OtherContent,
}

/// A line of the journal.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    /// A request that did nothing, or nothing again.
    Request(String),
    /// A parcel that was accepted or refused.
    HandOver(Parcel),
    /// A parcel that was called back.
    Recall { key: String, tracking_id: String, ends_at_ms: i64, end: End },
    /// All keys were forgotten.
    Forgot,
}

/// How often a key came.
#[derive(Clone, Copy, Default)]
struct Traffic {
    requests: u32,
    asked: u32,
}

#[derive(Default)]
pub(super) struct Parcels {
    delivers_after_ms: i64,
    parcels: Vec<Parcel>,
    by_tracking_id: HashMap<String, usize>,
    /// Keys of hand-overs and of recalls that are remembered, and their parcels.
    hand_overs: HashMap<String, usize>,
    recalls: HashMap<String, usize>,
    traffic: HashMap<String, Traffic>,
    journal: Journal,
}

impl Parcels {
    pub fn open(path: Option<&Path>, delivers_after_ms: i64) -> io::Result<Self> {
        let mut parcels = Self { delivers_after_ms, ..Self::default() };
        let journal = Journal::open(path, |entry| parcels.fold(entry))?;
        Ok(Self { journal, ..parcels })
    }

    fn fold(&mut self, entry: Entry) {
        match entry {
            Entry::Request(key) => self.traffic.entry(key).or_default().requests += 1,
            Entry::HandOver(parcel) => {
                let index = self.parcels.len();
                self.traffic.entry(parcel.key.clone()).or_default().requests += 1;
                self.hand_overs.insert(parcel.key.clone(), index);
                if let Some(tracking_id) = &parcel.tracking_id {
                    self.by_tracking_id.insert(tracking_id.clone(), index);
                }
                self.parcels.push(parcel);
            }
            Entry::Recall { key, tracking_id, ends_at_ms, end } => {
                self.traffic.entry(key.clone()).or_default().requests += 1;
                if let Some(index) = self.by_tracking_id.get(&tracking_id) {
                    self.recalls.insert(key, *index);
                    let parcel = &mut self.parcels[*index];
                    (parcel.ends_at_ms, parcel.end) = (ends_at_ms, end);
                }
            }
            Entry::Forgot => {
                self.hand_overs.clear();
                self.recalls.clear();
            }
        }
    }

    fn record(&mut self, entry: Entry) -> io::Result<()> {
        self.journal.append(&entry)?;
        self.fold(entry);
        Ok(())
    }

    fn requests(&self, key: &str) -> u32 {
        self.traffic.get(key).map_or(0, |traffic| traffic.requests)
    }

    fn asked(&mut self, key: &str) {
        if let Some(traffic) = self.traffic.get_mut(key) {
            traffic.asked += 1;
        }
    }

    /// Whether what became of `key` is hidden still.
    fn hides(&self, key: &str, hides: u32) -> bool {
        let Traffic { requests, asked } = self.traffic.get(key).copied().unwrap_or_default();
        hides > 0 && requests.saturating_add(asked) <= hides
    }

    /// A parcel is handed over.
    pub fn hand_over(&mut self, key: String, order_id: String, name: String) -> io::Result<Reply> {
        let earlier = self.requests(&key);
        if let Some(index) = self.hand_overs.get(&key).copied() {
            let parcel = &self.parcels[index];
            let same = (&parcel.order_id, &parcel.method) == (&order_id, &name);
            self.record(Entry::Request(key))?;
            return Ok(if same { self.accepted(index) } else { Reply::OtherContent });
        }
        if self.traffic.len() >= PARCELS {
            return Ok(Reply::Unavailable);
        }
        let method = method(&name);
        if earlier < method.hand_over.fails {
            self.record(Entry::Request(key))?;
            return Ok(Reply::Unavailable);
        }
        if method.hand_over.silent_before && earlier == 0 {
            self.record(Entry::Request(key))?;
            return Ok(Reply::Silence);
        }
        let (index, now) = (self.parcels.len(), now_ms());
        self.record(Entry::HandOver(Parcel {
            key,
            order_id,
            method: name,
            tracking_id: (method.hand_over.refuses == 0).then(|| format!("PARCEL-{}", index + 1)),
            ends_at_ms: now + method.way_ms.unwrap_or(self.delivers_after_ms),
            end: method.end,
            at_ms: now,
        }))?;
        Ok(match method.hand_over.silent_after && earlier == 0 {
            true => Reply::Silence,
            false => self.accepted(index),
        })
    }

    /// What became of a hand-over's key.
    pub fn ask_hand_over(&mut self, key: &str) -> Reply {
        self.asked(key);
        match self.hand_overs.get(key) {
            Some(index) => self.accepted(*index),
            None => Reply::UnknownKey,
        }
    }

    fn accepted(&self, index: usize) -> Reply {
        let parcel = &self.parcels[index];
        let hand_over = method(&parcel.method).hand_over;
        match parcel.tracking_id.clone() {
            _ if self.hides(&parcel.key, hand_over.hides) => Reply::Unavailable,
            Some(tracking_id) => Reply::Accepted { tracking_id },
            None => Reply::Refused {
                detail: format!("The carrier refused the parcel: {}.", hand_over.reason.replace('_', " ")),
                reason: hand_over.reason,
            },
        }
    }

    /// Where a parcel is.
    pub fn track(&self, tracking_id: &str) -> Reply {
        match self.by_tracking_id.get(tracking_id) {
            Some(index) => self.whereabouts(*index),
            None => Reply::NothingKnown,
        }
    }

    fn whereabouts(&self, index: usize) -> Reply {
        let parcel = &self.parcels[index];
        let status = match parcel.end {
            End::Lost => return Reply::NothingKnown,
            _ if now_ms() < parcel.ends_at_ms => "under_way",
            End::Delivered => "delivered",
            End::Returned => "returned",
        };
        Reply::Whereabouts(status, parcel.tracking_id.clone().unwrap_or_default())
    }

    /// A parcel is called back.
    pub fn recall(&mut self, key: String, tracking_id: &str) -> io::Result<Reply> {
        let earlier = self.requests(&key);
        if let Some(index) = self.recalls.get(&key).copied() {
            let same = self.parcels[index].tracking_id.as_deref() == Some(tracking_id);
            self.record(Entry::Request(key.clone()))?;
            return Ok(if same { self.recalled(&key, index) } else { Reply::OtherContent });
        }
        let Some(index) = self.by_tracking_id.get(tracking_id).copied() else {
            return Ok(Reply::NothingKnown);
        };
        if self.traffic.len() >= 2 * PARCELS {
            return Ok(Reply::Unavailable);
        }
        let method = method(&self.parcels[index].method);
        if earlier < method.recall.fails {
            self.record(Entry::Request(key))?;
            return Ok(Reply::Unavailable);
        }
        if method.recall.silent_before && earlier == 0 {
            self.record(Entry::Request(key))?;
            return Ok(Reply::Silence);
        }
        let (parcel, now) = (&self.parcels[index], now_ms());
        let under_way = parcel.end != End::Lost && now < parcel.ends_at_ms;
        let (ends_at_ms, end) = match method.recalled {
            _ if !under_way => (parcel.ends_at_ms, parcel.end),
            Recalled::Back => (now, End::Returned),
            Recalled::BackAfter(ms) => (now + ms, End::Returned),
            Recalled::TooLate => (now, End::Delivered),
        };
        let tracking_id = tracking_id.to_owned();
        self.record(Entry::Recall { key: key.clone(), tracking_id, ends_at_ms, end })?;
        Ok(match method.recall.silent_after && earlier == 0 {
            true => Reply::Silence,
            false => self.recalled(&key, index),
        })
    }

    /// What became of a recall's key.
    pub fn ask_recall(&mut self, key: &str) -> Reply {
        self.asked(key);
        match self.recalls.get(key) {
            Some(index) => self.recalled(key, *index),
            None => Reply::UnknownKey,
        }
    }

    fn recalled(&self, key: &str, index: usize) -> Reply {
        match self.hides(key, method(&self.parcels[index].method).recall.hides) {
            true => Reply::Unavailable,
            false => self.whereabouts(index),
        }
    }

    /// Forgets all keys and says how many.
    pub fn forget(&mut self) -> io::Result<usize> {
        let keys = self.hand_overs.len() + self.recalls.len();
        self.record(Entry::Forgot)?;
        Ok(keys)
    }

    /// All parcels, or one order's.
    pub fn told(&self, order_id: Option<&str>) -> Value {
        let chosen = self.parcels.iter().enumerate();
        let chosen = chosen.filter(|(_, parcel)| order_id.is_none_or(|order| parcel.order_id == order));
        let lines = chosen.map(|(index, parcel)| {
            let status = match (&parcel.tracking_id, self.whereabouts(index)) {
                (None, _) => "refused",
                (Some(_), Reply::Whereabouts(status, _)) => status,
                (Some(_), _) => "lost",
            };
            let mut line = json!(parcel);
            line["status"] = json!(status);
            line["requests"] = json!(self.requests(&parcel.key));
            line["asked"] = json!(self.traffic.get(&parcel.key).map_or(0, |traffic| traffic.asked));
            line
        });
        json!({ "parcels": lines.collect::<Vec<_>>() })
    }
}
