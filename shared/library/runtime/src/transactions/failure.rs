//! What a failed transaction means: try again, or look at each input alone.

/// Why a batch was not committed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The infrastructure, or a race: the same batch is tried again, however long it takes.
    #[error("{0}")]
    Transient(String),
    /// A unique key was taken by a race just now, or is broken for good: tried again a few times, then poisoned.
    #[error("{0}")]
    Unique(String),
    /// An input that cannot be handled.
    #[error("{0}")]
    Poisoned(String),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::from(&error)
    }
}

impl From<&sqlx::Error> for Failure {
    fn from(error: &sqlx::Error) -> Self {
        let text = error.to_string();
        match error {
            sqlx::Error::Database(database) => match database.code().as_deref() {
                Some("23505") => Self::Unique(text),
                // Data exceptions, broken constraints, exceeded limits, `raise`: these are of the input's own making.
                Some(code) if ["22", "23", "54", "P0"].iter().any(|class| code.starts_with(class)) => {
                    Self::Poisoned(text)
                }
                _ => Self::Transient(text),
            },
            sqlx::Error::Decode(_)
            | sqlx::Error::Encode(_)
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::TypeNotFound { .. } => Self::Poisoned(text),
            _ => Self::Transient(text),
        }
    }
}
