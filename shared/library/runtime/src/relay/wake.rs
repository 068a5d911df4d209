//! Who commits facts wakes the relay, in whichever instance owns it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{lease::answered, resources::Resources};

/// The channel on which instances wake the relay's owner.
const CHANNEL: &str = "quadrille_outbox";
/// The listening connection is asked for a word after so much silence.
const PING: Duration = Duration::from_secs(15);

/// Wakes the relay, in this process or in the instance that owns the lease.
#[derive(Clone)]
pub(crate) struct Wake {
    pub resources: Arc<Resources>,
    pub owner: Arc<AtomicBool>,
    pub local: Arc<Notify>,
    /// Has the other instances told.
    pub others: Arc<Notify>,
}

impl Wake {
    /// Facts were committed. Nobody waits for the owner to be told: its poll is the net.
    pub fn facts(&self) {
        self.local.notify_one();
        if !self.owner.load(Ordering::Relaxed) {
            self.others.notify_one();
        }
    }

    /// Listens for other instances' wake-ups and tells them ours, until `stop`.
    pub async fn listen(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                ended = self.talk() => ended,
            };
            if let Err(error) = ended {
                info!(%error, "Wake-ups of other instances are not heard for now; the relay polls");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// On a connection of its own, outside transactions: commits that notify queue behind one another.
    async fn talk(&self) -> sqlx::Result<()> {
        // Not from the instance's pool: a listener that is dropped says goodbye first, and would keep its place there for as long as a silent
        // server takes for an answer.
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(self.resources.database.clone());
        let mut listener = answered(PgListener::connect_with(&pool)).await?;
        listener.eager_reconnect(false);
        answered(listener.listen(CHANNEL)).await?;
        loop {
            tokio::select! {
                heard = listener.try_recv() => match heard? {
                    Some(_) => self.local.notify_one(),
                    None => return Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into()),
                },
                () = self.others.notified() => {
                    let tell = sqlx::query("select pg_notify($1, '')").bind(CHANNEL);
                    answered(tell.execute(&mut listener)).await?;
                }
                () = tokio::time::sleep(PING) => {
                    answered(sqlx::query("select 1").execute(&mut listener)).await?;
                }
            }
        }
    }
}
