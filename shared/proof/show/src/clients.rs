//! Those who ask: customers who register and order, and the one who stocks the shelves.

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures::{StreamExt, TryStreamExt, stream};
use quadrille_cli::{
    Settings,
    effects::{self, Effect},
    kafka::{Codec, Placed as Place, Producer},
    operate::{self, Person},
};
use quadrille_core::{Declaration, Record};
use quadrille_events::{
    Money, OrderCancellationRequested, OrderRequested, Personal, ProductListingRequested, RefundRetryRequested,
    RequestedLine, Secret, StockReplenishmentRequested, UserDeactivationRequested, UserProfileUpdateRequested,
    UserRegistrationRequested,
};
use quadrille_roster::DECLARATIONS;
use quadrille_shop::audit;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    Follower, Tally, http,
    orders::{CHANGING_CENTS, Customer, Deed, Goods, Kind, Placed, Product, When},
};

/// A hash that the user service accepts, of a password that nobody uses.
const PASSWORD_HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$cXVhZHJpbGxlLXNhbHQtMQ$xpXrMpUdTewD+RekzHcR+O/Plrheo4rTHgMMq81Lc7A";
/// How long a client waits for what it does something after, services' deaths included.
const TIMEOUT: Duration = Duration::from_secs(120);
/// So many requests are on their way at once.
const AT_ONCE: usize = 100;

/// Clients of one world, which know nothing of headers.
pub struct Clients {
    producer: Producer,
    codec: Codec,
    settings: Settings,
    carrier: String,
}

impl Clients {
    /// Clients of the world that these settings name.
    pub fn connect(settings: &Settings) -> anyhow::Result<Self> {
        Ok(Self {
            producer: Producer::connect(&settings.kafka)?,
            codec: Codec::new(settings.registry()?, &[]),
            settings: settings.clone(),
            carrier: String::new(),
        })
    }

    /// The same, which know where the carrier is: see [`When::ParcelAtCarrier`].
    pub fn with_carrier(self, url: &str) -> Self {
        Self { carrier: url.to_owned(), ..self }
    }

    /// The record's value as it goes to Kafka.
    pub async fn framed<R: Record>(&self, record: &R) -> anyhow::Result<Vec<u8>> {
        self.codec.encode(record).await
    }

    /// Sends a record.
    pub async fn send<R: Record>(&self, record: &R) -> anyhow::Result<Place> {
        let value = self.framed(record).await?;
        self.send_raw(&R::TYPE.topic.name, Some(record.key().as_bytes()), &value, &[]).await
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
        let email = format!("ann-{}@example.com", goods.tag.to_lowercase());
        self.register_with(goods.customer, Some(email)).await
    }

    async fn register_with(&self, user_id: Uuid, email: Option<String>) -> anyhow::Result<()> {
        let registration = UserRegistrationRequested {
            user_name: format!("ann-{user_id}"),
            personal: Personal {
                name: Some("Ann Example".to_owned()),
                address: Some("1 Harbour Street, 20095 Hamburg".to_owned()),
                email,
                sealed: None,
            },
            password_hash: Secret::new(PASSWORD_HASH),
            ..UserRegistrationRequested::new(user_id)
        };
        self.send(&registration).await.map(drop)
    }

