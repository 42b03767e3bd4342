//! Listener: a TCP socket that accepts connections. Keyed by its socket ([`super::SocketKey`]).

use core::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Field, ProcessKey, Source};

/// The whole record of a listener at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// What made the agent write this record.
    pub cause: ListenerCause,
    /// Whether it accepts connections.
    pub listening: bool,
    /// Where the record came from.
    pub source: Source,
    /// The address it is bound to.
    pub local: SocketAddr,
    /// Whether an IPv6 listener takes IPv4 connections as well (not `IPV6_V6ONLY`).
    pub dual_stack: Field<bool>,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// The process that called `listen`.
    pub owner: Field<ProcessKey>,
    /// Longest queue of connections not yet accepted.
    pub backlog: Field<u32>,
}

/// What made the agent write the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListenerCause {
    /// It existed when the agent took a baseline.
    Baseline,
    /// `listen` was called.
    Listen,
    /// It was closed.
    Close,
}
