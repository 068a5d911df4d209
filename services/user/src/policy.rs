//! What the user service decides: the contract's reaction table, row by row.

mod fold;
pub(crate) mod names;
mod password;
mod profile;

use std::collections::BTreeMap;

use quadrille_core::{
    Decision, Declaration, Envelope, Input, Moment, Nothing, Policy, Records, Row,
    bounds::{self, Fault},
    rows,
};
use quadrille_events::{
    Secret,
    common::Personal,
    digest_hex,
    order::OrderCreated,
    user::{
        UserDeactivated, UserDeactivationRequested, UserProfileUpdateRequested, UserProfileUpdated, UserRegistered,
        UserRegistrationRejected, UserRegistrationRequested, UserRequestRefused,
    },
    verification::{CustomerRejected, CustomerVerified},
};
use uuid::Uuid;

use self::names::{Name, names};
use crate::{Heard, Stated, choreography::CHOREOGRAPHY};

/// The user service's policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Users;

/// Users; the key is the user's id.
pub const USERS: &str = "users";
/// Unique names; the key is `name:` or `email:` and the normal form. After users: a user's row tells which names it would give back.
pub const NAME: &str = "name";
/// Verdicts on orders' customers; the key is the order's id.
pub const VERDICT: &str = "verdict";

/// The rows that inputs touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// See [`USERS`].
    pub users: BTreeMap<String, User>,
    /// See [`NAME`]: who holds the name; a free one has nobody, or no row.
    pub names: BTreeMap<String, Option<Uuid>>,
    /// See [`VERDICT`].
    pub verdicts: BTreeMap<String, Verdict>,
}

rows! { State { users: USERS, names: NAME, verdicts: VERDICT } }

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    /// `ce_aggregateversion` of the user's last fact on `user.events`.
    pub version: i64,
    /// What the user is.
    pub status: Status,
}

/// What a user is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Status {
    /// Nobody asked for this user yet.
    #[default]
    Unknown,
    /// The registration came to nothing, for good.
    Rejected {
        /// The request's digest, to tell its repeats from other content.
        request_digest: String,
    },
    /// May order.
    Active(Account),
    /// No longer orders. The names stay with the user: nobody else becomes ann after ann.
    Deactivated(Account),
}

/// A registered user's content.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Account {
    /// The registration's digest, to tell its repeats from other content.
    pub request_digest: String,
    /// The name to sign in with, as given.
    pub user_name: String,
    /// Name, address and e-mail, as given.
    pub personal: Personal,
    /// Free JSON text.
    pub profile: String,
    /// The password's argon2id hash; none once the user is deactivated.
    pub password_hash: Option<Secret>,
}

/// What was said about an order's customer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Verdict {
    /// `ce_aggregateversion` of the order's last fact on `verification.events`.
    pub version: i64,
    /// Whether the customer may order; none until the order was heard of.
    pub verified: Option<bool>,
}

