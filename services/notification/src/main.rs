//! The notification service as a process.

use std::process::ExitCode;

use quadrille_notification::{
    outside::{MailSettings, Mailer},
    store::NotificationStore,
};
use quadrille_runtime::Service;

fn main() -> ExitCode {
    Service::new(NotificationStore)
        .migrations(&sqlx::migrate!())
        .http("127.0.0.1:9106")
        .outside(|settings: MailSettings| Ok(Mailer::new(&settings)?))
        .main()
}
