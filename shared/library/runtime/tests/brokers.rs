//! A broker that has just started answers questions about topics before it knows of any broker, itself included. By such an answer a client may
//! forget all that it knew (confluentinc/librdkafka#5301): a race within it, which a producer loses about every second time and a consumer
//! seldom. Nothing of an instance may stay away for good by that.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use quadrille_cli::kafka::Admin;
use quadrille_core::Record as _;
use quadrille_events::StockReplenishmentRequested;
use quadrille_platform::InstanceHeartbeat;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::{
    support::{Shop, assert_order},
    topics,
};

const METADATA: i16 = 3;
const FIND_COORDINATOR: i16 = 10;

/// A proxy before the broker that advertises itself in the broker's place, so that whoever has once come through it stays behind it.
struct Broker {
    address: String,
    state: Arc<State>,
}

struct State {
    /// The real one.
    server: String,
    port: i32,
    own_port: i32,
    /// Whether it knows of no broker.
    starting: AtomicBool,
    /// The clients that were told so.
    told: watch::Sender<BTreeSet<String>>,
    /// How many requests each client has sent.
    requests: watch::Sender<BTreeMap<String, usize>>,
}

impl Broker {
    async fn before(brokers: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (_, port) = brokers.rsplit_once(':').expect("a host and a port");
        let state = Arc::new(State {
            server: brokers.to_owned(),
            port: port.parse()?,
            own_port: i32::from(address.port()),
            starting: AtomicBool::default(),
            told: watch::Sender::default(),
            requests: watch::Sender::default(),
        });
        let serving = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, Arc::clone(&serving)));
            }
        });
        Ok(Self { address: address.to_string(), state })
    }

    /// Knows of no broker until each of these clients was told so. They ask every ten seconds.
    async fn forget(&self, clients: &[&str]) {
        self.state.starting.store(true, Ordering::Relaxed);
        let mut told = self.state.told.subscribe();
        let all = told.wait_for(|told| clients.iter().all(|client| told.iter().any(|told| told.starts_with(client))));
        let in_time = tokio::time::timeout(Duration::from_secs(60), all).await.is_ok();
        assert!(in_time, "only {:?} asked", self.state.told.borrow());
        self.state.starting.store(false, Ordering::Relaxed);
    }
}

async fn serve(client: TcpStream, state: Arc<State>) -> std::io::Result<()> {
    let server = TcpStream::connect(&state.server).await?;
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    // By correlation id: what was asked, and by whom.
    let questions: Mutex<BTreeMap<[u8; 4], (i16, String)>> = Mutex::default();
    let requests = async {
        loop {
            let request = frame(&mut from_client).await?;
            let name_end = 10 + usize::from(u16::from_be_bytes([request[8], request[9]]));
            let name = String::from_utf8_lossy(&request[10..name_end]).into_owned();
            state.requests.send_modify(|requests| *requests.entry(name.clone()).or_default() += 1);
            let correlation = [request[4], request[5], request[6], request[7]];
            let kind = i16::from_be_bytes([request[0], request[1]]);
            questions.lock().unwrap_or_else(PoisonError::into_inner).insert(correlation, (kind, name));
            send(&mut to_server, &request).await?;
        }
    };
    let answers = async {
        loop {
            let mut answer = frame(&mut from_server).await?;
            let correlation = [answer[0], answer[1], answer[2], answer[3]];
            let question = questions.lock().unwrap_or_else(PoisonError::into_inner).remove(&correlation);
            match question {
                Some((METADATA, client)) => {
                    advertise(&mut answer, state.port, state.own_port);
                    if state.starting.load(Ordering::Relaxed) {
                        without_brokers(&mut answer);
                        state.told.send_modify(|told| _ = told.insert(client));
                    }
                }
                Some((FIND_COORDINATOR, _)) => advertise(&mut answer, state.port, state.own_port),
                _ => {}
            }
            send(&mut to_client, &answer).await?;
        }
    };
    tokio::select! {
        ended = requests => ended,
        ended = answers => ended,
    }
}

