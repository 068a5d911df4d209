//! The payment service as a process.

use std::process::ExitCode;

use quadrille_payment::{
    outside::{Provider, ProviderSettings},
    store::PaymentStore,
};
use quadrille_runtime::Service;

fn main() -> ExitCode {
    Service::new(PaymentStore)
        .migrations(&sqlx::migrate!())
        .http("127.0.0.1:9104")
        .outside(|settings: ProviderSettings| Ok(Provider::new(&settings)?))
        .main()
}
