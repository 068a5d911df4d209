//! Whether what tells operators can be published. It holds up no facts: it is found out beside the rounds, and until it is, their rows are left
//! out of them.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::bail;
use futures::FutureExt as _;
use quadrille_core::RecordType;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use crate::{kafka, platform_events, resources::Resources};

/// While it cannot be published, this is looked at again after so long.
const TELL_AGAIN: Duration = Duration::from_secs(5);

pub(super) struct Telling {
    resources: Arc<Resources>,
    state: State,
    /// What was said last, once in the log.
    said: String,
}

enum State {
    /// It is being found out; what comes of it are its schemas' ids.
    Asked(AbortOnDropHandle<anyhow::Result<HashMap<i64, u32>>>),
    Possible,
    Impossible {
        until: Instant,
    },
}

impl Telling {
    pub fn new(resources: &Arc<Resources>) -> Self {
        let resources = Arc::clone(resources);
        Self { state: State::ask(&resources), resources, said: String::new() }
    }

    pub fn is_possible(&self) -> bool {
        matches!(self.state, State::Possible)
    }

    /// Anything may have changed: it is found out anew.
    pub fn ask_again(&mut self) {
        self.state = State::ask(&self.resources);
    }

    /// The ids of its schemas, at the moment at which it is found to be possible. Waits for nothing.
    pub fn learn(&mut self) -> Option<HashMap<i64, u32>> {
        match &mut self.state {
            State::Possible => None,
            State::Impossible { until } => {
                if *until <= Instant::now() {
                    self.ask_again();
                }
                None
            }
            State::Asked(asked) => match asked.now_or_never()?.unwrap_or_else(|panicked| Err(panicked.into())) {
                Ok(ids) => {
                    self.state = State::Possible;
                    self.said.clear();
                    Some(ids)
                }
                Err(why) => {
                    self.put_off(&format!("{why:#}"));
                    None
                }
            },
        }
    }

    /// It waits in the outbox for a while, and health says why.
    pub fn put_off(&mut self, why: &str) {
        let why = format!("what tells operators waits in the outbox: {why}");
        self.resources.health.warn("relay", &why);
        if why != self.said {
            warn!("{why}");
            self.said = why;
        }
        self.state = State::Impossible { until: Instant::now() + TELL_AGAIN };
    }
}

impl State {
    fn ask(resources: &Arc<Resources>) -> Self {
        Self::Asked(AbortOnDropHandle::new(tokio::spawn(find_out(Arc::clone(resources)))))
    }
}

/// Looks at topic and registry, and returns the ids of all schemas that rows of this kind may have: an earlier build's too, where it has any.
async fn find_out(resources: Arc<Resources>) -> anyhow::Result<HashMap<i64, u32>> {
    let (kafka, service) = (resources.kafka.clone(), resources.service);
    let look = move || kafka::check_topics(&kafka, service, platform_events::TYPES);
    match tokio::task::spawn_blocking(look).await? {
        kafka::Topics::Ready => {}
        kafka::Topics::Waiting(why) | kafka::Topics::Refused(why) => bail!(why),
    }
    let subjects: Vec<String> = platform_events::TYPES.iter().map(RecordType::subject).collect();
    let schemas: Vec<(i64, String, String)> =
        sqlx::query_as("select fingerprint, subject, text from stated_schema where subject = any($1)")
            .bind(subjects)
            .fetch_all(&resources.pool)
            .await?;
    let mut ids = HashMap::new();
    for (fingerprint, subject, text) in schemas {
        ids.extend(resources.registry.id_of(&subject, &text).await?.map(|id| (fingerprint, id)));
    }
    Ok(ids)
}
