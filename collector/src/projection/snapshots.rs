//! State snapshots on disk: `<directory>/state/<host>/<batches folded>-<header hash>.state`, and `.kept.state` for
//! those that stand behind pruned batches.
//!
//! The name binds a snapshot to the history it was folded from, its own root to its bytes. Whatever does not fit is
//! passed over as if it were not there. Old ones thin out ([`thinning`]), so that neither their number nor what a
//! question folds grows with the chain; what nothing else could tell any more stays.

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{
    answer::Span,
    fold::State,
    ids::{Hash, HostId, WallNanos},
    projection::thinning::{self, superfluous},
};

use super::{Cut, EntryError, IndexError, Projection, StateError};

/// Longest snapshot read, bytes.
const SNAPSHOT_BYTES_MAX: u64 = 1 << 30;
/// Most bytes of one host's snapshots that nothing but speed needs.
const HOST_BYTES_MAX: u64 = 256 << 20;

/// How long a snapshot is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Until others serve as well.
    WhileNeeded,
    /// For ever: the bodies that it was folded from are about to go.
    ForEver,
}

/// A snapshot on disk, unread.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Listed {
    /// Batches folded.
    batches: usize,
    for_ever: bool,
    path: PathBuf,
}

/// How far the snapshots of a host reach.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reach {
    /// Batches that the newest one stands for.
    pub(super) batches: usize,
    /// What folding those costs.
    pub(super) work: u64,
}

impl Projection {
    /// The nearest snapshot that holds nothing after the cut, and how many batches it stands for; the empty
    /// state where there is none.
    pub(super) fn snapshot_before(&self, host: &HostId, cut: &Cut) -> Result<(usize, State), IndexError> {
        let Some(chain) = self.chain(host) else {
            return Ok((0, State::new(*host)));
        };
        for found in self.listed(host).into_iter().rev() {
            if found.batches >= cut.end || !chain.all_before(found.batches, cut)? {
                continue;
            }
            if let Some(state) = self.load(host, &found)? {
                return Ok((found.batches, state));
            }
        }
        Ok((0, State::new(*host)))
    }

    /// Takes one snapshot more of the host that has gone furthest without; `false` where none has gone far.
    ///
    /// # Errors
    /// The events in between cannot be read or folded.
    pub fn snapshot_step(&self) -> Result<bool, StateError> {
        if self.directory.is_none() {
            return Ok(false);
        }
        let mut furthest = None;
        for host in self.hosts() {
            let reach = self.reach(&host)?;
            let lag = self
                .chain(&host)
                .map_or(0, |chain| chain.work().saturating_sub(reach.work));
            furthest = furthest.max(Some((lag, host, reach.work)));
        }
        let Some((_, host, work)) = furthest.filter(|(lag, ..)| *lag >= self.snapshot_work) else {
            return Ok(false);
        };
        let wanted = work.saturating_add(self.snapshot_work);
        let ends = match self.chain(&host) {
            Some(chain) => chain.first_past(|record| record.work_before() >= wanted)?,
            None => None,
        };
        let Some(ends) = ends else {
            return Ok(false);
        };
        let taken = self.take(&host, ends.position(), Keep::WhileNeeded);
        // One that cannot be taken is passed over, so that it does not stand in the way of others.
        self.reached(
            &host,
            Reach {
                batches: ends.position(),
                work: ends.work_before(),
            },
        );
        taken?;
        self.thin(&host)?;
        Ok(true)
    }

    /// Folds a host's first `batches` batches and keeps their state, so that it can be told when their bodies are
    /// gone; `false` where the disk would not keep it.
    ///
    /// # Errors
    /// They cannot be read or folded.
    pub fn keep_state(&self, host: &HostId, batches: usize) -> Result<bool, StateError> {
        let kept = || {
            let listed = self.listed(host);
            listed
                .iter()
                .any(|found| found.batches == batches && found.for_ever)
        };
        if batches == 0 || kept() {
            return Ok(true);
        }
        self.take(host, batches, Keep::ForEver)?;
        // What lies before it may be gone by the time a snapshot of it would be due.
        if let Some(chain) = self.chain(host) {
            let work = chain.work_before(batches)?;
            self.reached(host, Reach { batches, work });
        }
        if let Some(directory) = self.host_directory(host).filter(|_| kept()) {
            return Ok(fs::File::open(directory).and_then(|at| at.sync_all()).is_ok());
        }
        Ok(false)
    }

    /// Folds everything in a host's first `batches` batches and writes the state down.
    fn take(&self, host: &HostId, batches: usize, keep: Keep) -> Result<(), StateError> {
        let Some(last) = self.records(host, batches.saturating_sub(1), batches)?.pop() else {
            return Ok(());
        };
        let cut = Cut {
            at: WallNanos(u64::MAX),
            begun: Some(last.span),
            next: None,
            end: batches,
            segment: u32::MAX,
            set_back_until: None,
            in_flight_ns: None,
        };
        let state = self.folded(host, &cut, &last.span)?;
        self.save_snapshot(&state, batches, &last.span, keep);
        Ok(())
    }

