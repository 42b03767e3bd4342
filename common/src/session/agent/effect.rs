//! What an agent's session asks of its driver.

use alloc::vec::Vec;

use super::{AgentFault, ConnectionId};
use crate::{
    ids::{Nonce, Sequence},
    spool::Place,
};

/// What the driver must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentEffect {
    /// Connect and open the stream; answer with [`super::AgentSession::handle_connected`] or
    /// [`super::AgentSession::handle_disconnected`].
    Connect(ConnectionId),
    /// Transmit what is left for at most a second, then close. No answer is awaited.
    Disconnect(ConnectionId),
    /// Read the record of a batch; answer with [`super::AgentSession::handle_loaded`] or
    /// [`super::AgentSession::handle_load_failed`].
    Load {
        /// Which batch.
        sequence: Sequence,
        /// Where it lies.
        place: Place,
    },
    /// Replace the remembered checkpoint durably (write aside, sync, rename, sync the directory); answer
    /// with [`super::AgentSession::handle_remembered`] or [`super::AgentSession::handle_remember_failed`].
    Remember {
        /// The signed note, byte for byte.
        checkpoint: Vec<u8>,
    },
    /// Replace the remembered history of the ledger's keys durably, answered likewise. No checkpoint is remembered
    /// before it is.
    RememberKeys {
        /// The history, byte for byte.
        history: Vec<u8>,
    },
    /// These batches are proven and their checkpoint is remembered: give to [`crate::spool::Spool::trim`].
    Trim {
        /// The last of them.
        through: Sequence,
    },
    /// Give to the journal.
    Nonce(Nonce),
    /// Keep for an auditor, apart from everything else: what the collector signed or sent that cannot stand
    /// beside what it signed before.
    Evidence {
        /// What is wrong.
        fault: AgentFault,
        /// The checkpoint remembered, as a signed note; of a fault of keys the history held. Empty before the first.
        remembered: Vec<u8>,
        /// The message that contradicts it.
        offending: Vec<u8>,
    },
}
