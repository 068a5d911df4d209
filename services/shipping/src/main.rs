//! The shipping service as a process.

use std::process::ExitCode;

use quadrille_runtime::Service;
use quadrille_shipping::{
    outside::{Carrier, CarrierSettings},
    store::ShippingStore,
};

fn main() -> ExitCode {
    Service::new(ShippingStore)
        .migrations(&sqlx::migrate!())
        .http("127.0.0.1:9105")
        .outside(|settings: CarrierSettings| Carrier::new(&settings))
        .main()
}