impl Policy for Users {
    const SERVICE: &'static str = "user";
    const TABLES: &'static [&'static str] = &[USERS, NAME, VERDICT];
    const CHOREOGRAPHY: Declaration = CHOREOGRAPHY;
    type Heard = Heard;
    type Stated = Stated;
    type Effect = Nothing;
    type Outcome = Nothing;
    type Timer = Nothing;
    type Command = Nothing;
    type State = State;

    fn rows(state: &State, input: &Envelope<Self>) -> Vec<Row> {
        let row = |name: Name| Row::new(NAME, name.key);
        match heard(input) {
            Heard::UserRegistrationRequested(asked) => {
                let names = names(&asked.user_name, &asked.personal);
                let user = Row::new(USERS, &input.key);
                names.into_iter().map(row).chain([user]).collect()
            }
            Heard::UserProfileUpdateRequested(asked) => {
                // The names that would be new, and those that would be given back.
                let new = names(asked.user_name.as_deref().unwrap_or_default(), &asked.personal);
                let old = state.active(&input.key).map(Account::names).unwrap_or_default();
                let user = Row::new(USERS, &input.key);
                new.into_iter().chain(old).map(row).chain([user]).collect()
            }
            Heard::UserDeactivationRequested(_) => vec![Row::new(USERS, &input.key)],
            Heard::OrderCreated(created) => {
                vec![Row::new(USERS, created.details.customer_id), Row::new(VERDICT, &input.key)]
            }
        }
    }

    fn react(state: &State, _: &Moment, input: &Envelope<Self>) -> Decision<Self> {
        match heard(input) {
            Heard::UserRegistrationRequested(asked) => register(state, asked),
            Heard::UserProfileUpdateRequested(asked) => update(state, asked),
            Heard::UserDeactivationRequested(asked) => deactivate(state, asked),
            Heard::OrderCreated(created) => verify(state, &input.key, created),
        }
    }

    fn evolve(state: &mut State, input: &Envelope<Self>, decision: &Decision<Self>) {
        for fact in &decision.facts {
            match fact {
                Stated::UserRegistered(registered) => {
                    let account = Account {
                        request_digest: registered.request_digest.clone(),
                        user_name: registered.user_name.clone(),
                        personal: registered.personal.clone(),
                        profile: registered.profile.clone(),
                        // A hash is never repeated in an event, so it is taken from the request.
                        password_hash: match heard(input) {
                            Heard::UserRegistrationRequested(asked) => Some(asked.password_hash.clone()),
                            _ => None,
                        },
                    };
                    for name in account.names() {
                        state.names.insert(name.key, Some(registered.user_id));
                    }
                    state.user_mut(&input.key).status = Status::Active(account);
                }
                Stated::UserRegistrationRejected(rejected) => {
                    state.user_mut(&input.key).status =
                        Status::Rejected { request_digest: rejected.request_digest.clone() };
                }
                Stated::UserProfileUpdated(updated) => {
                    let Status::Active(account) = &mut state.user_mut(&input.key).status else {
                        continue;
                    };
                    let released = account.names();
                    account.user_name.clone_from(&updated.user_name);
                    account.personal.clone_from(&updated.personal);
                    account.profile.clone_from(&updated.profile);
                    let held = account.names();
                    for name in released {
                        state.names.insert(name.key, None);
                    }
                    for name in held {
                        state.names.insert(name.key, Some(updated.user_id));
                    }
                }
                Stated::UserDeactivated(_) => {
                    let user = state.user_mut(&input.key);
                    if let Status::Active(account) = &user.status {
                        let account = Account { password_hash: None, ..account.clone() };
                        user.status = Status::Deactivated(account);
                    }
                }
                Stated::UserRequestRefused(_) => {}
                Stated::CustomerVerified(_) => state.verdict_mut(&input.key).verified = Some(true),
                Stated::CustomerRejected(_) => state.verdict_mut(&input.key).verified = Some(false),
            }
        }
    }

    fn version<'a>(state: &'a mut State, fact: &Stated) -> &'a mut i64 {
        let key = fact.key();
        match fact {
            Stated::UserRegistered(_)
            | Stated::UserRegistrationRejected(_)
            | Stated::UserProfileUpdated(_)
            | Stated::UserDeactivated(_)
            | Stated::UserRequestRefused(_) => &mut state.user_mut(&key).version,
            Stated::CustomerVerified(_) | Stated::CustomerRejected(_) => &mut state.verdict_mut(&key).version,
        }
    }
}

