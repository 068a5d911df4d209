//! The choreography: what the services declare, as one document that is checked, compared and drawn.
//!
//! - [`Choreography`] is the document: it is collected from the services' [declarations](quadrille_core::Declaration)
//!   ([`Choreography::declared`]) or read from JSON, so that other people's choreographies can be checked, too.
//! - [`check`] names every fault of it with file, event and fix ([`Problem`]); one small function for each [`Kind`].
//! - [`Change`] is what differs between two of them, and who must be deployed first.
//! - [`generated`] makes what is kept in `docs/`: a page with pictures, an AsyncAPI 3 document, and the document itself.
//!
//! Nothing here asks a broker, a registry or a database.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod asyncapi;
mod change;
mod check;
mod collect;
mod document;
mod generated;
mod graph;
mod markdown;
mod picture;
mod problem;

pub use change::Change;
pub use check::check;
pub use document::{
    Answer, Cause, Choreography, Compensation, Deadline, Effect, End, Reaction, Record, Refusal, Service, Topic, Wait,
};
pub use generated::{Generated, generated};
pub use problem::{Kind, Problem};
