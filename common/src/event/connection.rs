//! Connection: one end of a TCP connection, as the socket on this host had it.

use alloc::vec::Vec;
use core::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Field, Key, ProcessKey, Source};
use crate::{
    codec::{Reader, Short, Write},
    ids::{BootId, BootNanos},
};

/// Names a socket for ever within a boot. Over loopback a connection has two sockets and so two entities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SocketKey {
    /// The boot it existed in.
    pub boot: BootId,
    /// The kernel's socket cookie, never reused within a boot.
    pub cookie: u64,
}

impl Key for SocketKey {
    fn put(&self, out: &mut Vec<u8>) {
        self.boot.put(out);
        out.put_u64(self.cookie);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, Short> {
        Ok(Self {
            boot: BootId::read(reader)?,
            cookie: reader.u64("socket cookie")?,
        })
    }
}

/// The whole record of a connection at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// What made the agent write this record.
    pub cause: ConnectionCause,
    /// Where it is in its life.
    pub state: ConnectionState,
    /// Where the record came from.
    pub source: Source,
    /// Who opened it, from the socket's states, never from port numbers.
    pub direction: Field<Direction>,
    /// This end. IPv4-mapped IPv6 addresses are written as IPv4, with `mapped` set.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// Whether the socket is an IPv6 one carrying IPv4.
    pub mapped: bool,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Who it belongs to: outgoing, the process that connected; incoming, the one first seen to read from it,
    /// and until then the one that listened where it was accepted; in a baseline, one that was found holding
    /// it open.
    pub owner: Field<ProcessKey>,
    /// Payload bytes sent, each counted once however often it was sent again.
    pub bytes_sent: Field<u64>,
    /// Payload bytes received.
    pub bytes_received: Field<u64>,
    /// When `connect` was called or the handshake completed.
    pub opened: Field<BootNanos>,
    /// When the handshake completed; absent where it never did.
    pub established: Field<BootNanos>,
}

/// What made the agent write the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionCause {
    /// It existed when the agent took a baseline.
    Baseline,
    /// `connect` began.
    Connect,
    /// An outgoing handshake completed.
    Established,
    /// An incoming handshake completed.
    Accept,
    /// It ended.
    Close,
}

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionState {
    /// Handshake under way.
    Connecting,
    /// Both ends can send.
    Established,
    /// One end has said that it will send no more.
    Closing,
    /// Over.
    Closed(Outcome),
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Both ends closed in order.
    Finished,
    /// The handshake was answered with a reset.
    Refused,
    /// Reset after it was established.
    Reset,
    /// Nobody answered.
    TimedOut,
    /// Another error of the socket, as an errno.
    Error(u16),
    /// It ended and the kernel did not tell how.
    Unknown,
    /// This end gave the attempt up before an answer came.
    Abandoned,
}

/// Who opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// A process of this host connected.
    Outgoing,
    /// A listener of this host accepted.
    Incoming,
}
