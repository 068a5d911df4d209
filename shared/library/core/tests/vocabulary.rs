//! What records and the kinds of things are called, each in one place.

mod common;

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use common::*;
use quadrille_core::{DecodeError, Named, Record, RecordType, Records, names};

#[test]
fn a_set_of_records_has_its_types_in_the_order_of_their_declaration() {
    assert_eq!(Heard::TYPES, [Asked::TYPE, Joined::TYPE]);
    let heard = Heard::from(Joined { key: "a".into(), group: "g".into() });
    assert_eq!((heard.record_type(), heard.key()), (&Joined::TYPE, "a".into()));
}

#[test]
fn a_record_is_read_by_the_place_of_its_type() {
    let heard = Heard::from(Joined { key: "a".into(), group: "g".into() });
    let mut datum = vec![];
    heard.encode(&mut datum);
    assert_eq!(Heard::decode(1, &datum), Ok(heard));
    assert!(matches!(Heard::decode(0, &datum), Err(DecodeError(told)) if told.contains("`to`")));
}

#[test]
fn a_record_type_is_known_by_its_names() {
    let ty = Asked::TYPE;
    assert_eq!(ty.subject(), "tally.requests-test.tally.Asked");
    assert_eq!(ty.short_name(), "Asked");
    assert_eq!(RecordType { name: "Bare", ..ty }.short_name(), "Bare");
}

#[test]
fn a_record_type_is_hashed_by_its_name_alone() {
    let hash = |ty: RecordType| BuildHasherDefault::<DefaultHasher>::default().hash_one(ty);
    assert_eq!(hash(Asked::TYPE), hash(RecordType { schema: "another", ..Asked::TYPE }));
    assert_ne!(hash(Asked::TYPE), hash(Joined::TYPE));
}

#[test]
fn a_name_is_the_kind_unless_one_input_may_want_several() {
    assert_eq!((Timer::Remind.kind(), Timer::Remind.name()), ("remind", "remind".into()));
    let mail = Effect::Mail { to: "ann".into() };
    assert_eq!((mail.kind(), mail.name()), ("mail", "mail/ann".into()));
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Status {
    New,
    Ended,
}

names!(Status { New = "new", Ended = "ended" });

#[test]
fn every_variant_has_a_name_and_is_found_by_it() {
    assert_eq!(Status::ALL.map(Status::name), ["new", "ended"]);
    assert_eq!(Status::ALL.map(|status| Status::named(status.name())), Status::ALL.map(Some));
    assert_eq!(Status::named("New"), None);
}
