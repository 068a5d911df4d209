//! What an input came to, as data.

use quadrille_core::{Named, Policy, Processed, Records, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::Datum;

/// What one input came to: [`Processed`] as data, before anything of the same batch was merged into it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecordedDecision {
    /// The facts, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<Fact>,
    /// The effects that are wanted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<Wanted>,
    /// The effects that are withdrawn.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub withdrawn: Vec<Key>,
    /// The timers that are set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub timers: Vec<Timer>,
    /// The timers that are cleared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cleared: Vec<Key>,
}

/// See [`quadrille_core::Fact`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Fact {
    pub r#type: String,
    pub topic: String,
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    pub id: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Uuid>,
    pub time: Timestamp,
    pub datum: Datum,
}

/// An effect that is wanted: see [`quadrille_core::EffectRow`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Wanted {
    pub name: String,
    pub key: String,
    pub id: Uuid,
    pub cause: Uuid,
    pub effect: Value,
}

/// A timer that is set: see [`quadrille_core::TimerRow`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Timer {
    pub name: String,
    pub key: String,
    pub due: Timestamp,
    pub id: Uuid,
    pub cause: Uuid,
    pub timer: Value,
}

/// An effect or a timer by the aggregate's key and its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Key {
    pub name: String,
    pub key: String,
}

impl RecordedDecision {
    /// What was processed, as data.
    ///
    /// # Errors
    ///
    /// An effect or a timer has no JSON form.
    pub fn new<P: Policy>(processed: &Processed<P>) -> serde_json::Result<Self> {
        let fact = |fact: &quadrille_core::Fact<P>| Fact {
            r#type: fact.record.record_type().name.to_owned(),
            topic: fact.record.record_type().topic.name.to_string(),
            key: fact.key.clone(),
            version: fact.version,
            id: fact.id,
            cause: fact.cause,
            time: fact.time,
            datum: Datum::of(&fact.record),
        };
        let wanted = |row: &quadrille_core::EffectRow<P>| {
            serde_json::to_value(&row.effect).map(|effect| Wanted {
                name: row.effect.name(),
                key: row.key.clone(),
                id: row.id,
                cause: row.cause,
                effect,
            })
        };
        let timer = |row: &quadrille_core::TimerRow<P>| {
            serde_json::to_value(&row.timer).map(|timer| Timer {
                name: row.timer.name(),
                key: row.key.clone(),
                due: row.due,
                id: row.id,
                cause: row.cause,
                timer,
            })
        };
        Ok(Self {
            facts: processed.facts.iter().map(fact).collect(),
            effects: processed.effects.iter().map(wanted).collect::<Result<_, _>>()?,
            withdrawn: keys(&processed.withdrawn),
            timers: processed.timers.iter().map(timer).collect::<Result<_, _>>()?,
            cleared: keys(&processed.cleared),
        })
    }
}

fn keys(named: &[(String, String)]) -> Vec<Key> {
    named.iter().map(|(key, name)| Key { name: name.clone(), key: key.clone() }).collect()
}
