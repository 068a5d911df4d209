//! The way into a secured broker: encrypted, signed in. Needs the broker of `make up`, which has such a way in too.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use anyhow::ensure;
use quadrille_kafka::{Admin, Connection, Mechanism, Producer, Protocol, Reader, Security, Start};
use quadrille_program::Secret;
use rdkafka::{
    Message,
    admin::{NewTopic, TopicReplication},
    consumer::{BaseConsumer, Consumer},
};
use uuid::Uuid;

const TIMEOUT: Duration = Duration::from_secs(60);

/// The local broker's encrypted way in, as the user that it knows.
fn secured() -> anyhow::Result<Connection> {
    let port = std::env::var("QUADRILLE_KAFKA_SECURED_PORT").unwrap_or_else(|_| "9094".into());
    let certificate = std::env::var("QUADRILLE_TEST_KAFKA_CERTIFICATE")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../.run/data/kafka-tls.pem").into());
    let security = Security {
        protocol: Protocol::SaslSsl,
        mechanism: Mechanism::Plain,
        username: "quadrille".into(),
        password: Secret::new("quadrille"),
        ca_location: certificate,
        ..Security::default()
    };
    let prefix = format!("t{}.", Uuid::new_v4().simple());
    let brokers = format!("127.0.0.1:{port}");
    Ok(Connection { brokers, topic_prefix: prefix.clone(), group_prefix: prefix, security, ..Connection::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn records_go_in_and_out_by_the_encrypted_way() -> anyhow::Result<()> {
    let kafka = secured()?;
    let (admin, physical) = (Admin::connect(&kafka)?, kafka.topic("secured"));
    admin.create(&[NewTopic::new(&physical, 1, TopicReplication::Fixed(1))]).await?;
    let sent = Producer::connect(&kafka)?.send("secured", Some(b"k"), b"v", &[("ce_id", "1".into())]).await;

    let read = tokio::task::block_in_place(|| {
        let mut read = vec![];
        Reader::connect(&kafka)?.read_to_end("secured", Start::Beginning, |record| {
            read.push((record.key, record.value));
            Ok(ControlFlow::Continue(()))
        })?;
        let member: BaseConsumer = kafka.member("test", "secured").create()?;
        member.subscribe(&[&physical])?;
        let deadline = Instant::now() + TIMEOUT;
        // A rebalance ends a look without a record.
        let message = loop {
            match member.poll(TIMEOUT) {
                Some(message) => break message?,
                None => ensure!(Instant::now() < deadline, "a member of a group gets nothing"),
            }
        };
        anyhow::Ok((read, message.payload().map(<[u8]>::to_vec)))
    });
    admin.delete(std::slice::from_ref(&physical)).await?;
    sent?;
    assert_eq!(read?, (vec![(Some(b"k".to_vec()), Some(b"v".to_vec()))], Some(b"v".to_vec())));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_as_such_and_not_repeated() -> anyhow::Result<()> {
    let mut kafka = secured()?;
    kafka.security.password = Secret::new("s3cret");
    let refused = Admin::connect(&kafka)?.find(&["any".into()]).await.expect_err("refused");
    let said = format!("{refused:#} {refused:?}");
    assert!(said.contains("does not let us in (kafka.security.*, user 'quadrille')"), "{said}");
    assert!(said.contains("uthentication") && !said.contains("s3cret"), "{said}");

    let refused = Producer::connect(&kafka)?.send("any", None, b"v", &[]).await.expect_err("refused");
    let said = format!("{refused:#} {refused:?}");
    assert!(said.contains("does not let us in") && !said.contains("s3cret"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_certificate_nobody_signed_is_not_talked_to() -> anyhow::Result<()> {
    let mut kafka = secured()?;
    kafka.security.ca_location = String::new();
    let refused = tokio::task::block_in_place(|| Reader::connect(&kafka)?.partitions(&["any"])).expect_err("refused");
    let said = refused.to_string();
    assert!(said.contains("does not let us in") && said.contains("certificate"), "{said}");
    Ok(())
}
