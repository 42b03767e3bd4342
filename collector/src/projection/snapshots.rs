//! State snapshots on disk: `<directory>/<host>/<batches folded>-<header hash>.state`.
//!
//! The name binds a snapshot to the history it was folded from, its own root to its bytes. Whatever does not
//! fit is passed over as if it were not there: the directory may be thrown away at any time.

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{
    answer::Span,
    fold::State,
    ids::{EventIndex, Hash, HostId, WallNanos},
};

use super::{Cut, Projection, StateError};

/// Longest snapshot read, bytes.
const SNAPSHOT_BYTES_MAX: u64 = 1 << 30;

impl Projection {
    /// The nearest snapshot that holds nothing after the cut, and how many batches it stands for; the empty
    /// state where there is none.
    pub(super) fn snapshot_before(&self, host: &HostId, cut: &Cut) -> (usize, State) {
        let usable = self.listed(host).into_iter().rev().find_map(|(batches, path)| {
            let fits =
                batches < cut.end && self.chain(host, |chain| chain.all_before(batches, cut)) == Some(true);
            if !fits {
                return None;
            }
            self.load(host, batches, &path).map(|state| (batches, state))
        });
        usable.unwrap_or_else(|| (0, State::new(*host)))
    }

    /// Takes one snapshot more of the host that has gone furthest without; `false` where none has gone far.
    ///
    /// # Errors
    /// The events in between cannot be read or folded.
    pub fn snapshot_step(&self) -> Result<bool, StateError> {
        if self.directory.is_none() {
            return Ok(false);
        }
        let behind = |host: HostId| {
            let batches = self.listed(&host).pop().map_or(0, |(batches, _)| batches);
            let (from, events) = self.chain(&host, |chain| (chain.events_before(batches), chain.events()))?;
            Some((events.saturating_sub(from), from, host))
        };
        let furthest = self.hosts().into_iter().filter_map(behind).max();
        let far = furthest.filter(|(lag, ..)| *lag >= self.snapshot_events.saturating_mul(2));
        let Some((_, from, host)) = far else {
            return Ok(false);
        };
        // The batch after the one that fills the snapshot decides: a snapshot is taken before it.
        let wanted = EventIndex(from.saturating_add(self.snapshot_events));
        let found = self.chain(&host, |chain| {
            let decides = chain.batch_from(wanted)?;
            Some((chain.cut(decides.until_wall), decides))
        });
        match found.flatten() {
            Some((cut, decides)) => self.state_at(&host, &cut, &decides).map(|_| true),
            None => Ok(false),
        }
    }

    /// Keeps a snapshot; failing to is no fault of the answer, only slower next time.
    pub(super) fn save_snapshot(&self, state: &State, batches: usize, last: &Span) {
        let Some(directory) = self.host_directory(&state.host()) else {
            return;
        };
        let Ok(header) = self.entries.header(last.leaf) else {
            return;
        };
        let (bytes, _) = state.encode();
        let name = file_name(batches, &Hash::of(&header));
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

    /// Folds a host's first `batches` batches and keeps their state, so that it can be told when their bodies are
    /// gone; `false` where the disk would not keep it.
    ///
    /// # Errors
    /// They cannot be read or folded.
    pub fn keep_state(&self, host: &HostId, batches: usize) -> Result<bool, StateError> {
        let kept = || self.listed(host).iter().any(|(found, _)| *found == batches);
        let Some(last) = batches
            .checked_sub(1)
            .and_then(|at| self.records(host, at, batches).pop())
        else {
            return Ok(true);
        };
        if kept() {
            return Ok(true);
        }
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
        self.save_snapshot(&state, batches, &last.span);
        if let Some(directory) = self.host_directory(host).filter(|_| kept()) {
            return Ok(fs::File::open(directory).and_then(|at| at.sync_all()).is_ok());
        }
        Ok(false)
    }

    fn host_directory(&self, host: &HostId) -> Option<PathBuf> {
        Some(self.directory.as_ref()?.join("state").join(host.to_string()))
    }

    /// The snapshots on disk by batches folded, unread.
    fn listed(&self, host: &HostId) -> Vec<(usize, PathBuf)> {
        let Some(entries) = self.host_directory(host).and_then(|dir| fs::read_dir(dir).ok()) else {
            return Vec::new();
        };
        let mut found: Vec<(usize, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| {
                let path = entry.path();
                let (batches, _) = path
                    .file_name()?
                    .to_str()?
                    .strip_suffix(".state")?
                    .split_once('-')?;
                Some((batches.parse().ok()?, path))
            })
            .collect();
        found.sort();
        found
    }

    fn load(&self, host: &HostId, batches: usize, path: &Path) -> Option<State> {
        let record = self.records(host, batches.checked_sub(1)?, batches).pop()?;
        let header = self.entries.header(record.span.leaf).ok()?;
        if path.file_name()?.to_str()? != file_name(batches, &Hash::of(&header)) {
            return None;
        }
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
}

fn file_name(batches: usize, header: &Hash) -> String {
    format!("{batches:012}-{}.state", header.short())
}
