//! A setting that is not shown.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A text of the settings that may be a password: `***` in every debug output.
///
/// Serialized it is whole: settings go through serde from their sources into their types. What is shown to people goes through
/// [`Loaded::describe`](crate::Loaded::describe), by its [`Key`](crate::Key).
#[derive(Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself: for whom it is meant, never to log it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "" } else { "***" })
    }
}