    /// Lists products.
    pub async fn list(&self, products: &[Product<'_>]) -> anyhow::Result<()> {
        for product in products {
            self.list_at(product.sku, product.name, product.price).await?;
        }
        Ok(())
    }

    async fn list_at(&self, sku: &str, name: &str, price: Money) -> anyhow::Result<()> {
        let listing = ProductListingRequested {
            name: name.to_owned(),
            currency: "EUR".to_owned(),
            ..ProductListingRequested::new(sku.to_owned(), price)
        };
        self.send(&listing).await.map(drop)
    }

    /// Replenishes products that are listed.
    pub async fn replenish(&self, products: &[Product<'_>]) -> anyhow::Result<()> {
        for product in products {
            let delivery = StockReplenishmentRequested::new(product.sku.to_owned(), Uuid::new_v4(), product.quantity);
            self.send(&delivery).await?;
        }
        Ok(())
    }

    /// Places orders of these kinds, many at once.
    pub async fn order(&self, goods: &Goods, kinds: impl IntoIterator<Item = Kind>) -> anyhow::Result<Vec<Placed>> {
        let placed: Vec<Placed> = kinds.into_iter().map(Placed::new).collect();
        self.place(goods, &placed).await?;
        Ok(placed)
    }

    /// Places these orders, many at once.
    pub async fn place(&self, goods: &Goods, orders: &[Placed]) -> anyhow::Result<()> {
        let requests = orders.iter().map(|order| order.request(goods));
        let sent = stream::iter(requests).map(|request| async move { self.send(&request).await });
        sent.buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await
    }

    /// Cancels an order.
    pub async fn cancel(&self, order: &Placed) -> anyhow::Result<()> {
        self.send(&OrderCancellationRequested::new(order.id)).await.map(drop)
    }

    /// What the client of an order does before it orders: its own customer registers.
    pub async fn before(&self, follower: &Follower, order: &Placed) -> anyhow::Result<()> {
        let user_id = order.own_customer;
        let heard = |name| async move { heard(follower, &user_id.to_string(), name).await };
        let address = |word: &str| Some(format!("{word}.{user_id}@example.com"));
        match order.kind.plan().customer {
            Customer::Shared | Customer::Nobody => return Ok(()),
            Customer::Own(word) => self.register_with(user_id, address(word)).await?,
            Customer::WithoutAddress => self.register_with(user_id, None).await?,
            Customer::Deactivated => {
                self.register_with(user_id, address("ann")).await?;
                heard("UserRegistered").await?;
                self.send(&UserDeactivationRequested::new(user_id)).await?;
                return heard("UserDeactivated").await;
            }
        }
        heard("UserRegistered").await
    }

    /// What the client of an order does later: each once it has seen what it waits for.
    pub async fn after(&self, follower: &Follower, goods: &Goods, order: &Placed) -> anyhow::Result<()> {
        for (when, deed) in order.kind.plan().later {
            match when {
                When::Heard(name) => heard(follower, &order.key(), name).await?,
                When::InVain(kind) => self.in_vain(order, kind).await.map(drop)?,
                When::ChargeAtProvider => self.charged(follower, order).await?,
                When::ParcelAtCarrier => self.handed_over(follower, order).await?,
            }
            self.does(*deed, goods, order).await?;
        }
        Ok(())
    }

    async fn does(&self, deed: Deed, goods: &Goods, order: &Placed) -> anyhow::Result<()> {
        let customer = order.customer(goods);
        match deed {
            Deed::Cancel => self.cancel(order).await,
            Deed::SameAgain => self.send(&order.request(goods)).await.map(drop),
            Deed::OtherContent => {
                let other = RequestedLine::new(goods.plenty.clone(), 1);
                self.send(&OrderRequested { lines: vec![other], ..order.request(goods) }).await.map(drop)
            }
            Deed::RetryRefund => {
                let retry = RefundRetryRequested {
                    who: "ann@example.com".to_owned(),
                    why: "The provider says that it works again.".to_owned(),
                    ..RefundRetryRequested::new(order.id)
                };
                self.send(&retry).await.map(drop)
            }
            Deed::AnswerThatItReturned => {
                let track = self.in_vain(order, "track").await?;
                let person = Person {
                    who: "ann@example.com".to_owned(),
                    why: "The carrier says on the telephone that it is back.".to_owned(),
                };
                let answer = json!({"effect_id": track, "outcome": r#"{"outcome":"returned"}"#});
                let deadline = Instant::now() + TIMEOUT;
                loop {
                    let asked = operate::ask(&self.settings, "EffectAnswered", "shipping", &person, answer.clone());
                    let came = asked.await?;
                    if came.result == "done" {
                        return Ok(());
                    }
                    // A person, too, is told to come again while a try is under way.
                    let early = came.detail.contains("is being tried just now") && Instant::now() < deadline;
                    ensure!(early, "the answer to {track} was {}: {}", came.result, came.detail);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            Deed::ChangePrice => self.list_at(&goods.changing, "", Money::cents(CHANGING_CENTS.1)).await,
            Deed::Deactivate => self.send(&UserDeactivationRequested::new(customer)).await.map(drop),
            Deed::TellAddress => {
                let update = UserProfileUpdateRequested {
                    personal: Personal { email: Some(format!("later.{customer}@example.com")), ..Personal::default() },
                    ..UserProfileUpdateRequested::new(customer)
                };
                self.send(&update).await.map(drop)
            }
        }
    }

    /// Waits until an order's effect of this kind was tried in vain, and returns its id.
    async fn in_vain(&self, order: &Placed, kind: &str) -> anyhow::Result<Uuid> {
        let wants = |declared: &&Declaration| declared.effects.iter().any(|effect| effect.kind == kind);
        let service = DECLARATIONS.iter().find(wants).map(|declared| declared.service);
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let (open, unread) = effects::open(&self.settings, service).await?;
            ensure!(unread.is_empty(), "{}", unread.join(" "));
            let of_order = |effect: &&Effect| effect.key == order.key() && effect.kind == kind;
            if let Some(tried) = open.iter().find(of_order).filter(|effect| effect.last_answer.is_some()) {
                return Ok(tried.id);
            }
            ensure!(Instant::now() < deadline, "no {kind} of {} was tried in vain in {TIMEOUT:?}", order.id);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until the payment provider has an order's charge, whatever it has said of it.
    pub async fn charged(&self, follower: &Follower, order: &Placed) -> anyhow::Result<()> {
        heard(follower, &order.key(), "StockReserved").await?;
        let (url, key) = (format!("{}/ledger?order_id={}", audit::provider_url(&self.settings), order.id), order.key());
        there(&url, &format!("the provider has no charge of {key}"), |told| told["orders"].get(&key).is_some()).await
    }

    /// Waits until the carrier has an order's parcel, whatever it has said of it.
    async fn handed_over(&self, follower: &Follower, order: &Placed) -> anyhow::Result<()> {
        heard(follower, &order.key(), "OrderConfirmed").await?;
        let url = format!("{}/parcels?order_id={}", self.carrier, order.id);
        let any = |told: &Value| told["parcels"].as_array().is_some_and(|parcels| !parcels.is_empty());
        there(&url, &format!("the carrier has no parcel of {}", order.id), any).await
    }
}

/// Waits until a fact of a key was stated.
async fn heard(follower: &Follower, key: &str, name: &str) -> anyhow::Result<()> {
    let missing = |tally: &Tally| format!("no {name} of {key}: {}", tally.story(key).describe());
    follower.until(TIMEOUT, |tally| tally.is(key, |story| story.has(name)), missing).await
}

/// Waits until the outside tells something. It cannot call us, so it is asked again and again.
async fn there(url: &str, missing: &str, is_there: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    while !is_there(&http::json(url).await?) {
        ensure!(Instant::now() < deadline, "{missing} after {TIMEOUT:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
