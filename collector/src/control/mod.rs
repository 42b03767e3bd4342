//! How an operator's commands reach a running collector: a Unix socket in its directory.
//!
//! Owns the messages: one question on one line of JSON, then answers line by line until the last. The socket is open to
//! the collector's own user and to root alone, told by the kernel; the HTTP API stays read-only. Formats here are of no
//! account beyond one version of one program.

mod client;
mod question;
mod server;

use common::ids::StatementNumber;
use serde::{Deserialize, Serialize};

pub use self::{
    client::{AskError, ask},
    question::{QUESTION_BYTES_MAX, Question},
    server::{ControlError, serve},
};
use crate::retention::{Progress, Told};

/// What it answers. The last of them is not [`Answer::Waiting`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// Something holds it up.
    Waiting {
        /// What, in words.
        words: String,
    },
    /// Done.
    Told(Told),
    /// What retention is at.
    Progress {
        /// That.
        progress: Progress,
        /// Legal holds in force.
        holds: Vec<StatementNumber>,
    },
    /// Not done.
    Refused {
        /// Why, with the remedy.
        words: String,
    },
}

#[cfg(test)]
mod tests;
