//! How far consumer groups have come. Their offsets are asked for; nobody joins.

use anyhow::Context;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};

use crate::{
    Connection, Partition,
    broker::{READER, hurried, patiently},
};

/// How far a group has come in each of `partitions`: the next offset that it will read, or `None` where it has read nothing yet.
pub fn committed(connection: &Connection, group: &str, partitions: &[Partition]) -> anyhow::Result<Vec<Option<i64>>> {
    let consumer: BaseConsumer =
        hurried(connection.observer(READER, group)).create().context("The Kafka client cannot be made")?;
    let mut asked = TopicPartitionList::new();
    for partition in partitions {
        asked.add_partition(&connection.topic(&partition.topic), partition.number);
    }
    let answer = patiently(connection, |patience| consumer.committed_offsets(asked.clone(), patience))?;
    let offset = |partition: &Partition| match answer
        .find_partition(&connection.topic(&partition.topic), partition.number)?
        .offset()
    {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    };
    Ok(partitions.iter().map(offset).collect())
}
