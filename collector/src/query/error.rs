//! Why a question is not answered, who is at fault and what to do.

use common::answer::ApiError;

use crate::projection::{EntryError, IndexError, StateError};

/// Why a question is not answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The question. The one who asks.
    #[error("{cause}")]
    BadRequest {
        /// What is wrong.
        cause: String,
        /// What to do about it.
        remedy: String,
    },
    /// No host of that id or name. The one who asks.
    #[error("no host `{0}` in the ledger")]
    NoSuchHost(String),
    /// Several hosts fit. The one who asks.
    #[error("`{text}` fits several hosts: {}", candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// What fits.
        candidates: Vec<String>,
    },
    /// No such event. The one who asks.
    #[error("{0}")]
    NotFound(String),
    /// The answer does not fit the bounds. The one who asks.
    #[error("{cause}")]
    TooMuch {
        /// What is too much.
        cause: String,
    },
    /// What would tell was pruned. Whoever set the retention policy.
    #[error("unknown because pruned: {0}")]
    Pruned(EntryError),
    /// The ledger cannot be read, or holds what nobody signed. The operator.
    #[error("the ledger on the collector's disk cannot be used: {0}")]
    Ledger(StateError),
    /// The projection's index does not serve. The operator, or whoever wrote to it.
    #[error("what queries find their way by cannot be used: {0}")]
    Index(IndexError),
    /// The ledger does not prove what it should. The operator.
    #[error("the ledger on the collector's disk cannot be used: {0}")]
    Unprovable(String),
    /// We are. Please report it.
    #[error("internal fault: {0}")]
    Internal(String),
}

impl From<EntryError> for QueryError {
    fn from(error: EntryError) -> Self {
        StateError::Entry(error).into()
    }
}

impl From<IndexError> for QueryError {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

impl From<StateError> for QueryError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Entry(entry) if entry.pruned.is_some() => Self::Pruned(entry),
            StateError::Index(error) => Self::Index(error),
            other => Self::Ledger(other),
        }
    }
}

impl QueryError {
    /// The HTTP status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::BadRequest { .. } | Self::TooMuch { .. } => 400,
            Self::NoSuchHost(_) | Self::NotFound(_) => 404,
            Self::Ambiguous { .. } => 409,
            Self::Pruned(_) => 410,
            Self::Ledger(_) | Self::Index(_) | Self::Unprovable(_) | Self::Internal(_) => 500,
        }
    }

    /// What is sent.
    #[must_use]
    pub fn to_api(&self) -> ApiError {
        ApiError {
            cause: self.to_string(),
            remedy: match self {
                Self::BadRequest { remedy, .. } => remedy.clone(),
                Self::NoSuchHost(_) => "see `hostledger status` for the hosts there are".into(),
                Self::Ambiguous { .. } => "give more digits of the id".into(),
                Self::NotFound(_) => "see `hostledger status` for what the ledger holds".into(),
                Self::TooMuch { .. } => "narrow the time range or name a host".into(),
                Self::Pruned(_) => {
                    "ask for what is kept; headers and receipts of it still prove that it was there".into()
                }
                Self::Ledger(_) | Self::Unprovable(_) => {
                    "run `hostledger verify --ledger` on the collector's ledger directory".into()
                }
                Self::Index(_) => {
                    "see that the collector's disk takes writes; remove `projections/chains` while it is stopped"
                        .into()
                }
                Self::Internal(_) => "report this with the collector's log".into(),
            },
        }
    }
}
