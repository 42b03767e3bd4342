//! Which rows are wanted: values of one field are alternatives, different fields must all fit.

use common::{
    answer::Row,
    event::{Connection, Fact, Listener, ProcessKey},
};

/// What rows must fit. An empty field admits all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Pid of the process, or of the owner of a socket.
    pub pid: Vec<u32>,
    /// Path of the executable (of the owner, for sockets), escaped as answers show it, or its last component.
    pub exe: Vec<String>,
    /// Local or remote port.
    pub port: Vec<u16>,
}

impl Filter {
    /// Whether a row is wanted.
    #[must_use]
    pub fn admits(&self, row: &Row) -> bool {
        self.admits_pid(&row.fact) && self.admits_exe(row) && self.admits_port(&row.fact)
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

    fn admits_exe(&self, row: &Row) -> bool {
        if self.exe.is_empty() {
            return true;
        }
        let path = match &row.fact {
            Fact::Process { record, .. } => record.exe.known().map(|path| &path.text),
            _ => row.owner.as_ref(),
        };
        let Some(path) = path.map(ToString::to_string) else {
            return false;
        };
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