/// UserRegistrationRequested: a user comes to be, or never does; a known id keeps what it is.
fn register(state: &State, asked: &UserRegistrationRequested) -> Decision<Users> {
    let request_digest = digest_hex(asked);
    let known = match state.status(&asked.user_id) {
        Status::Unknown => None,
        Status::Rejected { request_digest } => Some(request_digest),
        Status::Active(account) | Status::Deactivated(account) => Some(&account.request_digest),
    };
    match known {
        None => {}
        Some(known) if *known == request_digest => return Decision::nothing(),
        Some(_) => {
            let must = "be new for a new user: it was used before with other content";
            let fault = Fault::new("user_id", must);
            return refused(asked.user_id, "UserRegistrationRequested", "conflicting_content", fault);
        }
    }
    let personal = given(&asked.personal);
    let sound = names::user_name("user_name", &asked.user_name)
        .and_then(|()| sound(&personal))
        .and_then(|()| profile::object("profile", &asked.profile))
        .map_err(|fault| ("bounds", fault))
        .and_then(|()| password::hash("password_hash", &asked.password_hash).map_err(|fault| ("password_hash", fault)))
        .and_then(|()| free(state, asked.user_id, &names(&asked.user_name, &personal)));
    match sound {
        Ok(()) => Decision::fact(UserRegistered {
            user_id: asked.user_id,
            user_name: asked.user_name.clone(),
            personal,
            profile: asked.profile.clone(),
            request_digest,
        }),
        Err((reason, fault)) => Decision::fact(UserRegistrationRejected {
            user_id: asked.user_id,
            reason: reason.into(),
            field: fault.field,
            detail: fault.detail,
            request_digest,
        }),
    }
}

/// UserProfileUpdateRequested: what is given replaces what is there, an empty text clears it, the rest stays.
fn update(state: &State, asked: &UserProfileUpdateRequested) -> Decision<Users> {
    const REQUEST: &str = "UserProfileUpdateRequested";
    let account = match active(state, asked.user_id) {
        Ok(account) => account,
        Err((reason, fault)) => return refused(asked.user_id, REQUEST, reason, fault),
    };
    let user_name = asked.user_name.as_ref().unwrap_or(&account.user_name);
    let personal = given(&Personal {
        name: asked.personal.name.clone().or_else(|| account.personal.name.clone()),
        address: asked.personal.address.clone().or_else(|| account.personal.address.clone()),
        email: asked.personal.email.clone().or_else(|| account.personal.email.clone()),
        sealed: asked.personal.sealed.clone().or_else(|| account.personal.sealed.clone()),
    });
    let profile = asked.profile.as_ref().unwrap_or(&account.profile);
    // Only what is asked for: what stays was sound when it came, whatever is refused of newcomers since.
    let sound = asked
        .user_name
        .iter()
        .try_for_each(|user_name| names::user_name("user_name", user_name))
        .and_then(|()| sound(&given(&asked.personal)))
        .and_then(|()| asked.profile.iter().try_for_each(|profile| profile::object("profile", profile)))
        .map_err(|fault| ("bounds", fault))
        .and_then(|()| free(state, asked.user_id, &names(user_name, &personal)));
    match sound {
        Ok(()) => Decision::fact(UserProfileUpdated {
            user_id: asked.user_id,
            user_name: user_name.clone(),
            personal,
            profile: profile.clone(),
        }),
        Err((reason, fault)) => refused(asked.user_id, REQUEST, reason, fault),
    }
}

/// UserDeactivationRequested: orders verified before stay verified.
fn deactivate(state: &State, asked: &UserDeactivationRequested) -> Decision<Users> {
    let sound = active(state, asked.user_id)
        .and_then(|_| bounds::text("reason", &asked.reason).map_err(|fault| ("bounds", fault)));
    match sound {
        Ok(()) => Decision::fact(UserDeactivated { user_id: asked.user_id, reason: asked.reason.clone() }),
        Err((reason, fault)) => refused(asked.user_id, "UserDeactivationRequested", reason, fault),
    }
}