    /// Keeps a snapshot; failing to is no fault of the answer, only slower next time.
    pub(super) fn save_snapshot(&self, state: &State, batches: usize, last: &Span, keep: Keep) {
        let Some(directory) = self.host_directory(&state.host()) else {
            return;
        };
        let Ok(header) = self.entries.header(last.leaf) else {
            return;
        };
        let (bytes, _) = state.encode();
        let name = file_name(batches, &Hash::of(&header), keep == Keep::ForEver);
        let written = fs::create_dir_all(&directory).and_then(|()| {
            // Renamed into place, so that a crash leaves no half-written file under the name; one that a
            // power cut tears nevertheless is refused by its root.
            let partial = directory.join(format!("{name}.partial-{}", std::process::id()));
            fs::write(&partial, bytes)?;
            // Once the bodies are pruned that it was folded from, nothing else can tell.
            fs::File::open(&partial)?.sync_all()?;
            fs::rename(&partial, directory.join(&name))
        });
        if let Err(error) = written {
            tracing::warn!(host = %state.host(), %error, "state snapshot not kept; queries of old instants stay slow");
        }
    }

    /// How far the snapshots of a host reach: read from disk once, then known.
    pub(super) fn reach(&self, host: &HostId) -> Result<Reach, IndexError> {
        let known = self.with_reach(|known| known.get(host).copied());
        if let Some(known) = known {
            return Ok(known);
        }
        let Some(chain) = self.chain(host) else {
            return Ok(Reach::default());
        };
        let on_disk = self.listed(host).into_iter().map(|found| found.batches);
        let batches = on_disk
            .filter(|batches| *batches <= chain.len())
            .max()
            .unwrap_or(0);
        let reach = Reach {
            batches,
            work: chain.work_before(batches)?,
        };
        self.reached(host, reach);
        Ok(reach)
    }

    pub(super) fn reached(&self, host: &HostId, reach: Reach) {
        self.with_reach(|known| {
            let now = known.entry(*host).or_default();
            if reach.batches >= now.batches {
                *now = reach;
            }
        });
    }

    /// Removes what others serve as well.
    fn thin(&self, host: &HostId) -> Result<(), StateError> {
        let Some(chain) = self.chain(host) else {
            return Ok(());
        };
        let mut share = thinning::SHARE;
        loop {
            let listed = self.listed(host);
            let positions = listed
                .iter()
                .map(|found| chain.work_before(found.batches))
                .collect::<Result<Vec<_>, _>>()?;
            let needed = |at: usize| listed.get(at).is_none_or(|found| self.alone_tells(host, found));
            for at in superfluous(&positions, chain.work(), share, needed) {
                // Removed or not, it does no harm.
                let _ = listed.get(at).map(|found| fs::remove_file(&found.path));
            }
            let bytes: u64 = self
                .listed(host)
                .iter()
                .filter(|found| !found.for_ever)
                .filter_map(|found| fs::metadata(&found.path).ok())
                .map(|found| found.len())
                .sum();
            if bytes <= HOST_BYTES_MAX || share == 1 {
                return Ok(());
            }
            share /= 2;
        }
    }

    /// Whether a snapshot tells what nothing else can, since the body before it was pruned.
    fn alone_tells(&self, host: &HostId, found: &Listed) -> bool {
        if found.for_ever {
            return true;
        }
        let before = || {
            let chain = self.chain(host)?;
            let next = match chain.at(found.batches).ok()? {
                Some(record) => record.span.first_event.0,
                None => chain.events(),
            };
            // The last batch with an event before it; heartbeats have no body that could be gone.
            let last = common::ids::EventIndex(next.checked_sub(1)?);
            chain.batch_of(last).ok()?
        };
        before().is_none_or(|span| {
            let body = self.entries.body(span.leaf);
            matches!(body, Err(EntryError { pruned: Some(_), .. }))
        })
    }

    pub(super) fn host_directory(&self, host: &HostId) -> Option<PathBuf> {
        Some(self.directory.as_ref()?.join("state").join(host.to_string()))
    }

    /// The snapshots on disk by batches folded, unread.
    fn listed(&self, host: &HostId) -> Vec<Listed> {
        let Some(entries) = self.host_directory(host).and_then(|dir| fs::read_dir(dir).ok()) else {
            return Vec::new();
        };
        let mut found: Vec<Listed> = entries
            .flatten()
            .filter_map(|entry| {
                let path = entry.path();
                let name = path.file_name()?.to_str()?.strip_suffix(".state")?;
                let (batches, rest) = name.split_once('-')?;
                Some(Listed {
                    batches: batches.parse().ok()?,
                    for_ever: rest.ends_with(".kept"),
                    path,
                })
            })
            .collect();
        found.sort();
        found
    }

    fn load(&self, host: &HostId, found: &Listed) -> Result<Option<State>, IndexError> {
        let Some(last) = found.batches.checked_sub(1) else {
            return Ok(None);
        };
        let Some(record) = self.records(host, last, found.batches)?.pop() else {
            return Ok(None);
        };
        let header = self.entries.header(record.span.leaf).ok();
        let name = header.map(|header| file_name(found.batches, &Hash::of(&header), found.for_ever));
        let named = found.path.file_name().and_then(|name| name.to_str());
        if named.is_none() || named != name.as_deref() {
            return Ok(None);
        }
        Ok(read(host, &found.path))
    }
}

fn read(host: &HostId, path: &Path) -> Option<State> {
    if fs::metadata(path).ok()?.len() > SNAPSHOT_BYTES_MAX {
        return None;
    }
    match State::decode(&fs::read(path).ok()?) {
        Ok(state) if state.host() == *host => Some(state),
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "state snapshot passed over; remove it");
            None
        }
    }
}

fn file_name(batches: usize, header: &Hash, for_ever: bool) -> String {
    let mark = if for_ever { ".kept" } else { "" };
    format!("{batches:012}-{}{mark}.state", header.short())
}
