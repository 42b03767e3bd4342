//! The live stream: reads the ring, decodes records, names gaps, and balances the books with the kernel.

use std::fmt;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{MapData, MapError, PerCpuArray, RingBuf};
use common::abi::{self, Counter, DecodeError, Kind, Record};
use rustix::event::epoll;
use rustix::time::{ClockId, Timespec, clock_gettime};

use super::loss::{Accounting, Loss, OutOfOrder};
use super::report::Probe;

/// More records than fit into any ring in practice (64 MiB of the smallest), so that a reconciliation ends even
/// while events keep coming.
const RING_RECORDS_MAX: usize = (64 << 20) / abi::HEADER_BYTES;

/// Why the ring or the counters cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    /// The object lacks a map: agent and object were not built together.
    #[error("the eBPF object has no map {0}; agent and object were not built together")]
    NoMap(&'static str),
    /// A map is not what it should be or cannot be read.
    #[error("eBPF map {map}: {source}")]
    Map {
        /// Which map.
        map: &'static str,
        /// What went wrong.
        source: MapError,
    },
    /// Waiting failed.
    #[error("waiting for kernel events: {0}")]
    Wait(std::io::Error),
}

/// What comes out of the stream.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "handed to the sink on the stack, never stored"
)]
pub enum Item<'a> {
    /// Something happened.
    Record(Record<'a>),
    /// Things happened that were not seen.
    Loss(Loss),
    /// A record that no program of ours writes; where it has a number, its loss follows.
    Malformed(DecodeError),
    /// A sequence number twice: the books of that kind and CPU cannot be trusted any more.
    OutOfOrder(OutOfOrder),
}

/// What one turn of reading did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Records taken from the ring.
    pub records: usize,
    /// The bound was reached before the ring was empty.
    pub more: bool,
}

/// One kind's books on one CPU at one moment, as the batch header carries them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    /// What kind of event.
    pub kind: Kind,
    /// On which CPU.
    pub cpu: u32,
    /// Events the kernel numbered.
    pub happened: u64,
    /// Records that arrived here.
    pub seen: u64,
    /// Events known to be lost. `happened - seen - lost` are still on their way; 0 once all is quiet.
    pub lost: u64,
}

/// The books of all kinds, and what they cannot cover.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Every kind and CPU with at least one event, in a stable order.
    pub kinds: Vec<Total>,
    /// Hook runs that the kernel left out because the same hook was already running on that CPU. Each is at
    /// most one event without a number; all of them ever, by probe.
    pub left_out: Vec<(Probe, u64)>,
    /// Sockets whose owner could not be remembered for want of kernel memory.
    pub owners_forgotten: u64,
}

impl Totals {
    /// Whether everything that happened was seen or is known to be lost, and no hook run was left out.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.kinds.iter().all(|t| t.seen + t.lost == t.happened) && self.left_out.iter().all(|&(_, n)| n == 0)
    }
}

/// The reading end of the ring; one per loaded object.
pub struct Reader {
    ring: RingBuf<MapData>,
    /// Watches the ring for wake-ups, not for data: see [`Reader::wait`].
    wakeups: OwnedFd,
    /// `[happened, lost]` by kind and CPU.
    counters: PerCpuArray<MapData, [u64; 2]>,
    /// Failures by CPU, index 0: socket storage.
    failures: PerCpuArray<MapData, u64>,
    programs: Vec<(Probe, OwnedFd)>,
    accounting: Accounting,
}

impl Reader {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, ReaderError> {
        let mut take = |map| ebpf.take_map(map).ok_or(ReaderError::NoMap(map));
        let failed = |map| move |source| ReaderError::Map { map, source };
        let ring = RingBuf::try_from(take("RING")?).map_err(failed("RING"))?;
        Ok(Self {
            wakeups: watch(&ring).map_err(|error| ReaderError::Wait(error.into()))?,
            ring,
            counters: PerCpuArray::try_from(take("COUNTERS")?).map_err(failed("COUNTERS"))?,
            failures: PerCpuArray::try_from(take("FAILURES")?).map_err(failed("FAILURES"))?,
            programs: Vec::new(),
            accounting: Accounting::default(),
        })
    }

    /// Remembers the live programs, whose descriptors tell how often the kernel left them out.
    pub(super) fn with_programs(mut self, ebpf: &Ebpf) -> Self {
        const LIVE: [(Probe, &str); 4] = [
            (Probe::ProcessFork, "process_fork"),
            (Probe::ProcessExec, "process_exec"),
            (Probe::ProcessExit, "process_exit"),
            (Probe::TcpState, "tcp_state"),
        ];
        for (probe, name) in LIVE {
            let fd = ebpf
                .program(name)
                .and_then(|p| p.fd().ok()?.as_fd().try_clone_to_owned().ok());
            self.programs.extend(fd.map(|fd| (probe, fd)));
        }
        self
    }

