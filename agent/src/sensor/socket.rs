//! TCP sockets: kernel records made whole.
//!
//! The kernel's records carry nearly everything. Owns what they lack: the owners found at the baseline, and
//! the mapping of addresses and outcomes to the event's words.

use std::{collections::HashMap, net::SocketAddr};

use common::{
    abi::{
        self,
        process::ProcessKey as AbiKey,
        tcp::{CloseResult, Direction as AbiDirection, Endpoint, flag, state},
    },
    event::{
        Connection, Fact, Field, Listener, SocketKey, Source, Why,
        connection::{ConnectionCause, ConnectionState, Direction, Outcome},
        listener::ListenerCause,
    },
    ids::{BootId, BootNanos},
};

use super::{process::Processes, procfs::unmap};

/// Most owners of older sockets remembered.
const OWNERS_MAX: usize = 1 << 16;

/// Owners of sockets that are older than the live sensors.
#[derive(Debug)]
pub struct Sockets {
    boot: BootId,
    owners: HashMap<u64, AbiKey>,
}

impl Sockets {
    /// Knows none.
    #[must_use]
    pub fn new(boot: BootId) -> Self {
        Self {
            boot,
            owners: HashMap::new(),
        }
    }

    /// A process was found holding a socket; the first one counts.
    pub fn found_owner(&mut self, seen: &abi::SocketOwner) {
        if self.owners.len() < OWNERS_MAX {
            self.owners.entry(seen.cookie).or_insert(seen.process);
        }
    }

    /// The fact that a record tells; `None` for sockets that are neither listening nor connected.
    pub fn fact(&mut self, kind: abi::Kind, seen: &abi::Tcp, processes: &Processes) -> Option<Fact> {
        let key = SocketKey {
            boot: self.boot,
            cookie: seen.cookie,
        };
        let owner = self.owner(seen, processes);
        let ends = matches!(kind, abi::Kind::TcpClose | abi::Kind::ListenStop);
        if ends {
            self.owners.remove(&seen.cookie);
        }
        let source = if kind == abi::Kind::TcpSnapshot {
            Source::Iterator
        } else {
            Source::Hook
        };
        let listens = match kind {
            abi::Kind::ListenStart | abi::Kind::ListenStop => true,
            abi::Kind::TcpSnapshot => seen.new_state == state::LISTEN,
            _ => false,
        };
        if listens {
            let local = address(seen.local);
            return Some(Fact::Listener {
                key,
                record: Listener {
                    cause: match kind {
                        abi::Kind::ListenStart => ListenerCause::Listen,
                        abi::Kind::ListenStop => ListenerCause::Close,
                        _ => ListenerCause::Baseline,
                    },
                    listening: !ends,
                    source,
                    local,
                    dual_stack: match local {
                        SocketAddr::V4(_) => Field::Absent,
                        SocketAddr::V6(_) => Field::Unknown(Why::NotObserved),
                    },
                    netns: seen.netns,
                    owner,
                    backlog: Field::Known(seen.backlog_max),
                },
            });
        }
        let (cause, state) = connection_state(kind, seen)?;
        let (local, mapped) = unmap(address(seen.local));
        let time = |ns: u64, missing: Field<BootNanos>| {
            if ns == 0 {
                missing
            } else {
                Field::Known(BootNanos(ns))
            }
        };
        let unseen = Field::Unknown(Why::BeforeSensor);
        let never = if matches!(state, ConnectionState::Connecting) || !established_ever(seen, state) {
            Field::Absent
        } else {
            unseen.clone()
        };
        Some(Fact::Connection {
            key,
            record: Connection {
                cause,
                state,
                source,
                direction: match seen.direction {
                    AbiDirection::Unknown => Field::Unknown(Why::BeforeSensor),
                    AbiDirection::Outbound => Field::Known(Direction::Outgoing),
                    AbiDirection::Inbound => Field::Known(Direction::Incoming),
                },
                local,
                remote: unmap(address(seen.remote)).0,
                mapped,
                netns: seen.netns,
                owner,
                bytes_sent: Field::Known(seen.bytes_sent),
                bytes_received: Field::Known(seen.bytes_received),
                opened: time(seen.opened_boot_ns, unseen),
                established: time(seen.established_boot_ns, never),
            },
        })
    }

    fn owner(&self, seen: &abi::Tcp, processes: &Processes) -> Field<common::event::ProcessKey> {
        let known = seen
            .owner
            .map(|owner| owner.process)
            .or_else(|| self.owners.get(&seen.cookie).copied())
            .or_else(|| self.owners.get(&seen.listener_cookie).copied());
        match known {
            Some(owner) => Field::Known(processes.key(owner)),
            None if seen.has(flag::MEMORY_FAILED) => Field::Unknown(Why::TableFull),
            None if seen.has(flag::OPENED_BEFORE) => Field::Unknown(Why::BeforeSensor),
            None => Field::Unknown(Why::NotObserved),
        }
    }
}

