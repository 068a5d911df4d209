//! An offset that cannot be read: a batch that unpacks to more than the client takes, or is damaged, comes again with an error for ever, and
//! nothing behind it. The client's error tells neither partition nor offset, nor where the batch ends, so both are found out here.

use std::time::{Duration, Instant};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};

use crate::limits;

/// Offsets that cannot be read, as the broker has them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// The first of them.
    pub from: i64,
    /// The first that can be read, or the topic's end.
    pub to: i64,
    /// What the client says.
    pub cause: String,
}

/// Whether `from` cannot be read, and what can be read after it. Blocks, for as many fetches as the logarithm of the batch's records,
/// twice: by doubling steps first, then by halving them. On a client of its own, which commits nothing.
pub(crate) fn find(client: &ClientConfig, topic: &str, partition: i32, from: i64) -> KafkaResult<Option<Unreadable>> {
    let mut client = client.clone();
    client.set("enable.auto.commit", "false").set("enable.partition.eof", "true").set("fetch.error.backoff.ms", "10");
    let client: BaseConsumer = client.create()?;
    let Some(cause) = fault(&client, topic, partition, from)? else { return Ok(None) };
    let (_, end) = client.fetch_watermarks(topic, partition, limits::BROKER)?;
    let (mut bad, mut good, mut step) = (from, end, 1);
    while from + step < end {
        if fault(&client, topic, partition, from + step)?.is_none() {
            good = from + step;
            break;
        }
        bad = from + step;
        step *= 2;
    }
    while good - bad > 1 {
        let middle = bad + (good - bad) / 2;
        match fault(&client, topic, partition, middle)? {
            Some(_) => bad = middle,
            None => good = middle,
        }
    }
    Ok(Some(Unreadable { from, to: good, cause: cause.to_string() }))
}

/// What is wrong with the data at an offset, if anything is. An error of another kind says nothing about the data, and is an error here.
fn fault(client: &BaseConsumer, topic: &str, partition: i32, offset: i64) -> KafkaResult<Option<RDKafkaErrorCode>> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
    client.assign(&list)?;
    let deadline = Instant::now() + limits::BROKER;
    let mut last = KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut);
    while Instant::now() < deadline {
        match client.poll(Duration::from_millis(250)) {
            Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => return Ok(None),
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(code) if is_of_the_data(code) => return Ok(Some(code)),
                _ => last = error,
            },
            None => {}
        }
    }
    Err(last)
}

fn is_of_the_data(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{BadCompression, BadMessage, InvalidMessage, NotImplemented, Underflow};
    matches!(code, BadCompression | BadMessage | InvalidMessage | NotImplemented | Underflow)
}
