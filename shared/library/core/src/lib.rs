//! The pure heart of Quadrille: what a service decides, as data.
//!
//! A service is a pure function `state + input -> new state + new facts` (the *functional core* of
//! Bernhardt's "Boundaries", the *decider* of Chassaing). This crate fixes that function's shape:
//!
//! - [`Policy`]: `react` decides, `evolve` folds. No clock, no randomness, no I/O: time and ids come in as values.
//! - [`Input`] in an [`Envelope`]: a record heard, a timer that fired, an effect's outcome, or a command. All of them take the same way.
//! - [`Decision`]: facts to state, effects to perform or withdraw, timers to set or clear. All of it is data.
//! - [`Declaration`]: what a service says of its part in the choreography, held against its policy.
//! - [`process`]: one input's way through a policy, with ids, versions and causes; that it is new the caller has seen. The running service, the tests and
//!   the model checker call this very function.
//! - [`memory`]: a whole service without a database, and with it what a transaction is.
//!
//! Nothing here reads a clock, a socket or a file; nothing here can fail for want of infrastructure.

pub mod bounds;
mod decision;
pub mod declaration;
mod envelope;
pub mod ids;
pub mod memory;
mod names_macro;
mod policy;
mod process;
mod record;
mod records_macro;
mod rows;

pub use decision::{Decision, Perform, SetTimer};
pub use declaration::Declaration;
pub use envelope::{Claims, Envelope, Input, Moment, Trace};
pub use policy::{Named, Nothing, Policy, Row, group, is_projection};
pub use process::{EffectRow, Fact, Processed, TimerRow, changed, process};
pub use quadrille_topics::{KeyCase, KeyError, KeyKind, KeyPattern, MOST_UNPACKED, TopicKind, TopicType, TopicWriter};
pub use record::{DecodeError, Gone, Record, RecordType, Records, Tombstone};
pub use rows::Rows;

/// Points in time: UTC, microseconds, always a value that came in from outside.
pub type Timestamp = chrono::DateTime<chrono::Utc>;