fn connection_state(kind: abi::Kind, seen: &abi::Tcp) -> Option<(ConnectionCause, ConnectionState)> {
    Some(match kind {
        abi::Kind::TcpConnect => (ConnectionCause::Connect, ConnectionState::Connecting),
        abi::Kind::TcpOpen if seen.direction == AbiDirection::Inbound => {
            (ConnectionCause::Accept, ConnectionState::Established)
        }
        abi::Kind::TcpOpen => (ConnectionCause::Established, ConnectionState::Established),
        abi::Kind::TcpClose => (ConnectionCause::Close, ConnectionState::Closed(outcome(seen))),
        _ => {
            let state = match seen.new_state {
                state::ESTABLISHED => ConnectionState::Established,
                state::SYN_SENT | state::SYN_RECV => ConnectionState::Connecting,
                state::FIN_WAIT1
                | state::FIN_WAIT2
                | state::CLOSE_WAIT
                | state::LAST_ACK
                | state::CLOSING => ConnectionState::Closing,
                _ => return None,
            };
            (ConnectionCause::Baseline, state)
        }
    })
}

fn outcome(seen: &abi::Tcp) -> Outcome {
    match seen.close_result() {
        CloseResult::Finished => Outcome::Finished,
        CloseResult::Refused => Outcome::Refused,
        CloseResult::Abandoned => Outcome::Abandoned,
        CloseResult::ResetByPeer | CloseResult::ResetByUs => Outcome::Reset,
        CloseResult::TimedOut => Outcome::TimedOut,
        CloseResult::Failed(errno) => u16::try_from(errno).map_or(Outcome::Unknown, Outcome::Error),
    }
}

/// Whether a connection in this state was established at some time.
fn established_ever(seen: &abi::Tcp, now: ConnectionState) -> bool {
    !matches!(now, ConnectionState::Closed(_)) || !matches!(seen.old_state, state::SYN_SENT | state::SYN_RECV)
}

fn address(endpoint: Endpoint) -> SocketAddr {
    SocketAddr::new(endpoint.address, endpoint.port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp() -> abi::Tcp {
        let endpoint = |text: &str, port| Endpoint {
            address: text.parse().unwrap(),
            port,
        };
        abi::Tcp {
            cookie: 7,
            listener_cookie: 0,
            opened_boot_ns: 5,
            established_boot_ns: 0,
            bytes_sent: 1,
            bytes_retransmitted: 0,
            bytes_acked: 0,
            bytes_received: 2,
            owner: None,
            inode: 0,
            uid: 0,
            netns: 1,
            error: 111,
            backlog_max: 0,
            backlog: 0,
            local: endpoint("::ffff:10.0.0.1", 1),
            remote: endpoint("::ffff:10.0.0.2", 2),
            old_state: state::SYN_SENT,
            new_state: state::CLOSE,
            direction: AbiDirection::Outbound,
            flags: 0,
        }
    }

    fn connection(fact: Option<Fact>) -> Connection {
        match fact {
            Some(Fact::Connection { record, .. }) => record,
            other => panic!("not a connection: {other:?}"),
        }
    }

    #[test]
    fn a_refused_attempt_was_never_established() {
        let processes = Processes::new(BootId::default());
        let mut sockets = Sockets::new(BootId::default());
        let record = connection(sockets.fact(abi::Kind::TcpClose, &tcp(), &processes));
        assert_eq!(record.state, ConnectionState::Closed(Outcome::Refused));
        assert_eq!(record.established, Field::Absent);
        assert_eq!(record.local.to_string(), "10.0.0.1:1");
        assert!(record.mapped);
        assert_eq!(record.owner, Field::Unknown(Why::NotObserved));
    }

    #[test]
    fn an_owner_found_at_the_baseline_serves_until_the_close() {
        let processes = Processes::new(BootId::default());
        let mut sockets = Sockets::new(BootId::default());
        sockets.found_owner(&abi::SocketOwner {
            cookie: 7,
            process: AbiKey {
                tgid: 42,
                start_boot_ns: 1,
            },
            fd: 3,
            comm: [0; 16],
        });
        let owner = |fact| connection(fact).owner.known().map(|key| key.tgid);
        assert_eq!(
            owner(sockets.fact(abi::Kind::TcpClose, &tcp(), &processes)),
            Some(42)
        );
        assert_eq!(owner(sockets.fact(abi::Kind::TcpClose, &tcp(), &processes)), None);
    }

    #[test]
    fn a_socket_without_a_connection_tells_nothing() {
        let processes = Processes::new(BootId::default());
        let mut sockets = Sockets::new(BootId::default());
        assert_eq!(sockets.fact(abi::Kind::TcpSnapshot, &tcp(), &processes), None);
    }
}
