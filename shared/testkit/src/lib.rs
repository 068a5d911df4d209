//! Isolated worlds on the real stack, for tests and shows.
