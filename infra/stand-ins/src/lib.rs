//! Stand-ins for the outside world: a payment provider, a carrier and a mail catcher.
//!
//! They are processes of their own, reached over HTTP and SMTP, so that time-outs, lost answers and retries are real. How each
//! behaves is told by what it is given: a payment token, a way of delivery, a mail address. README.md lists all of them.
//!
//! What they did outlives them in a [journal](journal), since audits compare it with what the services stated.

mod behaviour;
pub mod carrier;
pub mod journal;
pub mod mail;
pub mod money;
pub mod payment;
mod server;

pub use server::Running;
