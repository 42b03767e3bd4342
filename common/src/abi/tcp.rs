//! TCP records: connect, open, close, listen, and sockets as iterators find them.

use core::mem::offset_of;

use super::process::{COMM_BYTES, ProcessKey};
use super::read::Bytes;
use super::{DecodeError, HEADER_BYTES, Header};

/// Address family numbers as the kernel has them.
pub const AF_INET: u16 = 2;
/// See [`AF_INET`].
pub const AF_INET6: u16 = 10;

/// Bits of [`super::Header::flags`] in this family.
pub mod flag {
    /// The socket opened before the agent watched: direction and times may be inferred or missing.
    pub const OPENED_BEFORE: u32 = 1 << 0;
    /// The peer sent its FIN: everything it sent has arrived.
    pub const FIN_RECEIVED: u32 = 1 << 1;
    /// The kernel had no memory to remember who opened the socket.
    pub const MEMORY_FAILED: u32 = 1 << 2;
    /// The direction was inferred from the socket's own counters, not seen.
    pub const DIRECTION_INFERRED: u32 = 1 << 3;
}

/// TCP states, with the kernel's numbers.
#[expect(missing_docs, reason = "RFC 9293 names")]
pub mod state {
    pub const ESTABLISHED: u8 = 1;
    pub const SYN_SENT: u8 = 2;
    pub const SYN_RECV: u8 = 3;
    pub const FIN_WAIT1: u8 = 4;
    pub const FIN_WAIT2: u8 = 5;
    pub const TIME_WAIT: u8 = 6;
    pub const CLOSE: u8 = 7;
    pub const CLOSE_WAIT: u8 = 8;
    pub const LAST_ACK: u8 = 9;
    pub const LISTEN: u8 = 10;
    pub const CLOSING: u8 = 11;
}

/// Who opened the connection, from the socket's own state, never from port numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Direction {
    /// Not known: the socket was open before the agent watched and tells nothing.
    Unknown = 0,
    /// This end sent the first SYN.
    Outbound = 1,
    /// This end was listening.
    Inbound = 2,
}

/// How the owner of a socket is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OwnerSource {
    /// Not known.
    None = 0,
    /// The process that called connect.
    Connect = 1,
    /// The process that called listen.
    Listen = 2,
    /// The process that listened where this connection was accepted, while nobody has read from it.
    Listener = 3,
    /// A process that an iterator found holding the socket open.
    Holder = 4,
    /// The process first seen to read from an accepted connection: its listener, or whoever that handed it to.
    Reader = 5,
}

/// Fixed and only part of a TCP record as it lies in memory; see [`Tcp`] for the meaning of each field.
#[derive(Clone, Copy)]
#[repr(C)]
#[expect(
    missing_docs,
    reason = "each field is documented where it is decoded, in `Tcp`"
)]
pub struct TcpRaw {
    pub header: Header,
    pub cookie: u64,
    pub listener_cookie: u64,
    pub opened_boot_ns: u64,
    pub established_boot_ns: u64,
    pub bytes_sent: u64,
    pub bytes_retransmitted: u64,
    pub bytes_acked: u64,
    pub bytes_received: u64,
    pub owner_start_boot_ns: u64,
    pub inode: u64,
    pub owner_tgid: u32,
    pub uid: u32,
    pub netns: u32,
    pub error: u32,
    pub backlog_max: u32,
    pub backlog: u32,
    pub family: u16,
    pub local_port: u16,
    pub remote_port: u16,
    pub old_state: u8,
    pub new_state: u8,
    pub direction: u8,
    pub owner_source: u8,
    pub reserved: [u8; 6],
    pub local: [u8; 16],
    pub remote: [u8; 16],
    pub owner_comm: [u8; COMM_BYTES],
}

// The decoder reads by offset: padding would be bytes nobody wrote.
const _: () = assert!(size_of::<TcpRaw>() == HEADER_BYTES + 80 + 24 + 16 + 48);

/// One end's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// IPv4 or IPv6 address; an IPv4 peer of an IPv6 socket stays a mapped IPv6 address, as the socket has it.
    pub address: core::net::IpAddr,
    /// Port in host order; 0 while the kernel has not chosen one.
    pub port: u16,
}

