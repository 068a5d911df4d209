//! The user service, composed.

use std::process::ExitCode;

use quadrille_runtime::Service;
use quadrille_user::store::UserStore;

fn main() -> ExitCode {
    Service::new(UserStore).migrations(&sqlx::migrate!()).http("127.0.0.1:9101").main()
}
