//! A field of a record: known, absent, or unknown with the reason, and where it came from.

use core::fmt;

use serde::{Deserialize, Serialize};

/// A fact that may be missing, and then says why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field<T> {
    /// Observed.
    Known(T),
    /// Observed not to exist (a kernel thread has no executable).
    Absent,
    /// Not observed.
    Unknown(Why),
}

impl<T> Field<T> {
    /// The value, where known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Absent | Self::Unknown(_) => None,
        }
    }

    /// The same field with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Field<U> {
        match self {
            Self::Known(value) => Field::Known(change(value)),
            Self::Absent => Field::Absent,
            Self::Unknown(why) => Field::Unknown(why),
        }
    }
}

impl<T> From<Option<T>> for Field<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Absent, Self::Known)
    }
}

/// Why a field is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The entity began before any sensor watched, and the kernel no longer tells.
    BeforeSensor,
    /// The entity had ended when the sensor looked.
    Gone,
    /// Reading the process's memory faulted (paged out, or changed under the read).
    Fault,
    /// The agent lacks the permission.
    NotPermitted,
    /// This kernel does not offer it.
    NotOffered,
    /// The event that carried it was lost; a loss event names it.
    Lost,
    /// The sensor's table was full when it had to be remembered.
    TableFull,
    /// No sensor of this build observes it.
    NotObserved,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BeforeSensor => "began before the sensor watched",
            Self::Gone => "had ended when looked at",
            Self::Fault => "its memory could not be read",
            Self::NotPermitted => "no permission",
            Self::NotOffered => "this kernel does not offer it",
            Self::Lost => "the event that carried it was lost",
            Self::TableFull => "the sensor's table was full",
            Self::NotObserved => "no sensor observes it",
        })
    }
}

/// Where a record came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// An eBPF program, at the instant of the fact.
    Hook,
    /// A BPF iterator walking the kernel's own tables.
    Iterator,
    /// `/proc`, `/sys` or a system call.
    Procfs,
    /// The agent, about itself.
    Agent,
}
