//! The heartbeat: this system's service registry is the compacted topic `platform.instances`, a record per running instance.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use quadrille_core::Record;
use quadrille_platform::InstanceHeartbeat;
use quadrille_schemas::wire;
use rdkafka::producer::FutureRecord;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{kafka::Producer, resources::Resources};

/// How often an instance says that it is there.
const EVERY: Duration = Duration::from_secs(5);

/// Says that an instance is there, and at its end that it is gone.
pub(crate) struct Heartbeat {
    pub resources: Arc<Resources>,
    pub http: String,
    /// The topics that it reads.
    pub hears: Vec<String>,
    pub started_at: DateTime<Utc>,
}

impl Heartbeat {
    /// Beats until `stop`, and then takes the instance's record back. Nothing depends on it: a failure is tried again at the next beat.
    pub async fn run(self, stop: CancellationToken) {
        let topic = format!("{}{}", self.resources.kafka.topic_prefix, InstanceHeartbeat::TYPE.topic.name);
        let client = format!("quadrille-{}-heartbeat", self.resources.service);
        let mut producer = match Producer::new(&self.resources.kafka, &client, 4_000) {
            Ok(producer) => producer,
            Err(error) => return debug!(%error, "No heartbeat"),
        };
        let mut schema_id = None;
        while !stop.is_cancelled() {
            if schema_id.is_none() {
                let subject = InstanceHeartbeat::TYPE.subject();
                schema_id =
                    self.resources.registry.id_of(&subject, InstanceHeartbeat::TYPE.schema).await.ok().flatten();
            }
            if let Some(id) = schema_id {
                let mut datum = vec![];
                self.record().encode(&mut datum);
                let payload = wire::frame(id, &datum);
                self.send(&mut producer, FutureRecord::to(&topic).payload(payload.as_slice())).await;
            }
            stop.run_until_cancelled(tokio::time::sleep(EVERY)).await;
        }
        self.send(&mut producer, FutureRecord::to(&topic)).await;
    }

    async fn send(&self, producer: &mut Producer, record: FutureRecord<'_, str, [u8]>) {
        if let Err(error) = producer.send(record.key(&self.resources.instance)).await {
            debug!(%error, "A heartbeat was not heard");
        }
    }

    fn record(&self) -> InstanceHeartbeat {
        let (status, detail) = self.resources.health.summary();
        InstanceHeartbeat {
            instance: self.resources.instance.clone(),
            service: self.resources.service.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            http: format!("http://{}", self.http),
            status: status.to_owned(),
            detail,
            hears: self.hears.clone(),
            started_at: self.started_at,
            sent_at: Utc::now(),
        }
    }
}
