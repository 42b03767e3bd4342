//! TCP sockets as `/proc/<pid>/net/tcp{,6}` lists them, in every network namespace that a process is in.
//!
//! Owns the mapping of a socket's inode to its owner. The kernel's socket cookie is not in `/proc`; the inode
//! stands in for it, marked so that the two never meet.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, SocketAddr},
};

use common::{
    event::{
        Connection, Field, Listener, ProcessKey, SocketKey, Source, Why,
        connection::{ConnectionCause, ConnectionState},
        listener::ListenerCause,
    },
    ids::BootId,
};
use procfs::{net::TcpState, process::Process as Proc};

/// Set in a [`SocketKey::cookie`] that is an inode number: cookies count from 1 and never come this far.
pub(super) const INODE_MARK: u64 = 1 << 63;

/// A socket found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Socket {
    Listener(Listener),
    Connection(Connection),
}

/// Every socket of the namespaces in `namespaces` (inode and a process in it). What cannot be read is
/// counted, not invented: the second value is the number of namespaces that were refused.
pub(super) fn read_all(
    boot: BootId,
    namespaces: &BTreeMap<u32, u32>,
) -> (BTreeMap<SocketKey, Socket>, usize) {
    let mut found = BTreeMap::new();
    let mut refused = 0;
    for (&netns, &pid) in namespaces {
        let tables = i32::try_from(pid)
            .ok()
            .and_then(|pid| Proc::new(pid).ok())
            .map(|process| (process.tcp(), process.tcp6()));
        let Some((Ok(v4), v6)) = tables else {
            refused += 1;
            continue;
        };
        // A kernel without IPv6 has no such file.
        for entry in v4.into_iter().chain(v6.unwrap_or_default()) {
            // Sockets without an inode belong to nobody any more (TIME_WAIT) or not yet (SYN_RECV).
            if entry.inode == 0 {
                continue;
            }
            let key = SocketKey {
                boot,
                cookie: entry.inode | INODE_MARK,
            };
            if let Some(socket) = socket_of(entry.state, entry.local_address, entry.remote_address, netns) {
                found.insert(key, socket);
            }
        }
    }
    (found, refused)
}

fn socket_of(state: TcpState, local: SocketAddr, remote: SocketAddr, netns: u32) -> Option<Socket> {
    let state = match state {
        TcpState::Listen => {
            return Some(Socket::Listener(Listener {
                cause: ListenerCause::Baseline,
                listening: true,
                source: Source::Procfs,
                local,
                dual_stack: match local {
                    SocketAddr::V4(_) => Field::Absent,
                    SocketAddr::V6(_) => Field::Unknown(Why::NotOffered),
                },
                netns,
                owner: Field::Unknown(Why::NotObserved),
                backlog: Field::Unknown(Why::NotOffered),
            }));
        }
        TcpState::Established => ConnectionState::Established,
        TcpState::SynSent | TcpState::SynRecv | TcpState::NewSynRecv => ConnectionState::Connecting,
        TcpState::FinWait1
        | TcpState::FinWait2
        | TcpState::CloseWait
        | TcpState::LastAck
        | TcpState::Closing => ConnectionState::Closing,
        TcpState::TimeWait | TcpState::Close => return None,
    };
    let (local, mapped) = unmap(local);
    Some(Socket::Connection(Connection {
        cause: ConnectionCause::Baseline,
        state,
        source: Source::Procfs,
        direction: Field::Unknown(Why::NotOffered),
        local,
        remote: unmap(remote).0,
        mapped,
        netns,
        owner: Field::Unknown(Why::NotObserved),
        bytes_sent: Field::Unknown(Why::NotOffered),
        bytes_received: Field::Unknown(Why::NotOffered),
        opened: Field::Unknown(Why::NotObserved),
        established: Field::Unknown(Why::NotObserved),
    }))
}

/// An IPv4-mapped IPv6 address as IPv4, and whether it was one.
pub(crate) fn unmap(address: SocketAddr) -> (SocketAddr, bool) {
    let plain = address.ip().to_canonical();
    let mapped = address.is_ipv6() && matches!(plain, IpAddr::V4(_));
    (SocketAddr::new(plain, address.port()), mapped)
}

/// Who holds the sockets in `wanted`: the first process found with a descriptor of each. The second value
/// says whether some processes refused to be looked into.
pub(super) fn owners(
    processes: impl Iterator<Item = ProcessKey>,
    wanted: &BTreeSet<u64>,
) -> (BTreeMap<u64, ProcessKey>, bool) {
    let mut owners = BTreeMap::new();
    let mut refused = false;
    for key in processes {
        let entries = match fs::read_dir(format!("/proc/{}/fd", key.tgid)) {
            Ok(entries) => entries,
            Err(error) => {
                refused |= error.kind() == std::io::ErrorKind::PermissionDenied;
                continue;
            }
        };
        for target in entries
            .flatten()
            .filter_map(|entry| fs::read_link(entry.path()).ok())
        {
            if let Some(inode) = target.to_str().and_then(socket_inode)
                && wanted.contains(&inode)
            {
                owners.entry(inode).or_insert(key);
            }
        }
    }
    (owners, refused)
}

fn socket_inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_become_ipv4_and_say_so() {
        for (text, expected, mapped) in [
            ("[::ffff:10.0.0.1]:80", "10.0.0.1:80", true),
            ("10.0.0.1:80", "10.0.0.1:80", false),
            ("[::1]:80", "[::1]:80", false),
        ] {
            let (address, was_mapped) = unmap(text.parse().unwrap());
            assert_eq!((address.to_string().as_str(), was_mapped), (expected, mapped));
        }
    }

    #[test]
    fn a_listener_of_ours_is_found_with_its_owner() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let me = std::process::id();
        let (sockets, refused) = read_all(BootId::default(), &BTreeMap::from([(1, me)]));
        assert_eq!(refused, 0);
        let (key, _) = sockets
            .iter()
            .find(|(_, socket)| matches!(socket, Socket::Listener(l) if l.local == address))
            .unwrap();
        let inode = key.cookie & !INODE_MARK;
        let process = ProcessKey {
            boot: BootId::default(),
            tgid: me,
            started: common::ids::BootNanos(0),
        };
        let (owners, _) = owners([process].into_iter(), &BTreeSet::from([inode]));
        assert_eq!(owners.get(&inode), Some(&process));
    }
}
