//! Who commits facts wakes the relay, in whichever instance owns it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    listener::{Heard, Listener, Listens},
    resources::Resources,
};

/// The channel on which instances wake the relay's owner.
const CHANNEL: &str = "quadrille_outbox";

/// Wakes the relay, in this process or in the instance that owns the lease.
#[derive(Clone, Default)]
pub(crate) struct Wake {
    /// Whether this instance owns the lease.
    pub owner: Arc<AtomicBool>,
    /// Wakes the relay of this instance.
    pub relay: Arc<Notify>,
    /// Has the other instances told.
    others: Arc<Notify>,
}

impl Wake {
    /// Facts were committed. Nobody waits for the owner to be told: its poll is the net.
    pub fn facts(&self) {
        self.relay.notify_one();
        if !self.owner.load(Ordering::Relaxed) {
            self.others.notify_one();
        }
    }

    /// Listens for other instances' wake-ups and tells them ours, until `stop`.
    pub async fn listen(self, resources: Arc<Resources>, stop: CancellationToken) {
        let listener = Listener { database: resources.database.clone(), channel: CHANNEL.to_owned() };
        stop.run_until_cancelled(listener.run(&self)).await;
    }
}

impl Listens for Wake {
    fn hear(&self, _: Heard<'_>) {
        self.relay.notify_one();
    }

    async fn untold(&self) -> String {
        self.others.notified().await;
        String::new()
    }
}
