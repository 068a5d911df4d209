//! The outside world of a shop: payment provider, carrier and mail catcher, each a process, and what they remember.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context;
use serde_json::Value;

use crate::{binaries, http, process::Process};

/// The three stand-ins, on ports of their own.
pub struct Outside {
    /// The payment provider's address.
    pub payment: String,
    /// The carrier's address.
    pub carrier: String,
    /// The mail page's address.
    pub mail: String,
    /// Where mail is taken, `host:port`.
    pub smtp: String,
    processes: [Process; 3],
}

impl Outside {
    /// Starts the stand-ins; what they do is kept in files in `folder`, and so are their logs.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        let program = binaries::find("quadrille-stand-ins")?;
        let start = |name: &str, arguments: &[&str]| {
            let state = folder.join(format!("{name}.state")).display().to_string();
            let arguments: Vec<&str> = [name, "--bind", "127.0.0.1:0", "--state", &state]
                .into_iter()
                .chain(arguments.iter().copied())
                .collect();
            let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
            Process::start(name, &program, &arguments, &[], folder.join(format!("{name}.log")))
        };
        let mut payment = start("payment", &[])?;
        let mut carrier = start("carrier", &[])?;
        let mut mail = start("mail", &["--smtp-bind", "127.0.0.1:0", "--keep", "100000"])?;
        Ok(Self {
            payment: payment.says("Listening on ").await?,
            carrier: carrier.says("Listening on ").await?,
            mail: mail.says("Listening on ").await?,
            smtp: mail.says("smtp://").await?,
            processes: [payment, carrier, mail],
        })
    }

    /// Their processes.
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// What the payment provider did.
    pub async fn ledger(&self) -> anyhow::Result<Ledger> {
        Ledger::of(&self.payment).await
    }

    /// What the carrier did with each order's parcel: all parcels and refusals.
    pub async fn parcels(&self) -> anyhow::Result<Value> {
        http::json(&format!("{}/parcels", self.carrier)).await
    }

    /// Which mails came.
    pub async fn mails(&self) -> anyhow::Result<Mails> {
        let told = http::json(&format!("{}/api/mails?limit=0", self.mail)).await?;
        let count = |name: &str| told[name].as_u64().with_context(|| format!("the mail catcher tells no {name}"));
        Ok(Mails { message_ids: count("message_ids")?, repeats: count("repeats")? })
    }
}

/// Mails as the catcher counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mails {
    /// Different Message-IDs.
    pub message_ids: u64,
    /// Copies beyond the first of each.
    pub repeats: u64,
}

/// What the payment provider did, in sums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Charges and refunds that were done: of each order how many, and what was taken and not given back, in cents.
    pub orders: BTreeMap<String, Account>,
    /// Requests beyond the first under their key: tries after a lost answer.
    pub repeats: u64,
    /// Keys under which more than one thing was done.
    pub doubled: Vec<String>,
}

/// One order's money at the provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Charges that were done.
    pub charges: u64,
    /// Refunds that were done.
    pub refunds: u64,
    /// What was taken and not given back, in cents.
    pub net: i64,
}

impl Ledger {
    /// Asks the provider at this address.
    pub async fn of(url: &str) -> anyhow::Result<Self> {
        Self::read(&http::json(&format!("{url}/ledger")).await?)
    }

    fn read(told: &Value) -> anyhow::Result<Self> {
        let mut ledger = Self::default();
        for (order, sums) in told["orders"].as_object().context("the ledger has no orders")? {
            let count = |name: &str| sums[name].as_u64().with_context(|| format!("the ledger's {name} of {order}"));
            let net = sums["net"].as_str().map_or_else(|| sums["net"].to_string(), str::to_owned);
            let net: quadrille_events::Money = net.parse().with_context(|| format!("the ledger's net of {order}"))?;
            let account = Account { charges: count("charges")?, refunds: count("refunds")?, net: net.as_cents() };
            ledger.orders.insert(order.clone(), account);
        }
        let mut keys: BTreeMap<&str, u64> = BTreeMap::new();
        for operation in ["charges", "refunds"].into_iter().filter_map(|kind| told[kind].as_array()).flatten() {
            ledger.repeats += operation["requests"].as_u64().unwrap_or(1).saturating_sub(1);
            *keys.entry(operation["key"].as_str().unwrap_or_default()).or_default() += 1;
        }
        ledger.doubled = keys.into_iter().filter(|(_, times)| *times > 1).map(|(key, _)| key.to_owned()).collect();
        Ok(ledger)
    }
}