/// The process that owns a socket, or that nothing is known about one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Which process.
    pub process: ProcessKey,
    /// Its task name when it was noted, NUL-padded.
    pub comm: [u8; COMM_BYTES],
    /// How it is known.
    pub source: OwnerSource,
}

/// How a connection ended, from the state it left and the error the kernel noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseResult {
    /// Finished in order by this end; by the other too if [`flag::FIN_RECEIVED`] is set.
    Finished,
    /// The attempt was answered by a reset.
    Refused,
    /// The attempt was given up by this end before an answer.
    Abandoned,
    /// The peer reset the connection.
    ResetByPeer,
    /// This end reset the connection.
    ResetByUs,
    /// Nobody answered in time.
    TimedOut,
    /// Another kernel error, as errno.
    Failed(u32),
}

/// A TCP socket at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// The kernel's number for the socket; never reused within one boot. A socket can connect again after a
    /// failure, so a connection's key is this with `opened_boot_ns`.
    pub cookie: u64,
    /// Cookie of the listener that accepted it; 0 if outbound or not known.
    pub listener_cookie: u64,
    /// When the connect, the peer's SYN or the listen was seen; `CLOCK_BOOTTIME` ns, 0 if not seen.
    pub opened_boot_ns: u64,
    /// When it was established; 0 if it was not, or before the agent watched.
    pub established_boot_ns: u64,
    /// Payload bytes handed to the network at least once.
    pub bytes_sent: u64,
    /// Payload bytes sent again.
    pub bytes_retransmitted: u64,
    /// The kernel's own count of acknowledged bytes, SYN and FIN included.
    pub bytes_acked: u64,
    /// Payload bytes received in order.
    pub bytes_received: u64,
    /// Who owns it.
    pub owner: Option<Owner>,
    /// Inode of the socket as `/proc` shows it, 0 if no process holds it.
    pub inode: u64,
    /// User that created the socket.
    pub uid: u32,
    /// Network namespace inode.
    pub netns: u32,
    /// Error the kernel noted on the socket (errno), 0 for none.
    pub error: u32,
    /// Listener: how many connections may wait.
    pub backlog_max: u32,
    /// Listener: how many wait now.
    pub backlog: u32,
    /// This end.
    pub local: Endpoint,
    /// The other end; unspecified for a listener.
    pub remote: Endpoint,
    /// State left, of [`state`].
    pub old_state: u8,
    /// State entered, of [`state`].
    pub new_state: u8,
    /// Who opened it.
    pub direction: Direction,
    /// Bits of [`flag`].
    pub flags: u32,
}

impl Tcp {
    pub(super) fn decode(flags: u32, bytes: &[u8]) -> Result<Self, DecodeError> {
        let b = Bytes(bytes);
        macro_rules! at {
            ($read:ident, $field:ident) => {
                b.$read(offset_of!(TcpRaw, $field))?
            };
        }
        let family = at!(u16, family);
        let endpoint = |address: usize, port: usize| -> Result<Endpoint, DecodeError> {
            let address = match family {
                AF_INET => b.array::<4>(address)?.into(),
                AF_INET6 => b.array::<16>(address)?.into(),
                _ => return Err(DecodeError::Field("family")),
            };
            Ok(Endpoint {
                address,
                port: b.u16(port)?,
            })
        };
        let source = match at!(u8, owner_source) {
            0 => OwnerSource::None,
            1 => OwnerSource::Connect,
            2 => OwnerSource::Listen,
            3 => OwnerSource::Listener,
            4 => OwnerSource::Holder,
            5 => OwnerSource::Reader,
            _ => return Err(DecodeError::Field("owner_source")),
        };
        let owner = Owner {
            process: ProcessKey {
                tgid: at!(u32, owner_tgid),
                start_boot_ns: at!(u64, owner_start_boot_ns),
            },
            comm: b.array(offset_of!(TcpRaw, owner_comm))?,
            source,
        };
        Ok(Self {
            cookie: at!(u64, cookie),
            listener_cookie: at!(u64, listener_cookie),
            opened_boot_ns: at!(u64, opened_boot_ns),
            established_boot_ns: at!(u64, established_boot_ns),
            bytes_sent: at!(u64, bytes_sent),
            bytes_retransmitted: at!(u64, bytes_retransmitted),
            bytes_acked: at!(u64, bytes_acked),
            bytes_received: at!(u64, bytes_received),
            owner: (source != OwnerSource::None).then_some(owner),
            inode: at!(u64, inode),
            uid: at!(u32, uid),
            netns: at!(u32, netns),
            error: at!(u32, error),
            backlog_max: at!(u32, backlog_max),
            backlog: at!(u32, backlog),
            local: endpoint(offset_of!(TcpRaw, local), offset_of!(TcpRaw, local_port))?,
            remote: endpoint(offset_of!(TcpRaw, remote), offset_of!(TcpRaw, remote_port))?,
            old_state: at!(u8, old_state),
            new_state: at!(u8, new_state),
            direction: match at!(u8, direction) {
                0 => Direction::Unknown,
                1 => Direction::Outbound,
                2 => Direction::Inbound,
                _ => return Err(DecodeError::Field("direction")),
            },
            flags,
        })
    }

