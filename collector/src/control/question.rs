//! What an operator asks of a running collector: one line of JSON.
//!
//! Owns the form and its bound. What is asked is judged where it is carried out; refuses whatever is no question of this
//! version. The fuzz target `control` reads this file as it stands, so it names nothing of this crate.

use common::{
    retention::Policy,
    statement::{Hold, HoldLifted},
};
use serde::{Deserialize, Serialize};

/// Longest question, bytes with its newline.
pub const QUESTION_BYTES_MAX: u64 = 64 * 1024;

/// What is asked of a running collector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Question {
    /// Remove bodies.
    Prune {
        /// Which.
        policy: Policy,
        /// Only say which.
        dry_run: bool,
    },
    /// Set a legal hold.
    AddHold {
        /// The hold.
        hold: Hold,
    },
    /// Lift one.
    LiftHold {
        /// Which, and why.
        lifted: HoldLifted,
    },
    /// List those in force.
    ListHolds,
    /// What retention is at.
    Progress,
}

impl Question {
    /// Reads what came up to the newline, or to the end where none came.
    ///
    /// # Errors
    /// Whoever asked is at fault: a program of another version, or none of ours.
    pub fn read(line: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(line)
    }

    /// The line that asks it.
    ///
    /// # Errors
    /// Ours to fix.
    pub fn line(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }
}
