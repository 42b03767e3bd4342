//! How a command ends: exit codes, and failures with cause and remedy.

use std::io;

use common::answer::ApiError;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// As asked.
    Fine,
    /// It failed.
    Failed,
    /// The command line was wrong.
    Usage,
    /// The answer is not known, at least for one host.
    Unknown,
    /// What was checked has been altered.
    Tampered,
    /// What was checked holds, and too few of the witnesses demanded cosigned it.
    Unwitnessed,
    /// Flags or environment point nowhere.
    BadConfig,
}

impl Exit {
    /// The process's exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unknown => 3,
            Self::Tampered => 4,
            Self::Unwitnessed => 5,
            Self::BadConfig => 78,
        }
    }
}

/// Why a command did not end as asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line. The one who typed it.
    #[error("{cause}")]
    Usage {
        /// What is wrong.
        cause: String,
        /// What to do about it.
        remedy: String,
    },
    /// The configuration. The operator.
    #[error("{cause}")]
    Config {
        /// What is wrong.
        cause: String,
        /// What to do about it.
        remedy: String,
    },
    /// The collector does not answer. The network, or whoever should have started it.
    #[error("the collector at {url} does not answer: {cause}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        cause: String,
    },
    /// A log or a witness of somebody's. Whoever serves it, or the network.
    #[error("cannot read {url}: {cause}")]
    Remote {
        /// Where.
        url: String,
        /// Why.
        cause: String,
    },
    /// The collector refuses.
    #[error("{}", .error.cause)]
    Refused {
        /// Its status code.
        status: u16,
        /// What it says.
        error: ApiError,
    },
    /// What the collector sent cannot be read.
    #[error("the collector's answer cannot be read: {0}")]
    Answer(String),
    /// A file.
    #[error("cannot {verb} {path}: {cause}")]
    File {
        /// What was tried.
        verb: &'static str,
        /// Which file.
        path: String,
        /// What the system said.
        cause: io::Error,
    },
    /// Whoever read our output has gone.
    #[error("output was closed")]
    ClosedPipe,
    /// Our output cannot be written.
    #[error("cannot write the answer: {0}")]
    Output(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::ClosedPipe
        } else {
            Self::Output(error)
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        error.io_error_kind().map_or_else(
            || Self::Answer(error.to_string()),
            |kind| Self::from(io::Error::from(kind)),
        )
    }
}

impl Failure {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::Usage { remedy, .. } | Self::Config { remedy, .. } => remedy.clone(),
            Self::Unreachable { .. } => {
                "start it (hostledger-collector run), or name another with --collector or HOSTLEDGER_COLLECTOR".into()
            }
            Self::Remote { .. } => {
                "whoever serves it is at fault, the network, or the address: give that of a checkpoint, of a log, or of a witness"
                    .into()
            }
            Self::Refused { error, .. } => error.remedy.clone(),
            Self::Answer(_) => "is it a collector, and as new as this program?".into(),
            Self::File { .. } | Self::ClosedPipe | Self::Output(_) => return None,
        })
    }

    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage { .. }
            | Self::Refused {
                status: 400 | 409, ..
            } => Exit::Usage,
            Self::Config { .. } => Exit::BadConfig,
            _ => Exit::Failed,
        }
    }
}
