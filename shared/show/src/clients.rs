//! Those who ask: customers who register and order, and the one who stocks the shelves.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use quadrille_cli::{
    Settings,
    kafka::{Placed as Place, Producer},
    registry::Registry,
};
use quadrille_core::Record;
use quadrille_events::{
    Money, OrderCancellationRequested, Personal, ProductListingRequested, Secret, StockReplenishmentRequested,
    UserRegistrationRequested, frame,
};
use uuid::Uuid;

use crate::{
    http,
    orders::{FEW, Goods, Kind, Placed},
};

/// A hash that the user service accepts, of a password that nobody uses.
const PASSWORD_HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$cXVhZHJpbGxlLXNhbHQtMQ$xpXrMpUdTewD+RekzHcR+O/Plrheo4rTHgMMq81Lc7A";
/// How long the provider thinks about an order that is to be cancelled meanwhile: less than the payment service's own time-out.
const THINKS_MS: u32 = 4_000;
/// So many requests are on their way at once.
const AT_ONCE: usize = 100;

/// Clients of one world, which know nothing of headers.
pub struct Clients {
    producer: Producer,
    registry: Registry,
    ids: Mutex<BTreeMap<String, u32>>,
    provider: String,
}

impl Clients {
    /// Clients of the world that these settings name.
    pub fn connect(settings: &Settings) -> anyhow::Result<Self> {
        Ok(Self {
            producer: Producer::connect(settings)?,
            registry: Registry::connect(settings)?,
            ids: Mutex::default(),
            provider: settings.provider.url.clone(),
        })
    }

    /// The record's value as it goes to Kafka.
    pub async fn framed<R: Record>(&self, record: &R) -> anyhow::Result<Vec<u8>> {
        let subject = R::TYPE.subject();
        let known = self.ids.lock().unwrap_or_else(PoisonError::into_inner).get(&subject).copied();
        let id = match known {
            Some(id) => id,
            None => {
                let id = self.registry.id_of(&subject, R::TYPE.schema).await?;
                let id = id.with_context(|| format!("subject {subject} is missing: `make up` applies the schemas"))?;
                self.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(subject, id);
                id
            }
        };
        let mut datum = vec![];
        record.encode(&mut datum);
        Ok(frame(id, &datum))
    }

    /// Sends a record.
    pub async fn send<R: Record>(&self, record: &R) -> anyhow::Result<Place> {
        let value = self.framed(record).await?;
        self.send_raw(R::TYPE.topic, Some(record.key().as_bytes()), &value, &[]).await
    }

    /// Sends anything.
    pub async fn send_raw(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: &[u8],
        headers: &[(&str, String)],
    ) -> anyhow::Result<Place> {
        self.producer.send(topic, key, value, headers).await
    }

    /// Registers the customer of some goods.
    pub async fn register(&self, goods: &Goods) -> anyhow::Result<()> {
        let name = format!("ann-{}", goods.tag.to_lowercase());
        let registration = UserRegistrationRequested {
            user_name: name.clone(),
            personal: Personal {
                name: Some("Ann Example".to_owned()),
                address: Some("1 Harbour Street, 20095 Hamburg".to_owned()),
                email: Some(format!("{name}@example.com")),
                sealed: None,
            },
            password_hash: Secret::new(PASSWORD_HASH),
            ..UserRegistrationRequested::new(goods.customer)
        };
        self.send(&registration).await.map(drop)
    }

    /// Lists some goods.
    pub async fn list(&self, goods: &Goods) -> anyhow::Result<()> {
        for (sku, name, cents) in [(&goods.plenty, "Assam tea", 1_999), (&goods.few, "A cup", 850)] {
            let listing = ProductListingRequested {
                name: name.to_owned(),
                currency: "EUR".to_owned(),
                ..ProductListingRequested::new(sku.clone(), Money::cents(cents))
            };
            self.send(&listing).await?;
        }
        Ok(())
    }

    /// Replenishes some goods that are listed.
    pub async fn replenish(&self, goods: &Goods) -> anyhow::Result<()> {
        for (sku, quantity) in [(&goods.plenty, 1_000_000), (&goods.few, FEW)] {
            self.send(&StockReplenishmentRequested::new(sku.clone(), Uuid::new_v4(), quantity)).await?;
        }
        Ok(())
    }

    /// Places orders of these kinds, many at once.
    pub async fn order(&self, goods: &Goods, kinds: impl IntoIterator<Item = Kind>) -> anyhow::Result<Vec<Placed>> {
        let placed: Vec<Placed> = kinds.into_iter().map(Placed::new).collect();
        let requests = placed.iter().map(|order| order.request(goods, THINKS_MS));
        let sent = stream::iter(requests).map(|request| async move { self.send(&request).await });
        sent.buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await?;
        Ok(placed)
    }

    /// Cancels an order.
    pub async fn cancel(&self, order: &Placed) -> anyhow::Result<()> {
        self.send(&OrderCancellationRequested::new(order.id)).await.map(drop)
    }

    /// Waits until the payment provider has an order's charge, whatever it has said of it.
    pub async fn charged(&self, order: &Placed, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        let (url, key) = (format!("{}/ledger?order_id={}", self.provider, order.id), order.key());
        while http::json(&url).await?["orders"].get(&key).is_none() {
            ensure!(Instant::now() < deadline, "the provider knows no charge of {key} after {patience:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}
