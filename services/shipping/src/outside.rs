//! The carrier over HTTP.
//!
//! A verdict is what the carrier says in so many words, whatever the number of its status. All else, a parcel that it knows
//! nothing of included, is not known, and is asked for again.

use std::time::Duration;

use quadrille_core::bounds::fitted;
use quadrille_events::Uuid;
use quadrille_runtime::{
    Answer, Limit, Outside, Then,
    config::{Key, Settings, TIMEOUT_MS, address},
    http,
};
use reqwest::{Client, Url};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Effect, Outcome, Shipping};

/// Where the carrier is. The configuration's `outside`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CarrierSettings {
    /// Its address.
    pub url: String,
    /// How long one request may take, in milliseconds.
    pub timeout_ms: u64,
    /// An effect without an answer for so long waits for a person. Shorter than the carrier remembers idempotency keys.
    pub park_after_ms: u64,
}

impl Settings for CarrierSettings {
    const KEYS: &'static [Key] = &[
        Key::address(
            "outside.url",
            "http://host:port or https://host:port",
            address::http,
            "parcels are handed over below it",
        ),
        TIMEOUT_MS,
        Key::number(
            "outside.park_after_ms",
            1_000,
            2_592_000_000,
            "within a second nobody can have answered, and after a month no carrier remembers a key",
        ),
    ];

    fn timeout_ms(&self) -> Option<u64> {
        Some(self.timeout_ms)
    }
}

impl Default for CarrierSettings {
    fn default() -> Self {
        Self { url: "http://127.0.0.1:8072".to_owned(), timeout_ms: 5_000, park_after_ms: 20 * 3_600_000 }
    }
}

/// The carrier.
#[derive(Debug)]
pub struct Carrier {
    client: Client,
    url: Url,
    park_after: Duration,
}

/// What the carrier says. Which fields are filled depends on the status.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Verdict {
    status: String,
    tracking_id: String,
    reason: String,
    detail: String,
}

impl Carrier {
    /// A carrier; nothing is sent yet.
    pub fn new(settings: &CarrierSettings) -> reqwest::Result<Self> {
        let client = Client::builder().timeout(Duration::from_millis(settings.timeout_ms)).build()?;
        let url = client.get(&settings.url).build()?.url().clone();
        Ok(Self { client, url, park_after: Duration::from_millis(settings.park_after_ms) })
    }

    /// The address below the carrier's own; what is named in it is a stranger's text and cannot lead elsewhere.
    fn at(&self, path: &[&str]) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }
}

/// The verdict, if it is one on this effect.
fn known(effect: &Effect, verdict: Verdict) -> Option<Outcome> {
    match (effect, verdict.status.as_str()) {
        (Effect::HandOver { .. }, "accepted") if !verdict.tracking_id.is_empty() => {
            Some(Outcome::Accepted { tracking_id: fitted(&verdict.tracking_id) })
        }
        (Effect::HandOver { .. }, "refused") => {
            Some(Outcome::Refused { reason: fitted(&verdict.reason), detail: fitted(&verdict.detail) })
        }
        (Effect::Track { .. } | Effect::Recall { .. }, "under_way") => Some(Outcome::UnderWay {}),
        (Effect::Track { .. } | Effect::Recall { .. }, "delivered") => Some(Outcome::Delivered {}),
        (Effect::Track { .. } | Effect::Recall { .. }, "returned") => Some(Outcome::Returned {}),
        _ => None,
    }
}

impl Outside for Carrier {
    type Policy = Shipping;

    async fn perform(&self, id: Uuid, effect: &Effect) -> Answer<Outcome> {
        let request = match effect {
            Effect::HandOver { order_id, method, name, address } => {
                let parcel = json!({"order_id": order_id, "method": method, "name": name, "address": address});
                self.client.post(self.at(&["parcels"])).json(&parcel)
            }
            Effect::Track { tracking_id } => self.client.get(self.at(&["parcels", tracking_id])),
            Effect::Recall { tracking_id } => self.client.post(self.at(&["parcels", tracking_id, "recall"])),
        };
        match http::verdict(request.header("Idempotency-Key", id.to_string()), |verdict| known(effect, verdict)).await {
            // A parcel was handed over: that nothing is known of it is no word on where it is.
            Answer::Nothing => Answer::Unknown("it knows nothing of this parcel".to_owned()),
            answer => answer,
        }
    }

    async fn ask(&self, id: Uuid, effect: &Effect) -> Answer<Outcome> {
        let asked_at = match effect {
            Effect::HandOver { .. } => "hand-overs",
            Effect::Recall { .. } => "recalls",
            // To track is to ask.
            Effect::Track { .. } => return self.perform(id, effect).await,
        };
        let request = self.client.get(self.at(&[asked_at, &id.to_string()]));
        http::verdict(request, |verdict| known(effect, verdict)).await
    }

    fn limit(&self, _: &Effect) -> Limit<Outcome> {
        Limit { after: self.park_after, then: Then::Park }
    }
}
