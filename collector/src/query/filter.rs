//! Which rows are wanted: values of one field are alternatives, different fields must all fit.

use common::event::{Connection, Fact, Field, Listener, Process, ProcessKey};

/// What rows must fit. An empty field admits all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Pid of the process, or of the owner of a socket.
    pub pid: Vec<u32>,
    /// Path of the executable, escaped as answers show it, or its last component.
    pub exe: Vec<String>,
    /// Local or remote port.
    pub port: Vec<u16>,
}

impl Filter {
    /// Whether a fact is wanted.
    #[must_use]
    pub fn admits(&self, fact: &Fact) -> bool {
        self.admits_pid(fact) && self.admits_exe(fact) && self.admits_port(fact)
    }

    fn admits_pid(&self, fact: &Fact) -> bool {
        let pid = match fact {
            Fact::Process { key, .. } => Some(key.tgid),
            Fact::Listener {
                record: Listener { owner, .. },
                ..
            }
            | Fact::Connection {
                record: Connection { owner, .. },
                ..
            } => owner.known().map(|owner: &ProcessKey| owner.tgid),
            _ => None,
        };
        self.pid.is_empty() || pid.is_some_and(|pid| self.pid.contains(&pid))
    }

    fn admits_exe(&self, fact: &Fact) -> bool {
        if self.exe.is_empty() {
            return true;
        }
        let Fact::Process {
            record: Process {
                exe: Field::Known(path),
                ..
            },
            ..
        } = fact
        else {
            return false;
        };
        let path = path.text.to_string();
        let name = path.rsplit('/').next().unwrap_or_default();
        self.exe.iter().any(|wanted| *wanted == path || wanted == name)
    }

    fn admits_port(&self, fact: &Fact) -> bool {
        let ports = match fact {
            Fact::Listener { record, .. } => [record.local.port(), record.local.port()],
            Fact::Connection { record, .. } => [record.local.port(), record.remote.port()],
            _ => return self.port.is_empty(),
        };
        self.port.is_empty() || ports.iter().any(|port| self.port.contains(port))
    }
}
