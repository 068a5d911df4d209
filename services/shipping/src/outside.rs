//! The carrier over HTTP.
//!
//! A verdict is what the carrier says in so many words, whatever the number of its status. All else, a parcel that it knows
//! nothing of included, is not known, and is asked for again.

use std::time::Duration;

use quadrille_core::bounds::fitted;
use quadrille_events::Uuid;
use quadrille_runtime::{Answer, Limit, Outside, Then};
use reqwest::{Client, RequestBuilder, StatusCode, Url};
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

    async fn verdict(&self, request: RequestBuilder, effect: &Effect) -> Answer<Outcome> {
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_timeout() => return Answer::Unknown("no answer in time".to_owned()),
            Err(error) if error.is_connect() => return Answer::Unknown("it cannot be reached".to_owned()),
            Err(error) => return Answer::Unknown(error.without_url().to_string()),
        };
        let status = response.status();
        if status == StatusCode::NOT_FOUND {
            return Answer::Nothing;
        }
        if status.is_server_error() {
            return Answer::Unknown(format!("it answered {status}"));
        }
        let verdict = response.json().await.ok().and_then(|verdict| known(effect, verdict));
        match verdict {
            Some(outcome) => Answer::Known(outcome),
            None => Answer::Unknown(format!("it answered {status} and no verdict")),
        }
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
        match self.verdict(request.header("Idempotency-Key", id.to_string()), effect).await {
            // A parcel was handed over: that nothing is known of it is no word on where it is.
            Answer::Nothing => Answer::Unknown("it knows nothing of this parcel".to_owned()),
            answer => answer,
        }
    }

    async fn ask(&self, id: Uuid, effect: &Effect) -> Answer<Outcome> {
        let key = id.to_string();
        match effect {
            Effect::HandOver { .. } => self.verdict(self.client.get(self.at(&["hand-overs", &key])), effect).await,
            Effect::Recall { .. } => self.verdict(self.client.get(self.at(&["recalls", &key])), effect).await,
            // To track is to ask.
            Effect::Track { .. } => self.perform(id, effect).await,
        }
    }

    fn limit(&self, _: &Effect) -> Limit<Outcome> {
        Limit { after: self.park_after, then: Then::Park }
    }
}
