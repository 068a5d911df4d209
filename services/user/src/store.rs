//! The user service's rows: `migrations/` says what they hold.

mod unique_names;

use quadrille_core::Fact;
use quadrille_events::{Bytes, Secret, common::Personal};
use quadrille_runtime::{Ended, Mapped, Store, table, unknown_table};
use sqlx::{PgConnection, error::BoxDynError};
use uuid::Uuid;

use crate::policy::{Account, NAME, State, Status, USERS, User, Users, VERDICT, Verdict};

/// The user service's database.
#[derive(Clone, Copy, Debug, Default)]
pub struct UserStore;

table! {
    #[derive(Default)]
    struct UserRow in "users" {
        key user_id: Uuid,
        version: i64,
        status: String,
        request_digest: Option<String>,
        user_name: Option<String>,
        name: Option<String>,
        address: Option<String>,
        email: Option<String>,
        sealed: Option<Vec<u8>>,
        profile: Option<String>,
        password_hash: Option<String>,
    }
}

table! {
    struct NameRow in "unique_name" {
        key key: String,
        user_id: Option<Uuid>,
    }
}

table! {
    struct VerdictRow in "verdict" stamps changed_at {
        key order_id: Uuid,
        version: i64,
        verified: Option<bool>,
    }
}

impl Store for UserStore {
    type Policy = Users;

    const ENDED: Option<Ended> =
        Some(Ended { table: VERDICT, key: "order_id", settled: "verified is not null", booked: "false", beside: None });

    async fn prepare(&self, tx: &mut PgConnection) -> Result<(), BoxDynError> {
        unique_names::refold(tx).await
    }

    async fn load(
        &self,
        tx: &mut PgConnection,
        table: &'static str,
        keys: &[String],
        state: &mut State,
    ) -> sqlx::Result<()> {
        match table {
            USERS => UserRow::load(tx, keys, &mut state.users).await,
            NAME => NameRow::load(tx, keys, &mut state.names).await,
            VERDICT => VerdictRow::load(tx, keys, &mut state.verdicts).await,
            other => Err(unknown_table(other)),
        }
    }

    async fn save(
        &self,
        tx: &mut PgConnection,
        before: &State,
        after: &State,
        _facts: &[Fact<Users>],
    ) -> sqlx::Result<()> {
        UserRow::save(tx, &before.users, &after.users).await?;
        NameRow::save(tx, &before.names, &after.names).await?;
        VerdictRow::save(tx, &before.verdicts, &after.verdicts).await
    }
}

impl Mapped for UserRow {
    type Value = User;

    fn from_value(user_id: Uuid, user: &User) -> Self {
        let row = Self { user_id, version: user.version, ..Self::default() };
        let (status, account) = match &user.status {
            Status::Unknown => return Self { status: "unknown".into(), ..row },
            Status::Rejected { request_digest } => {
                return Self { status: "rejected".into(), request_digest: Some(request_digest.clone()), ..row };
            }
            Status::Active(account) => ("active", account.clone()),
            Status::Deactivated(account) => ("deactivated", account.clone()),
        };
        Self {
            status: status.into(),
            request_digest: Some(account.request_digest),
            user_name: Some(account.user_name),
            name: account.personal.name,
            address: account.personal.address,
            email: account.personal.email,
            sealed: account.personal.sealed.map(|sealed| sealed.0),
            profile: Some(account.profile),
            password_hash: account.password_hash.as_ref().map(|hash| hash.expose().to_owned()),
            ..row
        }
    }

    fn into_value(self) -> sqlx::Result<User> {
        let account = match (&self.request_digest, self.user_name, self.profile) {
            (Some(request_digest), Some(user_name), Some(profile)) => Some(Account {
                request_digest: request_digest.clone(),
                user_name,
                personal: Personal {
                    name: self.name,
                    address: self.address,
                    email: self.email,
                    sealed: self.sealed.map(Bytes),
                },
                profile,
                password_hash: self.password_hash.map(Secret::new),
            }),
            _ => None,
        };
        let status = match (self.status.as_str(), self.request_digest, account) {
            ("unknown", None, None) => Status::Unknown,
            ("rejected", Some(request_digest), None) => Status::Rejected { request_digest },
            ("active", _, Some(account)) => Status::Active(account),
            ("deactivated", _, Some(account)) => Status::Deactivated(account),
            (status, ..) => {
                let broken = format!("user {} is '{status}' without what belongs to it", self.user_id);
                return Err(sqlx::Error::Decode(broken.into()));
            }
        };
        Ok(User { version: self.version, status })
    }
}

impl Mapped for NameRow {
    type Value = Option<Uuid>;

    fn from_value(key: String, holder: &Option<Uuid>) -> Self {
        Self { key, user_id: *holder }
    }

    fn into_value(self) -> sqlx::Result<Option<Uuid>> {
        Ok(self.user_id)
    }
}

impl Mapped for VerdictRow {
    type Value = Verdict;

    fn from_value(order_id: Uuid, verdict: &Verdict) -> Self {
        Self { order_id, version: verdict.version, verified: verdict.verified }
    }

    fn into_value(self) -> sqlx::Result<Verdict> {
        Ok(Verdict { version: self.version, verified: self.verified })
    }
}
