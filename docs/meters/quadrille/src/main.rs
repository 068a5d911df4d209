//! `meters`: Quadrille's command line for the topics, records and services of this workspace.

use std::process::ExitCode;

use quadrille_cli::{Catalogue, Service};

#[tokio::main]
async fn main() -> ExitCode {
    let services = [Service::of::<meters_readings::Readings>(), Service::of::<meters_usage::Usage>()];
    quadrille_cli::run(Catalogue::new(meters_events::TOPICS, meters_events::RECORD_TYPES, services)).await
}
