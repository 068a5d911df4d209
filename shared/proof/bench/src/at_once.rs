//! Choreography alone: payment, shipping and notification as they are shipped, over an outside that answers at once and in process.

use std::{future::Future, process::ExitCode};

use anyhow::bail;
use quadrille_core::Policy;
use quadrille_events::Uuid;
use quadrille_notification::{self as notification, Notification, store::NotificationStore};
use quadrille_payment::{self as payment, Payment, store::PaymentStore};
use quadrille_program::environment;
use quadrille_roster::{SERVICES, declaration};
use quadrille_runtime::{
    Answer, Outside, Service, Store,
    config::{self, NoSettings},
    init_logs,
};
use quadrille_shipping::{self as shipping, Shipping, store::ShippingStore};
use tokio::signal::unix::{SignalKind, signal};

/// Whether a service has an outside.
pub fn has_outside(service: &str) -> bool {
    declaration(service).is_some_and(|declared| !declared.effects.is_empty())
}

/// Runs one of the services that have an outside until SIGTERM.
pub fn serve(service: &str) -> anyhow::Result<ExitCode> {
    match service {
        "payment" => run(Service::new(PaymentStore)
            .migrations(&sqlx::migrate!("../../../services/payment/migrations"))
            .outside(|_: NoSettings| Ok(Provider))),
        "shipping" => run(Service::new(ShippingStore)
            .migrations(&sqlx::migrate!("../../../services/shipping/migrations"))
            .outside(|_: NoSettings| Ok(Carrier))),
        "notification" => run(Service::new(NotificationStore)
            .migrations(&sqlx::migrate!("../../../services/notification/migrations"))
            .outside(|_: NoSettings| Ok(Mailer))),
        other => {
            let known: Vec<&str> = SERVICES.into_iter().filter(|service| has_outside(service)).collect();
            bail!("'{other}' has no outside here: one of {}", known.join(", "))
        }
    }
}

fn run<S: Store, O: Outside<Policy = S::Policy>>(service: Service<S, O>) -> anyhow::Result<ExitCode> {
    let config = config::load(&service.defaults(), &environment()?)?.settings;
    init_logs(&config.log)?;
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    tokio.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let ended = async { terminate.recv().await.unwrap_or_default() };
        service.run_until(config, ended).await
    })?;
    Ok(ExitCode::SUCCESS)
}

type At<P> = Answer<<P as Policy>::Outcome>;

/// Takes every card.
struct Provider;

impl Outside for Provider {
    type Policy = Payment;

    async fn perform(&self, id: Uuid, effect: &payment::Effect) -> At<Payment> {
        Answer::Known(match effect {
            payment::Effect::Charge { .. } => payment::Outcome::Captured { charge_id: format!("ch_{id}") },
            payment::Effect::Refund { .. } => payment::Outcome::Refunded { refund_id: format!("re_{id}") },
        })
    }

    fn ask(&self, id: Uuid, effect: &payment::Effect) -> impl Future<Output = At<Payment>> + Send {
        self.perform(id, effect)
    }
}

/// Delivers every parcel.
struct Carrier;

impl Outside for Carrier {
    type Policy = Shipping;

    async fn perform(&self, id: Uuid, effect: &shipping::Effect) -> At<Shipping> {
        Answer::Known(match effect {
            shipping::Effect::HandOver { .. } => shipping::Outcome::Accepted { tracking_id: format!("tr_{id}") },
            shipping::Effect::Track { .. } => shipping::Outcome::Delivered {},
            shipping::Effect::Recall { .. } => shipping::Outcome::Returned {},
        })
    }

    fn ask(&self, id: Uuid, effect: &shipping::Effect) -> impl Future<Output = At<Shipping>> + Send {
        self.perform(id, effect)
    }
}

/// Takes every mail.
struct Mailer;

impl Outside for Mailer {
    type Policy = Notification;

    async fn perform(&self, _: Uuid, mail: &notification::Mail) -> At<Notification> {
        Answer::Known(notification::Outcome::Sent { about: mail.about })
    }

    fn ask(&self, id: Uuid, mail: &notification::Mail) -> impl Future<Output = At<Notification>> + Send {
        self.perform(id, mail)
    }
}
