//! `kinds!` and `names!`: the texts of an enum's variants, each in one place.

/// Names the kinds of an effect, an outcome, a timer or a command: a constant per variant, and [`Named`](crate::Named).
///
/// ```
/// # use quadrille_core::kinds;
/// #[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
/// pub enum Effect {
///     Charge { order_id: String },
///     Refund { charge_id: String },
/// }
///
/// kinds!(Effect { Charge: CHARGE = "charge", Refund: REFUND = "refund" });
/// ```
#[macro_export]
macro_rules! kinds {
    ($enum:ident { $($variant:ident: $kind:ident = $text:literal),+ $(,)? }) => {
        $(
            #[doc = concat!("The kind of [`", stringify!($enum), "::", stringify!($variant), "`].")]
            pub const $kind: &str = $text;
        )+

        impl $crate::Named for $enum {
            fn kind(&self) -> &'static str {
                match self { $(Self::$variant { .. } => $kind),+ }
            }
        }
    };
}

/// Names the variants of an enum without data, as the database and people have them: `ALL`, `name` and `named`.
///
/// ```
/// # use quadrille_core::names;
/// #[derive(Clone, Copy, Debug, PartialEq)]
/// pub enum Status {
///     New,
///     Captured,
/// }
///
/// names!(Status { New = "new", Captured = "captured" });
///
/// assert_eq!(Status::named(Status::Captured.name()), Some(Status::Captured));
/// ```
#[macro_export]
macro_rules! names {
    ($enum:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        impl $enum {
            /// All of them.
            pub const ALL: [Self; [$($text),+].len()] = [$(Self::$variant),+];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The one of that name.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|one| one.name() == name)
            }
        }
    };
}