/// OrderCreated: one verdict an order, which stands whatever becomes of the user.
fn verify(state: &State, order: &str, created: &OrderCreated) -> Decision<Users> {
    if state.verdicts.get(order).is_some_and(|verdict| verdict.verified.is_some()) {
        return Decision::nothing();
    }
    let rejected = |reason: &str, detail: &str| {
        Decision::fact(CustomerRejected {
            order_id: created.order_id,
            customer_id: created.details.customer_id,
            reason: reason.into(),
            detail: detail.into(),
        })
    };
    match state.status(&created.details.customer_id) {
        Status::Active(_) => {
            Decision::fact(CustomerVerified { order_id: created.order_id, details: created.details.clone() })
        }
        Status::Deactivated(_) => rejected("deactivated_customer", "the customer was deactivated"),
        Status::Unknown | Status::Rejected { .. } => rejected(
            "unknown_customer",
            "no such user is registered: order once the customer's UserRegistered is there",
        ),
    }
}

fn refused(user_id: Uuid, request: &str, reason: &str, fault: Fault) -> Decision<Users> {
    Decision::fact(UserRequestRefused {
        user_id,
        request: request.into(),
        reason: reason.into(),
        field: fault.field,
        detail: fault.detail,
    })
}

/// The account of a user who may change; or why nothing changes.
fn active(state: &State, user: Uuid) -> Result<&Account, (&'static str, Fault)> {
    let fault = |reason, must: &str| Err((reason, Fault::new("user_id", must)));
    match state.status(&user) {
        Status::Active(account) => Ok(account),
        Status::Unknown => fault("unknown_user", "be of a registered user: ask again once its UserRegistered is there"),
        Status::Rejected { .. } => fault("rejected", "be of a registered user: this registration was rejected"),
        Status::Deactivated(_) => fault("deactivated", "be of an active user: this one was deactivated"),
    }
}

/// Whether no other user holds one of the names.
fn free(state: &State, user: Uuid, names: &[Name]) -> Result<(), (&'static str, Fault)> {
    let holder = |name: &Name| state.names.get(&name.key).copied().flatten();
    match names.iter().find(|name| holder(name).is_some_and(|holder| holder != user)) {
        None => Ok(()),
        Some(name) => Err((name.taken, Fault::new(name.field, "be another one: somebody has it already"))),
    }
}

/// Personal data as they are kept: an empty text is none.
fn given(personal: &Personal) -> Personal {
    let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    Personal {
        name: filled(&personal.name),
        address: filled(&personal.address),
        email: filled(&personal.email),
        sealed: personal.sealed.clone().filter(|sealed| !sealed.0.is_empty()),
    }
}

fn sound(personal: &Personal) -> Result<(), Fault> {
    /// How many bytes sealed personal data may have.
    const SEALED: usize = 16 * 1024;
    for (field, text) in [("personal.name", &personal.name), ("personal.address", &personal.address)] {
        if let Some(text) = text {
            bounds::text(field, text)?;
        }
    }
    if let Some(email) = &personal.email {
        names::email("personal.email", email)?;
    }
    if personal.sealed.as_ref().is_some_and(|sealed| sealed.0.len() > SEALED) {
        return Err(Fault::new("personal.sealed", format_args!("have at most {SEALED} bytes")));
    }
    Ok(())
}

fn heard(input: &Envelope<Users>) -> &Heard {
    match &input.input {
        Input::Record(heard) => heard,
        Input::Gone(never) | Input::Timer(never) | Input::Command(never) | Input::Outcome { outcome: never, .. } => {
            match *never {}
        }
    }
}

impl Account {
    fn names(&self) -> Vec<Name> {
        names(&self.user_name, &self.personal)
    }
}

impl State {
    fn status(&self, user: &Uuid) -> &Status {
        self.users.get(&user.to_string()).map_or(&Status::Unknown, |user| &user.status)
    }

    fn active(&self, user: &str) -> Option<&Account> {
        match self.users.get(user).map(|user| &user.status) {
            Some(Status::Active(account)) => Some(account),
            _ => None,
        }
    }

    fn user_mut(&mut self, user: &str) -> &mut User {
        self.users.entry(user.to_owned()).or_default()
    }

    fn verdict_mut(&mut self, order: &str) -> &mut Verdict {
        self.verdicts.entry(order.to_owned()).or_default()
    }
}
