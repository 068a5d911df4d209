//! Stand-ins for the outside: a payment provider, a carrier and a mail catcher.
