//! What instances of a service tell each other by NOTIFY, each on a connection of its own, outside transactions: commits that notify queue behind
//! one another.
//!
//! Nothing hangs on a NOTIFY, which may be lost with its connection or its process: whoever listens looks by itself now and then.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tracing::info;

use crate::lease::answered;

/// The sleep before a lost connection is made anew.
const RECONNECT: Duration = Duration::from_secs(1);
/// A connection on which nothing was heard for so long is asked for a word.
const PING: Duration = Duration::from_secs(15);

/// One channel, and how its connection is made.
pub(crate) struct Listener {
    pub database: PgConnectOptions,
    pub channel: String,
}

/// What listens on a channel, and has something to tell there.
pub(crate) trait Listens: Sync {
    fn hear(&self, heard: Heard<'_>);

    /// What is to be told next, once there is something. It may be dropped at any of its awaits, and is called anew.
    fn untold(&self) -> impl Future<Output = String> + Send;
}

/// What is heard on a channel.
pub(crate) enum Heard<'a> {
    /// A connection listens: what was told before it is not heard.
    Begun,
    /// What an instance told, perhaps this one.
    Told(&'a str),
}

impl Listener {
    /// Listens and tells until it is dropped.
    pub async fn run(&self, who: &impl Listens) {
        loop {
            if let Err(error) = self.talk(who).await {
                info!(%error, channel = self.channel, "Other instances are not heard for now");
            }
            tokio::time::sleep(RECONNECT).await;
        }
    }

    async fn talk(&self, who: &impl Listens) -> sqlx::Result<()> {
        // Not from the instance's pool: a listener that is dropped says goodbye first, and would keep its place there for as long as a silent
        // server takes for an answer.
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(self.database.clone());
        let mut listener = answered(PgListener::connect_with(&pool)).await?;
        listener.eager_reconnect(false);
        answered(listener.listen(&self.channel)).await?;
        who.hear(Heard::Begun);
        loop {
            tokio::select! {
                heard = listener.try_recv() => match heard? {
                    Some(told) => who.hear(Heard::Told(told.payload())),
                    None => return Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into()),
                },
                payload = who.untold() => {
                    let tell = sqlx::query("select pg_notify($1, $2)").bind(&self.channel).bind(payload);
                    answered(tell.execute(&mut listener)).await?;
                }
                () = tokio::time::sleep(PING) => {
                    answered(sqlx::query("select 1").execute(&mut listener)).await?;
                }
            }
        }
    }
}
