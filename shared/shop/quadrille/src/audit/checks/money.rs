//! Rule 2: captured once, refunded once, and the provider says the same.

use quadrille_events::Money;

use super::{Checks, money};
use crate::audit::{books::Saga, report::Rule};

impl Checks<'_> {
    pub(super) fn money(&mut self, key: &str, saga: &Saga) {
        for name in ["PaymentCaptured", "PaymentRefunded"] {
            if let Some(second) = saga.all(&[name]).nth(1) {
                self.report.offence(Rule::Money, second.place, format!("is a second {name} of {key}"));
            }
        }
        if let (Some(captured), Some(total)) = (saga.first("PaymentCaptured"), saga.total)
            && saga.captured != total
            && saga.count("PaymentCaptured") == 1
        {
            let what = format!("captures {}, the order's total is {}", money(saga.captured), money(total));
            self.report.offence(Rule::Money, captured.place, what);
        }
        let Some(refunded) = saga.first("PaymentRefunded") else { return };
        if !saga.has("PaymentCaptured") && !self.books.truncated {
            self.report.offence(Rule::Money, refunded.place, format!("gives back what was never captured for {key}"));
        } else if saga.refunded != saga.captured && saga.count("PaymentRefunded") == 1 {
            let what = format!("gives {} back of {}", money(saga.refunded), money(saga.captured));
            self.report.offence(Rule::Money, refunded.place, what);
        }
        if !saga.has("OrderCancelled") {
            let what = format!("gives back the money of {key}, which is not cancelled");
            self.missing(Rule::Money, refunded.place, refunded.ms, None, what);
        }
    }

    pub(super) fn ledger(&mut self) {
        let Some(ledger) = self.ledger else { return };
        let captured = || self.books.sagas.iter().filter(|(_, saga)| saga.has("PaymentCaptured"));
        if captured().count() > 0 && !captured().any(|(key, _)| ledger.contains_key(key)) {
            let reason =
                "the provider's ledger, which knows none of these orders: it is another world's, or began anew";
            return self.report.not_compared.push(reason.into());
        }
        for (key, saga) in &self.books.sagas {
            let sums = ledger.get(key).cloned().unwrap_or_default();
            if sums.charges > 1 || sums.refunds > 1 {
                let what = format!("{key} was charged {} times and refunded {} times", sums.charges, sums.refunds);
                self.report.offence(Rule::Money, "provider's ledger", what);
            }
            for (named, done) in [(&saga.charges, &sums.charge_ids), (&saga.refunds, &sums.refund_ids)] {
                for (place, id) in named.iter().filter(|(_, id)| !id.is_empty() && !done.contains(id)) {
                    let what = format!("speaks of {id}, under which the provider did no such thing for {key}");
                    self.report.offence(Rule::Money, *place, what);
                }
            }
            for (kind, name, done, stated) in [
                ("captured", "PaymentCaptured", &sums.captured, saga.captured),
                ("refunded", "PaymentRefunded", &sums.refunded, saga.refunded),
            ] {
                let done = done.parse::<Money>().map_or(0, Money::as_cents);
                if done == stated {
                    continue;
                }
                let what = format!("{} of {key} were {kind}, but payment states {}", money(done), money(stated));
                let place = saga.first(name).map(|entry| entry.place);
                let ms = saga.entries.iter().map(|entry| entry.ms).max().unwrap_or_default();
                match place {
                    // What the provider did is not stated yet: an unknown outcome, which somebody must be after.
                    None => self.missing_at("provider's ledger", Rule::Money, ms, Some(("payment", key)), what),
                    Some(place) => self.report.offence(Rule::Money, place, what),
                }
            }
        }
    }
}
