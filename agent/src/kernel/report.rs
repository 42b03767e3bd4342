//! What each probe can do on this kernel, found by trying, and why not where it cannot.

use std::fmt;

/// How much a mechanism asks of the kernel (docs/ARCHITECTURE.md, sensors).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// fentry and LSM programs: used where the kernel lets them load.
    A,
    /// BTF tracepoints and iterators: the tested core.
    B,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B => "B",
        })
    }
}

/// One attachment point of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Probe {
    /// Process creation.
    ProcessFork,
    /// Program replacement.
    ProcessExec,
    /// Process end.
    ProcessExit,
    /// TCP state changes: connect, open, close, listen.
    TcpState,
    /// Who reads from accepted connections.
    TcpRead,
    /// Snapshot of processes.
    IterTask,
    /// Snapshot of TCP sockets.
    IterTcp,
    /// Snapshot of who holds which socket.
    IterTaskFile,
    /// Trial of fentry, which tells whether tier A is to be had.
    TrialFentry,
    /// Trial of an LSM program, which tells whether tier A is to be had.
    TrialLsm,
}

impl Probe {
    /// Stable name for reports and the `doctor` command.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProcessFork => "process-fork",
            Self::ProcessExec => "process-exec",
            Self::ProcessExit => "process-exit",
            Self::TcpState => "tcp-state",
            Self::TcpRead => "tcp-read",
            Self::IterTask => "iter-task",
            Self::IterTcp => "iter-tcp",
            Self::IterTaskFile => "iter-task-file",
            Self::TrialFentry => "trial-fentry",
            Self::TrialLsm => "trial-lsm",
        }
    }
}

/// Whether a probe works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It works as designed.
    Active,
    /// It works, but records lack something; the text says what and why.
    Degraded(String),
    /// It does not work; the text says why and what would help.
    Failed(String),
}

/// One probe's state, for the chain and for `doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensorReport {
    /// Which tier it belongs to.
    pub tier: Tier,
    /// Which probe.
    pub probe: Probe,
    /// What came of trying.
    pub state: State,
}

impl SensorReport {
    /// Whether records can come from it at all.
    #[must_use]
    pub const fn works(&self) -> bool {
        !matches!(self.state, State::Failed(_))
    }

    /// The reason it is not fully active, empty if it is.
    #[must_use]
    pub fn reason(&self) -> &str {
        match &self.state {
            State::Active => "",
            State::Degraded(reason) | State::Failed(reason) => reason,
        }
    }
}