    /// Waits until the kernel asks for attention (much is waiting) or `timeout` has passed, whichever is first.
    ///
    /// Records may be there in either case: the kernel does not wake the agent for each of them.
    ///
    /// # Errors
    /// [`ReaderError::Wait`]; being interrupted by a signal is none.
    pub fn wait(&self, timeout: Duration) -> Result<(), ReaderError> {
        let timeout = Timespec::try_from(timeout).unwrap_or(Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        });
        let mut events = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        }];
        match epoll::wait(&self.wakeups, &mut events, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(ReaderError::Wait(error.into())),
        }
    }

    /// Takes up to `records_max` records from the ring.
    pub fn drain(&mut self, records_max: usize, sink: &mut dyn FnMut(Item<'_>)) -> Drained {
        let mut records = 0;
        while records < records_max {
            let Some(bytes) = self.ring.next() else {
                return Drained { records, more: false };
            };
            records += 1;
            match abi::decode(&bytes) {
                Ok(record) => take(&mut self.accounting, record, sink),
                Err(error) => refuse(&mut self.accounting, &bytes, error, sink),
            }
        }
        Drained { records, more: true }
    }

    /// Reads the kernel's counters, drains the ring, names the losses that no later record revealed, and yields
    /// the books. Call it before sealing a batch; its work is bounded by the ring's size.
    ///
    /// # Errors
    /// [`ReaderError::Map`] if the counters cannot be read.
    pub fn reconcile(&mut self, sink: &mut dyn FnMut(Item<'_>)) -> Result<Totals, ReaderError> {
        let counters = self.read_counters()?;
        // The ring holds what the counters say and whatever came since; the latter must not keep us here.
        self.drain(RING_RECORDS_MAX, sink);
        let now = boot_now_ns();
        for &(kind, cpu, counter) in &counters {
            if let Some(loss) = self.accounting.reconcile(kind, cpu, counter, now) {
                sink(Item::Loss(loss));
            }
        }
        Ok(Totals {
            kinds: self.totals(&counters),
            left_out: self.left_out(),
            owners_forgotten: self.owners_forgotten()?,
        })
    }

    fn totals(&self, counters: &[(Kind, u32, Counter)]) -> Vec<Total> {
        let tallies: std::collections::BTreeMap<_, _> = self
            .accounting
            .tallies()
            .map(|(kind, cpu, tally)| ((kind, cpu), tally))
            .collect();
        counters
            .iter()
            .map(|&(kind, cpu, counter)| {
                let tally = tallies.get(&(kind, cpu)).copied().unwrap_or_default();
                // Records that came after the counters were read happened too.
                let happened = counter.happened.max(tally.last);
                Total {
                    kind,
                    cpu,
                    happened,
                    seen: tally.seen,
                    lost: tally.lost,
                }
            })
            .filter(|total| total.happened > 0)
            .collect()
    }

    fn read_counters(&self) -> Result<Vec<(Kind, u32, Counter)>, ReaderError> {
        let mut out = Vec::new();
        for kind in Kind::LIVE {
            let slot = kind as u16;
            let values = self
                .counters
                .get(&u32::from(slot), 0)
                .map_err(|source| ReaderError::Map {
                    map: "COUNTERS",
                    source,
                })?;
            for (cpu, &[happened, lost]) in (0u32..).zip(values.iter()) {
                out.push((kind, cpu, Counter { happened, lost }));
            }
        }
        Ok(out)
    }

    fn owners_forgotten(&self) -> Result<u64, ReaderError> {
        let values = self.failures.get(&0, 0).map_err(|source| ReaderError::Map {
            map: "FAILURES",
            source,
        })?;
        Ok(values.iter().sum())
    }

    /// The kernel tells in the description of a program's descriptor how often it left the program out.
    fn left_out(&self) -> Vec<(Probe, u64)> {
        self.programs
            .iter()
            .filter_map(|(probe, fd)| {
                let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
                let count = info
                    .lines()
                    .find_map(|line| line.strip_prefix("recursion_misses:"))?;
                Some((*probe, count.trim().parse().ok()?))
            })
            .collect()
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("accounting", &self.accounting)
            .finish_non_exhaustive()
    }
}

/// Edge-triggered: the ring counts as readable while it holds anything, which would end every wait at once and
/// undo the kernel's batching. Only a wake-up makes an edge.
fn watch(ring: &RingBuf<MapData>) -> rustix::io::Result<OwnedFd> {
    let wakeups = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
    epoll::add(&wakeups, ring, epoll::EventData::new_u64(0), flags)?;
    Ok(wakeups)
}

fn take(accounting: &mut Accounting, record: Record<'_>, sink: &mut dyn FnMut(Item<'_>)) {
    match accounting.saw(record.kind, record.cpu, record.sequence, record.time_boot_ns) {
        Ok(None) => {}
        Ok(Some(loss)) => sink(Item::Loss(loss)),
        Err(error) => return sink(Item::OutOfOrder(error)),
    }
    sink(Item::Record(record));
}

/// A record that cannot be decoded is evidence too: as a fault, and as a loss if its header can be read.
fn refuse(accounting: &mut Accounting, bytes: &[u8], error: DecodeError, sink: &mut dyn FnMut(Item<'_>)) {
    sink(Item::Malformed(error));
    let Ok(header) = abi::header(bytes) else { return };
    let Some(kind) = Kind::from_number(header.kind) else {
        return;
    };
    match accounting.refused(kind, header.cpu, header.sequence, header.time_boot_ns) {
        Ok((gap, refused)) => {
            gap.into_iter()
                .chain([refused])
                .for_each(|loss| sink(Item::Loss(loss)));
        }
        Err(error) => sink(Item::OutOfOrder(error)),
    }
}

/// Nanoseconds of `CLOCK_BOOTTIME`, the clock of every record.
fn boot_now_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}
