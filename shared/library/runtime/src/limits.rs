//! How long anything outside is waited for: every bound in one place, each with its reason.
//!
//! A peer that has gone silent looks like one that is slow. So nothing outside is waited for without a bound, on any phase of the talk;
//! past it the connection is given up, and the work is tried again on a new one.

use std::time::Duration;

/// After so long PostgreSQL itself gives a statement up (`statement_timeout`). Ours take milliseconds; a lock that another instance holds is
/// let go of within the group's session timeout.
pub(crate) const STATEMENT: Duration = Duration::from_secs(20);
/// A whole transaction or a single statement, connecting included, as this side sees it. Longer than [`STATEMENT`], so that the server's own
/// word comes first where it can be heard.
pub(crate) const DATABASE: Duration = Duration::from_secs(25);
/// A lock on another generation's tables, or on its row: whoever waits for it has others wait.
pub(crate) const LOCK: Duration = Duration::from_secs(5);
/// All that a generation of a read model does to take over rows of another one.
pub(crate) const TAKE_OVER: Duration = Duration::from_secs(3_600);
/// How long a connection to the database, or one of the pool's, is waited for.
pub(crate) const CONNECT: Duration = Duration::from_secs(5);
/// One request to the schema registry, from connecting to the last byte of its answer.
pub(crate) const REGISTRY: Duration = Duration::from_secs(5);
/// One question to a Kafka broker: metadata, watermarks, committed offsets.
pub(crate) const BROKER: Duration = Duration::from_secs(5);

/// One request for a service's own routes, from its headers to those of the answer.
pub(crate) const ROUTE: Duration = Duration::from_secs(10);
/// The body of such a request, in bytes.
pub(crate) const ROUTE_BODY: usize = 256 * 1024;
/// A command's commit, as its handler waits for it: half of [`ROUTE`], so that there is time to answer by what was committed.
pub(crate) const COMMAND: Duration = Duration::from_secs(5);
/// Connections of clients beside one for each request that a service's own routes may have under way: for health, for requests that are refused
/// and for those that say nothing yet.
pub(crate) const MORE_CONNECTIONS: usize = 64;
/// A connection on which no request's headers are complete after so long is closed: from its beginning, and from the last answer on it.
pub(crate) const HEADERS: Duration = Duration::from_secs(10);
/// A request's line and headers, in bytes: what is longer, and not complete with what was read last, is refused. So much is read at once, too.
pub(crate) const HEADERS_BYTES: usize = 64 * 1024;
/// A client of this instance that takes nothing of its answer for so long is cut off.
pub(crate) const TAKEN: Duration = Duration::from_secs(10);
/// What the system keeps of answers that are on their way to one client, in bytes, of which Linux takes twice as many. It tells that a client
/// takes something only once a third is free: of the megabytes that it would come to by itself a slow client takes no third within [`TAKEN`].
pub(crate) const SEND_BUFFER: u32 = 64 * 1024;

/// With work waiting and nothing done for so long an instance is not ready: who asks each second sees it within half a minute, since what
/// waits is known five seconds late.
pub(crate) const NO_PROGRESS: Duration = Duration::from_secs(20);
/// How long an instance may be on its way into its group before it is not ready.
pub(crate) const JOINING: Duration = Duration::from_secs(20);
/// A projection that comes into partitions waits so long for its positions, while its whole group waits for it; then they go to others.
pub(crate) const POSITIONS: Duration = Duration::from_secs(20);
/// An offset that cannot be read is tried for so long before it is passed over.
pub(crate) const UNREADABLE: Duration = Duration::from_secs(30);
