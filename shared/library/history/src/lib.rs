//! A service's decisions as they are recorded: each input with all that the policy was told, and what it came to.
//!
//! The runtime writes a [`Decided`] an input into the table `history`, in the transaction of the decision itself; `quadrille replay`
//! reads them, decides again and compares. Both make a [`RecordedDecision`] by the one function, so that what is compared was made alike.
//!
//! It is JSON: legible in the database and in a file. Records are Avro data as they are on their topics, in base64.

mod datum;
mod header;
mod recorded_decision;

use quadrille_core::{Envelope, Input, Moment, Policy, Processed, Records, Timestamp, Tombstone};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

pub use datum::Datum;
pub use header::{FORMAT, Header};
pub use recorded_decision::{Fact, Key, RecordedDecision, Timer, Wanted};

/// A line of a history's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::large_enum_variant)]
pub enum Line {
    /// Stands before the first decision that names it.
    Header(Header),
    /// The decisions of a service stand in their order.
    Decided(Decided),
    /// From here on decisions of this service may be missing: an instance ran that kept none.
    Gap {
        /// Which service.
        service: String,
    },
}

/// One input that was decided on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decided {
    /// The [`Header`] of the build that wrote this.
    pub header: Uuid,
    /// The moment of the decision.
    pub now: Timestamp,
    /// See [`Envelope::id`].
    pub id: Uuid,
    /// See [`Envelope::cause`].
    pub cause: Uuid,
    /// See [`Envelope::key`].
    pub key: String,
    /// See [`Envelope::version`].
    pub version: i64,
    /// `traceparent`, or empty: it leads from a decision to its spans. What was decided carries it on unchanged.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub traceparent: String,
    /// The input itself.
    pub input: Taken,
    /// The names of the key's effects that a worker had in hand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<String>,
    /// See [`Policy::record_unlocked`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlocked: Option<Value>,
    /// What the input came to.
    pub came_to: RecordedDecision,
}

/// An input, as data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Taken {
    /// A record that was heard, in the schema that the service reads.
    Record {
        /// The full name of the record's type.
        r#type: String,
        /// The record.
        datum: Datum,
    },
    /// A key of a state topic that is gone.
    Gone {
        /// The topic.
        topic: String,
    },
    /// A timer that fired.
    Timer(Value),
    /// What became of an effect.
    Outcome {
        /// The effect's id.
        effect: Uuid,
        /// What is known of it.
        outcome: Value,
    },
    /// A command.
    Command(Value),
}

impl Decided {
    /// Records one input and what it came to. `unlocked` is what [`Policy::record_unlocked`] told before the decision.
    ///
    /// # Errors
    ///
    /// An effect, an outcome, a timer or a command has no JSON form.
    pub fn new<P: Policy>(
        header: Uuid,
        moment: &Moment,
        input: &Envelope<P>,
        unlocked: Option<Value>,
        came_to: &Processed<P>,
    ) -> serde_json::Result<Self> {
        let taken = match &input.input {
            Input::Record(record) => {
                Taken::Record { r#type: record.record_type().name.to_owned(), datum: Datum::of(record) }
            }
            Input::Gone(gone) => Taken::Gone { topic: gone.topic().to_owned() },
            Input::Timer(timer) => Taken::Timer(serde_json::to_value(timer)?),
            Input::Outcome { effect, outcome } => {
                Taken::Outcome { effect: *effect, outcome: serde_json::to_value(outcome)? }
            }
            Input::Command(command) => Taken::Command(serde_json::to_value(command)?),
        };
        Ok(Self {
            header,
            now: moment.now,
            id: input.id,
            cause: input.cause,
            key: input.key.clone(),
            version: input.version,
            traceparent: input.trace.parent.clone(),
            input: taken,
            // Those of other keys are in the moment only because the batch brought them along.
            claims: moment.claims.of(&input.key).map(str::to_owned).collect(),
            unlocked,
            came_to: RecordedDecision::new(came_to)?,
        })
    }
}
