//! The record types of a recorded history, as this build's.

use std::{borrow::Cow, collections::BTreeMap, marker::PhantomData};

use anyhow::Context;
use quadrille_core::Records;
use quadrille_history::Datum;
use quadrille_schemas::wire::{Resolution, WriterSchema};

/// How recorded data of a set of types become this build's, by the types' full names.
pub(crate) struct Types<R> {
    plans: BTreeMap<String, (usize, Resolution)>,
    records: PhantomData<R>,
}

impl<R: Records> Types<R> {
    /// Those of `schemas` that this build's set has too.
    pub fn new(schemas: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        let mut plans = BTreeMap::new();
        for (index, reader) in R::TYPES.iter().enumerate() {
            if let Some(schema) = schemas.get(reader.name) {
                let plan = WriterSchema::new(schema).and_then(|writer| writer.prepare(reader));
                let plan = plan
                    .with_context(|| format!("{} was recorded in a schema that this build cannot read", reader.name))?;
                plans.insert(reader.name.to_owned(), (index, plan));
            }
        }
        Ok(Self { plans, records: PhantomData })
    }

    /// The datum in this build's schema, with the type's place in the set; nothing where this build's set has no such type.
    pub fn resolve<'d>(&self, name: &str, datum: &'d Datum) -> anyhow::Result<Option<(usize, Cow<'d, [u8]>)>> {
        let Some((index, plan)) = self.plans.get(name) else { return Ok(None) };
        let datum = plan.apply(&datum.0).with_context(|| format!("the datum of {name}"))?;
        Ok(Some((*index, datum)))
    }

    /// The record; nothing where this build's set has no such type.
    pub fn record(&self, name: &str, datum: &Datum) -> anyhow::Result<Option<R>> {
        let Some((index, datum)) = self.resolve(name, datum)? else { return Ok(None) };
        R::decode(index, &datum).map(Some).with_context(|| format!("the datum of {name}"))
    }
}
