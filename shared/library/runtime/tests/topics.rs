//! Topics that change under a running service, or while it is away.

use crate::support::{Logged, Shop, distinct};
use quadrille_cli::kafka::Admin;
use quadrille_core::Record as _;
use quadrille_platform::InstanceHeartbeat;
use quadrille_testkit::decoded;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer},
};

const TOPIC: &str = "stock.requests";

fn admin(shop: &Shop) -> anyhow::Result<AdminClient<DefaultClientContext>> {
    Ok(ClientConfig::new().set("bootstrap.servers", &shop.world.settings.kafka.brokers).create()?)
}

/// Handles one request through each partition, and ends once its offsets are committed.
async fn worked_before(shop: &Shop) -> anyhow::Result<()> {
    let instance = shop.start();
    for partition in 0..6 {
        shop.ask("TEA", partition).await?;
    }
    shop.stated(6).await?;
    instance.stop().await
}

/// Keys would move: said by health while it runs, with the topic's name and both counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_partition_count_is_reported_while_the_service_runs() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let instance = shop.start();
    shop.ask("TEA", 0).await?;
    shop.stated(1).await?;
    let physical = shop.world.settings.topic(TOPIC);
    admin(&shop)?.create_partitions(&[NewPartitions::new(&physical, 7)], &AdminOptions::new()).await?;
    let wanted = format!("topic {physical} has 7 partitions, 6 are declared");
    let says = move |records: &[quadrille_cli::kafka::Record]| {
        let beats = records.iter().filter(|record| record.value.is_some());
        beats.filter_map(|record| decoded::<InstanceHeartbeat>(record).ok()).any(|beat| beat.detail.contains(&wanted))
    };
    shop.world.read_until(&InstanceHeartbeat::TYPE.topic.name, says).await?;
    instance.stop().await
}

/// What retention took before it was read is an error with topic, partition, from and to; reading goes on at what is there.
#[tokio::test(flavor = "multi_thread")]
async fn what_retention_took_unread_is_said_and_reading_goes_on() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    worked_before(&shop).await?;
    for _ in 0..3 {
        shop.ask("GONE", 2).await?;
    }
    let physical = shop.world.settings.topic(TOPIC);
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&physical, 2, Offset::Offset(4))?;
    admin(&shop)?.delete_records(&before, &AdminOptions::new()).await?;
    shop.ask("TEA", 2).await?;

    let mut instance = Logged::start(&shop)?;
    let said = instance.says("Retention took records before they were read").await?;
    assert!(said.contains("from=1") && said.contains("to=4") && said.contains("partition=2"), "{said}");
    assert_eq!(shop.stated(7).await?.len(), 7);
    instance.kill().await
}

/// A request without headers at an offset that was used before is a new request: its topic was made anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_anew_is_read_from_its_beginning() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    worked_before(&shop).await?;
    let topics = Admin::connect(&shop.world.settings.kafka)?;
    delete(&shop, &topics).await?;
    create(&shop, &topics).await?;
    shop.ask("ANEW", 1).await?;
    let instance = shop.start();
    let stated = shop.stated(7).await?;
    assert_eq!(stated.iter().filter(|record| record.key_text() == "ANEW").count(), 1);
    instance.stop().await
}

/// A group's offset beyond the end of a topic is said, and reading starts at the beginning: what was handled is known.
#[tokio::test(flavor = "multi_thread")]
async fn an_offset_beyond_the_end_is_said_and_reading_starts_at_the_beginning() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    worked_before(&shop).await?;
    let kafka = &shop.world.settings.kafka;
    let member: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &kafka.brokers)
        .set("group.id", format!("{}tally", kafka.group_prefix))
        .create()?;
    let mut beyond = TopicPartitionList::new();
    beyond.add_partition_offset(&shop.world.settings.topic(TOPIC), 1, Offset::Offset(100))?;
    member.commit(&beyond, CommitMode::Sync)?;
    drop(member);

    let mut instance = Logged::start(&shop)?;
    let said = instance.says("lies beyond the topic's end").await?;
    assert!(said.contains("from=100") && said.contains("to=1") && said.contains("partition=1"), "{said}");
    shop.ask("LATER", 1).await?;
    assert_eq!(distinct(&shop.stated(7).await?), 7);
    assert_eq!(shop.pieces().await?, 7, "what was read again changed nothing");
    instance.kill().await
}

/// Deletes the topic, and waits until it is gone.
pub async fn delete(shop: &Shop, topics: &Admin) -> anyhow::Result<()> {
    let physical = [shop.world.settings.topic(TOPIC)];
    topics.delete(&physical).await?;
    while !topics.find(&physical).await?.is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Ok(())
}

pub async fn create(shop: &Shop, topics: &Admin) -> anyhow::Result<()> {
    topics.create(&[NewTopic::new(&shop.world.settings.topic(TOPIC), 6, TopicReplication::Fixed(1))]).await
}

/// It waits for topics that are not there yet, names them, and works within seconds of their coming.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_starts_before_its_topics_waits_and_names_them() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let physical = shop.world.settings.topic(TOPIC);
    let topics = Admin::connect(&shop.world.settings.kafka)?;
    delete(&shop, &topics).await?;
    let mut instance = Logged::start(&shop)?;
    let said = instance.says("Waiting").await?;
    assert!(said.contains(&physical) && said.contains("quadrille topics apply"), "{said}");
    create(&shop, &topics).await?;
    let came = std::time::Instant::now();
    shop.ask("TEA", 0).await?;
    shop.stated(1).await?;
    assert!(came.elapsed() < std::time::Duration::from_secs(20), "it took {:?}", came.elapsed());
    instance.kill().await
}
