//! Which services the shop has. Whoever goes through all of them does so from here: choreography, replay, proof, shows, bench, the
//! command line, the Makefile and the scripts of the local world.
//!
//! A new service is a line in `roster!` below, one in this crate's `Cargo.toml` and one in the workspace's.

use quadrille_core::{Declaration, Policy};

/// What is done with a service's policy, of whatever type it is: see [`each`].
pub trait Visitor {
    /// What comes of it.
    type Output;

    /// Does it with this policy.
    fn visit<P: Policy>(&self) -> Self::Output;
}

macro_rules! roster {
    ($($name:ident: $policy:ty),+ $(,)?) => {
        /// The services' names, in the order in which an order meets them.
        pub const SERVICES: [&str; COUNT] = [$(stringify!($name)),+];

        /// How many there are.
        const COUNT: usize = [$(stringify!($name)),+].len();

        /// What each of [`SERVICES`] declares of itself.
        pub static DECLARATIONS: [Declaration; COUNT] = [$(<$policy>::CHOREOGRAPHY),+];

        /// Visits each of [`SERVICES`].
        pub fn each<V: Visitor>(visitor: &V) -> Vec<V::Output> {
            vec![$(visitor.visit::<$policy>()),+]
        }
    };
}

// A line per service: its name and its policy. In the local world its place is its port: 9101, 9102, ...
// `infra/local/roster` reads these lines as they stand, for scripts and Makefile.
roster! {
    user: quadrille_user::Users,
    order: quadrille_order::Orders,
    inventory: quadrille_inventory::Inventory,
    payment: quadrille_payment::Payment,
    shipping: quadrille_shipping::Shipping,
    notification: quadrille_notification::Notification,
}

/// What a service declares of itself.
pub fn declaration(service: &str) -> Option<&'static Declaration> {
    DECLARATIONS.iter().find(|declaration| declaration.service == service)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, process::Command};

    use quadrille_choreography::{Choreography, Generated, check, generated};
    use quadrille_core::Named as _;
    use quadrille_schemas::Folder;

    use super::*;

    fn checkout() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.."))
    }

    fn choreography() -> Choreography {
        let schemas = Folder::load(&checkout().join("schemas")).expect("sound schemas");
        Choreography::declared(&DECLARATIONS, &schemas)
    }

    #[test]
    fn every_service_has_the_name_of_its_policy() {
        let declared: Vec<&str> = DECLARATIONS.iter().map(|declaration| declaration.service).collect();
        assert_eq!(declared, SERVICES);
    }

    #[test]
    fn scripts_read_the_same_roster_and_a_place_in_it_is_a_port() {
        let output = Command::new(checkout().join("infra/local/roster")).output().expect("the script");
        assert_eq!(String::from_utf8_lossy(&output.stdout).lines().collect::<Vec<_>>(), SERVICES);
        for (port, service) in (9101..).zip(SERVICES) {
            let main = checkout().join("services").join(service).join("src/main.rs");
            let main = fs::read_to_string(&main).unwrap_or_else(|error| panic!("{}: {error}", main.display()));
            assert!(main.contains(&format!("\"127.0.0.1:{port}\"")), "{service} does not listen on {port}");
        }
    }

    #[test]
    fn the_declarations_are_sound_and_what_is_generated_is_theirs() {
        let choreography = choreography();
        assert_eq!(check(&choreography), []);
        for file in generated(&choreography) {
            assert_eq!(file.differs(checkout()), None);
            let changed = Generated { text: file.text.replacen("OrderCreated", "OrderMade", 1), ..file };
            let problem = changed.differs(checkout()).expect("a problem").to_string();
            let told = "is not what the declarations make of it; run `quadrille check --write`, and commit it";
            assert_eq!(problem, format!("{}: {told}", changed.path));
        }
    }

    #[test]
    fn the_document_is_read_as_it_was_written() {
        let choreography = choreography();
        let mut files = generated(&choreography).into_iter();
        let document = files.find(|file| file.path == Generated::DOCUMENT).expect("the document");
        assert_eq!(serde_json::from_str::<Choreography>(&document.text).expect("a choreography"), choreography);
    }

    /// A person copies an example and sends it: the service has to be able to read it.
    #[test]
    fn every_example_of_an_outcome_is_one_of_its_effect() {
        struct Examples;
        impl Visitor for Examples {
            type Output = usize;

            fn visit<P: Policy>(&self) -> usize {
                let mut count = 0;
                for effect in P::CHOREOGRAPHY.effects {
                    assert!(!effect.examples.is_empty(), "{} of {} has no examples", effect.kind, P::SERVICE);
                    for example in effect.examples {
                        let outcome: P::Outcome = serde_json::from_str(example).expect(example);
                        assert!(
                            effect.outcomes.contains(&outcome.kind()),
                            "{example} is no outcome of {}",
                            effect.kind
                        );
                        count += 1;
                    }
                }
                count
            }
        }
        assert_eq!(each(&Examples).iter().sum::<usize>(), 12);
    }
}
