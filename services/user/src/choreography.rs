//! The user service's part in the choreography: what comes of what.

use quadrille_core::{
    Declaration, Policy, Record, Records,
    declaration::{Answer, Reaction},
};
use quadrille_events::{
    order::OrderCreated,
    user::{
        CredentialsChanged, UserDeactivated, UserDeactivationRequested, UserProfileUpdateRequested, UserProfileUpdated,
        UserRegistered, UserRegistrationRejected, UserRegistrationRequested, UserRequestRefused,
    },
    verification::{CustomerRejected, CustomerVerified},
};

use crate::{Heard, Stated, Users};

/// What `quadrille check` holds against the other services, and the policy's tests against the policy.
pub const CHOREOGRAPHY: Declaration = Declaration {
    file: file!(),
    reactions: &[
        Reaction::heard(UserRegistrationRequested::TYPE).states(&[
            UserRegistered::TYPE,
            UserRegistrationRejected::TYPE,
            UserRequestRefused::TYPE,
        ]),
        Reaction::heard(UserProfileUpdateRequested::TYPE).states(&[UserProfileUpdated::TYPE, UserRequestRefused::TYPE]),
        Reaction::heard(UserDeactivationRequested::TYPE).states(&[UserDeactivated::TYPE, UserRequestRefused::TYPE]),
        Reaction::heard(OrderCreated::TYPE)
            .states(&[CustomerVerified::TYPE, CustomerRejected::TYPE])
            .until("a verdict"),
    ],
    // Whoever holds the baton next has to go on with the order.
    asks: &[CustomerVerified::TYPE],
    answers: &[
        Answer {
            question: UserRegistrationRequested::TYPE,
            facts: &[UserRegistered::TYPE, UserRegistrationRejected::TYPE, UserRequestRefused::TYPE],
        },
        Answer {
            question: UserProfileUpdateRequested::TYPE,
            facts: &[UserProfileUpdated::TYPE, UserRequestRefused::TYPE],
        },
        Answer { question: UserDeactivationRequested::TYPE, facts: &[UserDeactivated::TYPE, UserRequestRefused::TYPE] },
        Answer { question: OrderCreated::TYPE, facts: &[CustomerVerified::TYPE, CustomerRejected::TYPE] },
    ],
    public: &[UserRegistrationRejected::TYPE, UserDeactivated::TYPE, UserRequestRefused::TYPE],
    promised: &[CredentialsChanged::TYPE],
    saga_topics: &["verification.events"],
    ..Declaration::new(Users::SERVICE, Heard::TYPES, Stated::TYPES)
};
