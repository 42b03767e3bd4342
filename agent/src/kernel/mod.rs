//! The boundary to the kernel: loads and attaches the eBPF programs, reads what they say, counts what is lost.
//!
//! Owns the embedded object, the offsets from BTF, the trial of each probe, the ring and the iterators. Hands
//! out [`common::abi::Record`]s and [`Loss`]es, both exactly as the kernel told them.
//! Refuses meaning: turning records into events, joining snapshot and live stream, and falling back to procfs
//! is the sensors' work. Refuses to be blocked on: nothing here waits longer than it is told.
//!
//! [`Kernel::start`] gives three parts that may go to different threads: [`Hooks`] (dropping it detaches
//! everything; also takes snapshots), [`Reader`] (the live stream), and the [`SensorReport`]s.

mod btf;
mod loss;
mod permission;
mod reader;
mod report;
mod snapshot;
mod start;

use std::path::PathBuf;

pub use btf::{Btf, BtfError, FieldError, Offsets};
pub use loss::{Accounting, Loss, LossCause, OutOfOrder, Tally};
pub use reader::{Drained, Item, Reader, ReaderError, Total, Totals};
pub use report::{Probe, SensorReport, State, Tier};
pub use snapshot::SnapshotError;
pub use start::{Hooks, Refused};

/// How the kernel side is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Size of the ring between kernel and agent; a power of two and a multiple of the page size.
    /// This is also the bound on the memory of unread events. All other maps together take 45 KiB for each CPU,
    /// half a MiB once, and about 200 bytes for each open TCP socket.
    pub ring_bytes: u32,
    /// The kernel wakes the agent early once this many bytes wait (a quarter of the ring at most); below that
    /// the agent's own timer finds them.
    pub wake_bytes: u32,
    /// Most bytes of arguments kept, at most [`common::abi::process::ARGV_BYTES_MAX`].
    pub argv_bytes_max: u32,
    /// Where the kernel's type information is.
    pub btf: PathBuf,
    /// Find the last thread of a process by counting, even where the kernel tells it (Linux 6.16). For testing
    /// the way that older kernels need.
    pub count_threads: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ring_bytes: 8 << 20,
            wake_bytes: 256 << 10,
            argv_bytes_max: 4096,
            btf: PathBuf::from("/sys/kernel/btf/vmlinux"),
            count_threads: false,
        }
    }
}

/// The running kernel side.
#[derive(Debug)]
pub struct Kernel {
    /// Keeps the programs attached; takes snapshots.
    pub hooks: Hooks,
    /// The live stream.
    pub reader: Reader,
    /// What each probe can do here, in a stable order.
    pub reports: Vec<SensorReport>,
}

impl Kernel {
    /// Loads and attaches everything that this kernel lets us.
    ///
    /// A probe that fails does not stop the others: its report says why. Live hooks are attached before this
    /// returns, so a snapshot taken afterwards overlaps the live stream and leaves no seam.
    ///
    /// # Errors
    /// [`Refused`] if nothing at all can be had, naming what is missing.
    pub fn start(options: &Options) -> Result<Self, Refused> {
        start::start(options)
    }
}
