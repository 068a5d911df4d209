//! A batch that cannot be read: one that unpacks to more than the client takes, or that is damaged, comes again with an error for ever, and
//! nothing behind it. The client's error tells neither partition nor offset, nor where the batch ends, so both are found out here.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, ClientContext, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};

/// A batch's offsets, as the broker has them, that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableBatch {
    /// The first that was asked for.
    pub from: i64,
    /// The first behind the batch, or the topic's end.
    pub to: i64,
    /// What the client says.
    pub cause: String,
}

/// Whether an error is about what lies at an offset: it comes again whenever that is read.
pub fn is_unreadable(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{
        BadCompression, BadMessage, InvalidMessage, MessageSizeTooLarge, NotImplemented, Underflow,
    };
    matches!(
        error.rdkafka_error_code(),
        Some(BadCompression | BadMessage | InvalidMessage | MessageSizeTooLarge | NotImplemented | Underflow)
    )
}

/// Whether `from` cannot be read, and where its batch ends: what lies behind may be sound, or another such batch.
///
/// Blocks, for as many fetches as the logarithm of the batch's records, twice: by doubling steps first, then by halving them. On a client of
/// its own, which joins no group and commits nothing.
///
/// # Errors
///
/// The broker did not answer one of them within `patience`.
pub fn unreadable(
    client: &ClientConfig,
    topic: &str,
    partition: i32,
    from: i64,
    patience: Duration,
) -> KafkaResult<Option<UnreadableBatch>> {
    let mut client = client.clone();
    client.set("enable.auto.commit", "false").set("enable.partition.eof", "true").set("fetch.error.backoff.ms", "10");
    let client = client.create_with_context(Reasons::default())?;
    let probe = Probe { client, topic, partition, patience };
    let Some(fault) = probe.fault(from)? else { return Ok(None) };
    let (_, end) = probe.client.fetch_watermarks(topic, partition, patience)?;
    let (mut within, mut behind, mut step) = (from, end, 1);
    while from + step < end {
        if probe.fault(from + step)?.as_ref() != Some(&fault) {
            behind = from + step;
            break;
        }
        within = from + step;
        step *= 2;
    }
    while behind - within > 1 {
        let middle = within + (behind - within) / 2;
        match probe.fault(middle)?.as_ref() == Some(&fault) {
            true => within = middle,
            false => behind = middle,
        }
    }
    Ok(Some(UnreadableBatch { from, to: behind, cause: fault.cause }))
}

struct Probe<'a> {
    client: BaseConsumer<Reasons>,
    topic: &'a str,
    partition: i32,
    patience: Duration,
}

/// What is wrong with a batch. Two that follow one another are told apart by their first offsets.
#[derive(PartialEq, Eq)]
struct Fault {
    cause: String,
    first: Option<i64>,
}

impl Probe<'_> {
    /// What is wrong with the data at an offset, if anything is. An error of another kind says nothing about the data, and is an error here.
    fn fault(&self, offset: i64) -> KafkaResult<Option<Fault>> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(self.topic, self.partition, Offset::Offset(offset))?;
        self.client.assign(&list)?;
        let deadline = Instant::now() + self.patience;
        let mut last = KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut);
        while Instant::now() < deadline {
            match self.client.poll(Duration::from_millis(250)) {
                Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => return Ok(None),
                Some(Err(error)) if is_unreadable(&error) => {
                    let cause = error.rdkafka_error_code().map_or_else(String::new, |code| code.to_string());
                    return Ok(Some(Fault { cause, first: self.client.context().first_offset() }));
                }
                Some(Err(error)) => last = error,
                None => {}
            }
        }
        Err(last)
    }
}

/// Hears what the client says of an error beside its code.
#[derive(Default)]
struct Reasons(Mutex<String>);

impl Reasons {
    /// As librdkafka tells it: "Decompression (codec 0x4) of message at 3 of 4703 bytes failed", "MessageSet at offset 3 (4703 bytes) failed".
    fn first_offset(&self) -> Option<i64> {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, behind) = said.split_once(" at offset ").or_else(|| said.split_once(" of message at "))?;
        behind.split_once(' ')?.0.parse().ok()
    }
}

impl ClientContext for Reasons {
    fn error(&self, _: KafkaError, reason: &str) {
        reason.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl ConsumerContext for Reasons {}
