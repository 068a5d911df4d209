//! Says what retention took before it was read, and offsets beyond the end of a topic that was made anew.
//!
//! Reading itself goes on at the first record that there is (`auto.offset.reset=earliest`): never a silent jump, and never to the end.

use metrics::counter;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaResult,
};
use tracing::{error, warn};

use crate::limits;

/// Compares where newly assigned partitions begin, at positions or at the group's offsets, with what the broker has, on a client and a thread of its own: questions on
/// the consumer's connection would wait behind its long polls, and polling behind them.
pub(crate) fn report_lost_records(client: ClientConfig, group: &'static str, assigned: TopicPartitionList) {
    let look = move || {
        if let Err(error) = compare(&client, group, assigned) {
            warn!(%error, "Whether retention took something unread could not be seen");
        }
    };
    if let Err(error) = std::thread::Builder::new().name(format!("{group}-retention-check")).spawn(look) {
        warn!(%error, "Whether retention took something unread could not be seen");
    }
}

fn compare(client: &ClientConfig, group: &'static str, assigned: TopicPartitionList) -> KafkaResult<()> {
    let client: BaseConsumer = client.create()?;
    let has_positions = assigned.elements().iter().any(|element| element.offset() != Offset::Invalid);
    let starts = if has_positions { assigned } else { client.committed_offsets(assigned, limits::BROKER)? };
    for element in starts.elements() {
        let Offset::Offset(next) = element.offset() else { continue };
        let (topic, partition) = (element.topic().to_owned(), element.partition());
        let (low, high) = client.fetch_watermarks(&topic, partition, limits::BROKER)?;
        if next < low {
            report_lost(group, topic, partition, next, low);
        } else if next > high {
            report_beyond_end(group, topic, partition, next, high);
        }
    }
    Ok(())
}

/// Says that the offset `from` lies beyond the topic's end `to`, and that reading starts at its beginning.
pub(crate) fn report_beyond_end(group: &'static str, topic: String, partition: i32, from: i64, to: i64) {
    counter!("quadrille_offsets_beyond_end_total", "topic" => topic.clone()).increment(1);
    error!(
        group,
        topic,
        partition,
        from,
        to,
        "The next offset lies beyond the topic's end: it was made anew; reading starts at its beginning"
    );
}

/// Says that retention took the records from offset `from` on before they were read, and that reading goes on at `to`.
pub(crate) fn report_lost(group: &'static str, topic: String, partition: i32, from: i64, to: i64) {
    counter!("quadrille_records_lost_total", "topic" => topic.clone()).increment((to - from) as u64);
    error!(group, topic, partition, from, to, "Retention took records before they were read; reading goes on at {to}");
}
