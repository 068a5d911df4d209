//! The outside world of a shop: payment provider, carrier and mail catcher, each a process, and what they remember.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

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
    /// In this order.
    processes: [Process; 3],
    folder: PathBuf,
}

impl Outside {
    /// Starts the stand-ins; what they do is kept in files in `folder`, and so are their logs.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        let mut payment = start(folder, "payment", ANY_PORT, &[])?;
        let mut carrier = start(folder, "carrier", ANY_PORT, &[])?;
        let mut mail = start_mail(folder, ANY_PORT, ANY_PORT)?;
        Ok(Self {
            payment: payment.says("Listening on ").await?,
            carrier: carrier.says("Listening on ").await?,
            mail: mail.says("Listening on ").await?,
            smtp: mail.says("smtp://").await?,
            processes: [payment, carrier, mail],
            folder: folder.to_owned(),
        })
    }

    /// The mail catcher goes away, as by a power cut.
    pub async fn mail_goes_away(&mut self) -> anyhow::Result<()> {
        self.processes[2].kill().await
    }

    /// The mail catcher is back where it was, with what it had.
    pub async fn mail_comes_back(&mut self) -> anyhow::Result<()> {
        let mut mail = start_mail(&self.folder, self.mail.trim_start_matches("http://"), &self.smtp)?;
        mail.says("Listening on ").await?;
        self.processes[2] = mail;
        Ok(())
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

const ANY_PORT: &str = "127.0.0.1:0";

fn start_mail(folder: &Path, bind: &str, smtp: &str) -> anyhow::Result<Process> {
    start(folder, "mail", bind, &["--smtp-bind", smtp, "--keep", "100000"])
}

fn start(folder: &Path, name: &str, bind: &str, further: &[&str]) -> anyhow::Result<Process> {
    let program = binaries::find("quadrille-stand-ins")?;
    let state = folder.join(format!("{name}.state")).display().to_string();
    let arguments = [name, "--bind", bind, "--state", &state].into_iter().chain(further.iter().copied());
    let arguments: Vec<String> = arguments.map(str::to_owned).collect();
    Process::start(name, &program, &arguments, &[], folder.join(format!("{name}.log")))
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
