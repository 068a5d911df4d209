//! The proof: every service's own policy in every order of arrival and under every fault.
//!
//! A [`World`](world::World) is a [`stateright::Model`] whose steps are [`quadrille_core::process`] on the policies that ship. What is
//! claimed of every state is in [`claims`], what may happen in [`worlds`], and what a wrong policy or runtime would look like in
//! [`mutants`] and [`flaw`]. docs/proof.md tells bounds, assumptions and figures.

pub mod cast;
pub mod claims;
pub mod database;
pub mod explore;
pub mod flaw;
pub mod interner;
pub mod locks;
pub mod log;
pub mod mutants;
pub mod outside;
pub mod record;
pub mod service;
pub mod shop;
pub mod spec;
pub mod story;
pub mod world;
pub mod worlds;
