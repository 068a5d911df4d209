//! The quadrille command line.
