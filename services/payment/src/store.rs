//! Payments in PostgreSQL: one row an order, a whole batch at a time.

use quadrille_core::{Fact, changed};
use quadrille_events::{Money, Uuid};
use quadrille_runtime::{Ended, Store, lock, uuids};
use sqlx::{FromRow, PgConnection};

use crate::policy::{Account, Bill, PAYMENT, Payment, State, Status};

/// The payment service's rows.
#[derive(Clone, Copy, Debug)]
pub struct PaymentStore;

#[derive(FromRow)]
struct Row {
    order_id: Uuid,
    version: i64,
    status: String,
    customer_id: Option<Uuid>,
    amount_cents: i64,
    currency: String,
    token: String,
    charge_id: String,
    refunds: i32,
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
        _table: &'static str,
        keys: &[String],
        state: &mut State,
    ) -> sqlx::Result<()> {
        let rows: Vec<Row> = lock(
            tx,
            &uuids(keys)?,
            "select order_id, version, status, customer_id, amount_cents, currency, token, charge_id, refunds
             from payment where order_id = any($1) order by order_id for update",
            "insert into payment (order_id) select unnest($1::uuid[]) on conflict do nothing",
        )
        .await?;
        for row in rows {
            state.accounts.insert(row.order_id.to_string(), row.account()?);
        }
        Ok(())
    }

    async fn save(
        &self,
        tx: &mut PgConnection,
        before: &State,
        after: &State,
        _facts: &[Fact<Payment>],
    ) -> sqlx::Result<()> {
        let (keys, accounts): (Vec<String>, Vec<&Account>) =
            changed(&before.accounts, &after.accounts).map(|(key, account)| (key.clone(), account)).unzip();
        if keys.is_empty() {
            return Ok(());
        }
        let customer = |account: &&Account| Some(account.bill.customer_id).filter(|id| !id.is_nil());
        // The rows are there: they were made when they were locked.
        sqlx::query(
            "update payment set version = new.version, status = new.status, customer_id = new.customer_id,
                 amount_cents = new.amount_cents, currency = new.currency, token = new.token, charge_id = new.charge_id,
                 refunds = new.refunds, changed_at = clock_timestamp()
             from unnest($1::uuid[], $2::bigint[], $3::text[], $4::uuid[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::int[])
                 as new(order_id, version, status, customer_id, amount_cents, currency, token, charge_id, refunds)
             where payment.order_id = new.order_id",
        )
        .bind(uuids(&keys)?)
        .bind(column(&accounts, |account| account.version))
        .bind(column(&accounts, |account| account.status.name()))
        .bind(accounts.iter().map(customer).collect::<Vec<_>>())
        .bind(column(&accounts, |account| account.bill.amount.as_cents()))
        .bind(column(&accounts, |account| account.bill.currency.as_str()))
        .bind(column(&accounts, |account| account.bill.token.as_str()))
        .bind(column(&accounts, |account| account.charge_id.as_str()))
        .bind(column(&accounts, |account| account.refunds))
        .execute(tx)
        .await?;
        Ok(())
    }
}

fn column<'a, T>(accounts: &[&'a Account], value: impl Fn(&'a Account) -> T) -> Vec<T> {
    accounts.iter().map(|account| value(account)).collect()
}

impl Row {
    fn account(self) -> sqlx::Result<Account> {
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
