//! `records!`: a service's vocabulary at a glance.

/// Declares a closed set of record types as an enum, with a variant, `From` and decoding per type.
///
/// ```ignore
/// records! {
///     /// What the inventory states.
///     pub enum Stated { ProductListed, PriceChanged, StockReserved }
/// }
/// ```
///
/// A set may be empty: a service that states nothing. Who hears a state topic and wants to be told that a key of it is gone says so; then
/// [`Input::Gone`](crate::Input::Gone) comes:
///
/// ```ignore
/// records! { pub enum Heard { InstanceHeartbeat } with Gone }
/// ```
#[macro_export]
macro_rules! records {
    ($(#[$meta:meta])* $vis:vis enum $set:ident {}) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs)]
        $vis enum $set {}

        impl $crate::Records for $set {
            type Gone = $crate::Nothing;

            const TYPES: &'static [$crate::RecordType] = &[];

            fn record_type(&self) -> &'static $crate::RecordType {
                match *self {}
            }

            fn key(&self) -> String {
                match *self {}
            }

            fn encode(&self, _: &mut Vec<u8>) {
                match *self {}
            }

            fn decode(_: usize, _: &[u8]) -> Result<Self, $crate::DecodeError> {
                Err($crate::DecodeError("the set has no record types".to_owned()))
            }
        }
    };
    ($(#[$meta:meta])* $vis:vis enum $set:ident { $($record:ident),+ $(,)? }) => {
        $crate::records! { $(#[$meta])* $vis enum $set { $($record),+ } gone $crate::Nothing }
    };
    ($(#[$meta:meta])* $vis:vis enum $set:ident { $($record:ident),+ $(,)? } with Gone) => {
        $crate::records! { $(#[$meta])* $vis enum $set { $($record),+ } gone $crate::Gone }
    };
    ($(#[$meta:meta])* $vis:vis enum $set:ident { $($record:ident),+ } gone $gone:ty) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[allow(clippy::large_enum_variant, missing_docs)]
        $vis enum $set { $($record($record)),+ }

        impl $crate::Records for $set {
            type Gone = $gone;

            const TYPES: &'static [$crate::RecordType] = &[$(<$record as $crate::Record>::TYPE),+];

            fn record_type(&self) -> &'static $crate::RecordType {
                match self { $(Self::$record(_) => const { &<$record as $crate::Record>::TYPE }),+ }
            }

            fn key(&self) -> String {
                match self { $(Self::$record(record) => $crate::Record::key(record)),+ }
            }

            fn encode(&self, datum: &mut Vec<u8>) {
                match self { $(Self::$record(record) => $crate::Record::encode(record, datum)),+ }
            }

            fn decode(index: usize, datum: &[u8]) -> Result<Self, $crate::DecodeError> {
                const DECODERS: &[fn(&[u8]) -> Result<$set, $crate::DecodeError>] =
                    &[$(|datum| <$record as $crate::Record>::decode(datum).map($set::$record)),+];
                DECODERS[index](datum)
            }
        }

        $(impl From<$record> for $set {
            fn from(record: $record) -> Self { Self::$record(record) }
        })+
    };
}
