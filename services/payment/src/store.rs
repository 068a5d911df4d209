//! Payments in PostgreSQL: one row per order, a whole batch at a time.

use quadrille_core::Fact;
use quadrille_events::{Money, Uuid};
use quadrille_runtime::{Ended, Mapped, Store, table, unknown_table};
use sqlx::PgConnection;

use crate::policy::{Account, Bill, PAYMENT, Payment, State, Status};

/// The payment service's rows.
#[derive(Clone, Copy, Debug)]
pub struct PaymentStore;

table! {
    struct PaymentRow in "payment" stamps changed_at {
        key order_id: Uuid,
        version: i64,
        status: String,
        customer_id: Option<Uuid>,
        amount_cents: i64,
        currency: String,
        token: String,
        charge_id: String,
        refunds: i32,
    }
}

impl Store for PaymentStore {
    type Policy = Payment;

    const ENDED: Option<Ended> = Some(Ended {
        table: PAYMENT,
        key: "order_id",
        // All that is known of money is kept for the books. A refund that failed is a person's business still.
        settled: "false",
        booked: "status in ('ended', 'captured', 'declined', 'refunded')",
        beside: None,
    });

    async fn load(
        &self,
        tx: &mut PgConnection,
        table: &'static str,
        keys: &[String],
        state: &mut State,
    ) -> sqlx::Result<()> {
        match table {
            PAYMENT => PaymentRow::load(tx, keys, &mut state.accounts).await,
            other => Err(unknown_table(other)),
        }
    }

    async fn save(
        &self,
        tx: &mut PgConnection,
        before: &State,
        after: &State,
        _facts: &[Fact<Payment>],
    ) -> sqlx::Result<()> {
        PaymentRow::save(tx, &before.accounts, &after.accounts).await
    }
}

impl Mapped for PaymentRow {
    type Value = Account;

    fn from_value(order_id: Uuid, account: &Account) -> Self {
        let bill = account.bill.clone();
        Self {
            order_id,
            version: account.version,
            status: account.status.name().to_owned(),
            customer_id: Some(bill.customer_id).filter(|id| !id.is_nil()),
            amount_cents: bill.amount.as_cents(),
            currency: bill.currency,
            token: bill.token,
            charge_id: account.charge_id.clone(),
            refunds: account.refunds,
        }
    }

    fn into_value(self) -> sqlx::Result<Account> {
        let unreadable = |what: String| sqlx::Error::Decode(format!("payment {}: {what}", self.order_id).into());
        Ok(Account {
            version: self.version,
            status: Status::named(&self.status)
                .ok_or_else(|| unreadable(format!("the status '{}' is not known", self.status)))?,
            bill: Bill {
                customer_id: self.customer_id.unwrap_or_default(),
                amount: Money::try_cents(self.amount_cents)
                    .ok_or_else(|| unreadable(format!("{} cents are no amount", self.amount_cents)))?,
                currency: self.currency,
                token: self.token,
            },
            charge_id: self.charge_id,
            refunds: self.refunds,
        })
    }
}