/// Puts another port in the place of a broker's.
fn advertise(answer: &mut [u8], port: i32, other: i32) {
    for at in 0..answer.len().saturating_sub(3) {
        if answer[at..at + 4] == port.to_be_bytes() {
            answer[at..at + 4].copy_from_slice(&other.to_be_bytes());
        }
    }
}

/// Takes the brokers out of a metadata response of version 9 or later.
fn without_brokers(answer: &mut Vec<u8>) {
    // The correlation id, no tagged fields, and a throttle time.
    let start = 4 + 1 + 4;
    let mut at = start;
    for _ in 1..varint(answer, &mut at) {
        at += 4;
        at = varint(answer, &mut at) - 1 + at;
        at += 4;
        at = varint(answer, &mut at).saturating_sub(1) + at;
        assert_eq!(varint(answer, &mut at), 0, "no tagged fields");
    }
    answer.splice(start..at, [1]);
}

fn varint(bytes: &[u8], at: &mut usize) -> usize {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[*at];
        *at += 1;
        value |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

async fn frame(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    let mut frame = vec![0; length as usize];
    from.read_exact(&mut frame).await?;
    Ok(frame)
}

async fn send(to: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> std::io::Result<()> {
    let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(frame);
    to.write_all(&bytes).await
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_were_told_of_no_broker_find_them_again() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let (admin, dead_letters) = shop.create_dead_letter_topic().await?;
    let mut config = shop.config();
    let broker = Broker::before(&config.kafka.brokers).await?;
    config.kafka.brokers = broker.address.clone();
    let instance = shop.start_with(config);
    shop.ask("A", 0).await?;
    shop.stated(1).await?;
    let letters = |count| shop.world.read_until("tally.dead-letters", move |records| records.len() >= count);
    let not_avro = || shop.world.send_raw(&StockReplenishmentRequested::TYPE.topic.name, Some(b"A"), b"no Avro", &[]);
    not_avro().await?;
    letters(1).await?;

    let parts = ["tally-", "relay", "dead-letters", "heartbeat"].map(|part| format!("quadrille-tally-{part}"));
    broker.forget(&parts.each_ref().map(String::as_str)).await;

    shop.ask("A", 0).await?;
    not_avro().await?;
    let stated = shop.stated(2).await?;
    assert_eq!((assert_order(&stated), shop.pieces().await?), (0, 2));
    letters(2).await?;
    let now = chrono::Utc::now();
    let beats = shop.world.read_until(&InstanceHeartbeat::TYPE.topic.name, move |records| {
        records.iter().any(|record| record.timestamp_ms > now.timestamp_millis())
    });
    beats.await?;
    instance.stop().await?;
    admin.delete(&[dead_letters]).await
}

/// Whether the service's consumer has come.
fn has_consumer(requests: &BTreeMap<String, usize>) -> bool {
    requests.keys().any(|client| client.starts_with("quadrille-tally-tally-"))
}

/// What a consumer has to tell is kept in memory until somebody polls it, and nobody does before its topics are there.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_waits_for_its_topics_has_no_consumer_yet() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let admin = Admin::connect(&shop.world.settings.kafka)?;
    topics::delete(&shop, &admin).await?;
    let mut config = shop.config();
    let broker = Broker::before(&config.kafka.brokers).await?;
    config.kafka.brokers = broker.address.clone();
    let mut requests = broker.state.requests.subscribe();
    let instance = shop.start_with(config);
    // It looks twice a second, with a few requests each time: a client that is there would have come long before.
    let looks = requests.wait_for(|requests| requests.get("quadrille-tally-start").is_some_and(|sent| *sent >= 30));
    drop(tokio::time::timeout(Duration::from_secs(60), looks).await??);
    assert!(!has_consumer(&requests.borrow()));

    topics::create(&shop, &admin).await?;
    shop.ask("TEA", 0).await?;
    shop.stated(1).await?;
    assert!(has_consumer(&requests.borrow()));
    instance.stop().await
}