    /// Whether a bit of [`flag`] is set.
    #[must_use]
    pub const fn has(&self, bit: u32) -> bool {
        self.flags & bit != 0
    }

    /// How it ended; meaningful in [`super::Kind::TcpClose`] only.
    #[must_use]
    pub const fn close_result(&self) -> CloseResult {
        const EPIPE: u32 = 32;
        const ECONNRESET: u32 = 104;
        const ETIMEDOUT: u32 = 110;
        const ECONNREFUSED: u32 = 111;
        match (self.error, self.old_state) {
            (ECONNREFUSED, _) => CloseResult::Refused,
            // A reset after the peer's FIN reads as a broken pipe.
            (ECONNRESET | EPIPE, _) => CloseResult::ResetByPeer,
            (ETIMEDOUT, _) => CloseResult::TimedOut,
            (0, state::SYN_SENT | state::SYN_RECV) => CloseResult::Abandoned,
            // Leaving these without an error and without the closing handshake means that this end
            // threw the connection away: unread data, zero linger, or an abort.
            (0, state::ESTABLISHED | state::CLOSE_WAIT | state::FIN_WAIT1) => CloseResult::ResetByUs,
            (0, _) => CloseResult::Finished,
            (error, _) => CloseResult::Failed(error),
        }
    }
}

/// Layout of [`SocketOwner`] in memory.
#[derive(Clone, Copy)]
#[repr(C)]
#[expect(
    missing_docs,
    reason = "each field is documented where it is decoded, in `SocketOwner`"
)]
pub struct SocketOwnerRaw {
    pub header: Header,
    pub cookie: u64,
    pub owner_start_boot_ns: u64,
    pub owner_tgid: u32,
    pub fd: u32,
    pub comm: [u8; COMM_BYTES],
}

const _: () = assert!(size_of::<SocketOwnerRaw>() == HEADER_BYTES + 24 + COMM_BYTES);

/// A process that holds a TCP socket open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOwner {
    /// The socket.
    pub cookie: u64,
    /// The process.
    pub process: ProcessKey,
    /// Descriptor number in it.
    pub fd: u32,
    /// Task name of its leading thread, NUL-padded.
    pub comm: [u8; COMM_BYTES],
}

impl SocketOwner {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let b = Bytes(bytes);
        Ok(Self {
            cookie: b.u64(offset_of!(SocketOwnerRaw, cookie))?,
            process: ProcessKey {
                tgid: b.u32(offset_of!(SocketOwnerRaw, owner_tgid))?,
                start_boot_ns: b.u64(offset_of!(SocketOwnerRaw, owner_start_boot_ns))?,
            },
            fd: b.u32(offset_of!(SocketOwnerRaw, fd))?,
            comm: b.array(offset_of!(SocketOwnerRaw, comm))?,
        })
    }
}
