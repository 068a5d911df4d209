//! The carrier over HTTP.
//!
//! A verdict is what the carrier says in so many words of this very parcel or key. All else, a parcel that it knows nothing of
//! included, is not known, and is asked for again. So is, past [`CarrierSettings::under_way_days`], that a parcel is still under way.

use std::time::Duration;

use quadrille_core::bounds::fitted;
use quadrille_events::Uuid;
use quadrille_runtime::{
    Answer, Limit, Outside, Then,
    config::{Key, PARK_AFTER_MS, Settings, TIMEOUT_MS, address},
    http::{self, Said},
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
    /// For so many days, since the hand-over or the recall, that a parcel is under way is an answer. Then it counts as none, so that a
    /// person sees it. Longer than any sound parcel takes: an order that has not ended after 14 days is recalled, and the way back is as
    /// long.
    pub under_way_days: u32,
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
        PARK_AFTER_MS,
        Key::number(
            "outside.under_way_days",
            1,
            365,
            "within a day no parcel needs a person, and after a year nobody finds it",
        ),
    ];

    fn timeout_ms(&self) -> Option<u64> {
        Some(self.timeout_ms)
    }
}

impl Default for CarrierSettings {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8072".to_owned(),
            timeout_ms: 5_000,
            park_after_ms: 20 * 3_600_000,
            under_way_days: 30,
        }
    }
}

/// The carrier.
#[derive(Debug)]
pub struct Carrier {
    client: Client,
    url: Url,
    park_after: Duration,
    under_way_days: u32,
}

/// What the carrier says. Which fields are filled depends on the status.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Verdict {
    idempotency_key: Uuid,
    status: String,
    tracking_id: String,
    reason: String,
    detail: String,
}

impl Carrier {
    /// A carrier; nothing is sent yet.
    pub fn new(settings: &CarrierSettings) -> anyhow::Result<Self> {
        Ok(Self {
            client: http::client(Duration::from_millis(settings.timeout_ms))?,
            url: Url::parse(&settings.url)?,
            park_after: Duration::from_millis(settings.park_after_ms),
            under_way_days: settings.under_way_days,
        })
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

/// What is said of this effect, if anything: of a hand-over by its key, of a parcel by its name.
fn said(id: Uuid, effect: &Effect, verdict: Verdict) -> Option<Said<Outcome>> {
    let named = fitted(verdict.tracking_id.trim());
    let outcome = match (effect, verdict.status.as_str()) {
        (_, "unknown_key") if verdict.idempotency_key == id => return Some(Said::NoTrace),
        (Effect::HandOver { .. }, _) if verdict.idempotency_key != id => return None,
        (Effect::HandOver { .. }, "accepted") if !named.is_empty() => Outcome::Accepted { tracking_id: named },
        (Effect::HandOver { .. }, "refused") => {
            let (reason, detail) = (fitted(&verdict.reason), fitted(&verdict.detail));
            return Some(Said::Refusal(Outcome::Refused { reason, detail }));
        }
        (Effect::Track { tracking_id, .. } | Effect::Recall { tracking_id }, _) if named != tracking_id.trim() => {
            return None;
        }
        // The recall came too late, which a carrier may call a refusal of it.
        (Effect::Recall { .. }, "delivered") => return Some(Said::Refusal(Outcome::Delivered {})),
        (Effect::Track { .. } | Effect::Recall { .. }, "under_way") => Outcome::UnderWay {},
        (Effect::Track { .. }, "delivered") => Outcome::Delivered {},
        (Effect::Track { .. } | Effect::Recall { .. }, "returned") => Outcome::Returned {},
        _ => return None,
    };
    Some(Said::Verdict(outcome))
}

impl Outside for Carrier {
    type Policy = Shipping;

    async fn perform(&self, id: Uuid, effect: &Effect) -> Answer<Outcome> {
        let request = match effect {
            Effect::HandOver { order_id, method, name, address } => {
                let parcel = json!({"order_id": order_id, "method": method, "name": name, "address": address});
                self.client.post(self.at(&["parcels"])).json(&parcel)
            }
            Effect::Track { tracking_id, .. } => self.client.get(self.at(&["parcels", tracking_id])),
            Effect::Recall { tracking_id } => self.client.post(self.at(&["parcels", tracking_id, "recall"])),
        };
        let request = request.header("Idempotency-Key", id.to_string());
        match (http::verdict(request, |verdict| said(id, effect, verdict)).await, effect) {
            // A parcel was handed over: that nothing is known of it is no word on where it is.
            (Answer::Nothing, _) => Answer::Unknown("it knows nothing of this parcel".to_owned()),
            (Answer::Known(Outcome::UnderWay {}), Effect::Track { under_way_days: days, .. })
                if *days >= self.under_way_days =>
            {
                Answer::Unknown(format!(
                    "under way for {days} days: outside.under_way_days lets it be {}",
                    self.under_way_days
                ))
            }
            (answer, _) => answer,
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
        http::verdict(request, |verdict| said(id, effect, verdict)).await
    }

    fn limit(&self, _: &Effect) -> Limit<Outcome> {
        Limit { after: self.park_after, then: Then::Park }
    }
}
