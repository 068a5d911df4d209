//! The payment provider over HTTP.
//!
//! A verdict is what the provider says in so many words of this very key. All else, a refusal of our request and a proxy's error page
//! included, is not known, and is asked for again.

use std::time::Duration;

use quadrille_core::bounds::fitted;
use quadrille_events::Uuid;
use quadrille_runtime::{
    Answer, Limit, Outside, Then,
    config::{Key, PARK_AFTER_MS, Settings, TIMEOUT_MS, address},
    http::{self, Said},
};
use reqwest::Client;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Effect, Outcome, Payment};

/// Where the provider is. The configuration's `outside`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderSettings {
    /// Its address.
    pub url: String,
    /// How long one request may take, in milliseconds.
    pub timeout_ms: u64,
    /// An effect without an answer for so long waits for a person. Shorter than the provider remembers idempotency keys.
    pub park_after_ms: u64,
}

impl Settings for ProviderSettings {
    const KEYS: &'static [Key] = &[
        Key::address(
            "outside.url",
            "http://host:port or https://host:port",
            address::http,
            "charges and refunds are asked for below it",
        ),
        TIMEOUT_MS,
        PARK_AFTER_MS,
    ];

    fn timeout_ms(&self) -> Option<u64> {
        Some(self.timeout_ms)
    }
}

impl Default for ProviderSettings {
    fn default() -> Self {
        Self { url: "http://127.0.0.1:8071".to_owned(), timeout_ms: 5_000, park_after_ms: 20 * 3_600_000 }
    }
}

/// The payment provider.
#[derive(Debug)]
pub struct Provider {
    client: Client,
    url: String,
    park_after: Duration,
}

/// What the provider says. Which fields are filled depends on the status.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Verdict {
    idempotency_key: Uuid,
    status: String,
    charge_id: String,
    refund_id: String,
    reason: String,
    detail: String,
}

impl Provider {
    /// A provider; nothing is sent yet.
    pub fn new(settings: &ProviderSettings) -> reqwest::Result<Self> {
        Ok(Self {
            client: http::client(Duration::from_millis(settings.timeout_ms))?,
            url: settings.url.trim_end_matches('/').to_owned(),
            park_after: Duration::from_millis(settings.park_after_ms),
        })
    }
}

/// What is said of this effect, if anything.
fn said(id: Uuid, effect: &Effect, verdict: Verdict) -> Option<Said<Outcome>> {
    if verdict.idempotency_key != id {
        return None;
    }
    let (reason, detail) = (fitted(&verdict.reason), fitted(&verdict.detail));
    let (charge_id, refund_id) = (fitted(verdict.charge_id.trim()), fitted(verdict.refund_id.trim()));
    match (effect, verdict.status.as_str()) {
        (Effect::Charge { .. }, "captured") if !charge_id.is_empty() => {
            Some(Said::Verdict(Outcome::Captured { charge_id }))
        }
        (Effect::Charge { .. }, "declined") => Some(Said::Refusal(Outcome::Declined { reason, detail })),
        (Effect::Refund { .. }, "refunded") if !refund_id.is_empty() => {
            Some(Said::Verdict(Outcome::Refunded { refund_id }))
        }
        (Effect::Refund { .. }, "refused") => Some(Said::Refusal(Outcome::Refused { reason, detail })),
        (_, "unknown_key") => Some(Said::NoTrace),
        _ => None,
    }
}

/// What each effect's requests are under.
fn path(effect: &Effect) -> &'static str {
    match effect {
        Effect::Charge { .. } => "charges",
        Effect::Refund { .. } => "refunds",
    }
}

fn body(effect: &Effect) -> Value {
    match effect {
        Effect::Charge { order_id, amount, currency, token } => {
            json!({"order_id": order_id, "amount": amount, "currency": currency, "token": token})
        }
        Effect::Refund { order_id, charge_id, amount, currency } => {
            json!({"order_id": order_id, "charge_id": charge_id, "amount": amount, "currency": currency})
        }
    }
}

impl Outside for Provider {
    type Policy = Payment;

    async fn perform(&self, id: Uuid, effect: &Effect) -> Answer<Outcome> {
        let request = self.client.post(format!("{}/{}", self.url, path(effect)));
        let request = request.header("Idempotency-Key", id.to_string());
        match http::verdict(request.json(&body(effect)), |verdict| said(id, effect, verdict)).await {
            // A charge that was just wanted: that nothing is known of it is no word on it.
            Answer::Nothing => Answer::Unknown("it answered 404 Not Found".to_owned()),
            answer => answer,
        }
    }

    async fn ask(&self, id: Uuid, effect: &Effect) -> Answer<Outcome> {
        let request = self.client.get(format!("{}/{}/{id}", self.url, path(effect)));
        http::verdict(request, |verdict| said(id, effect, verdict)).await
    }

    fn limit(&self, _: &Effect) -> Limit<Outcome> {
        Limit { after: self.park_after, then: Then::Park }
    }
}
