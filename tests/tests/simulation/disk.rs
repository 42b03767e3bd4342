//! An agent's disk: what a running process sees and what a power cut leaves, apart.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use common::spool::{DiskFault, HEAD_FILE_BYTES, SegmentId, SpoolEffect};

use crate::rng::Rng;

/// A power cut keeps or loses a file's unsynced bytes in these units.
const SECTOR: usize = 512;

#[derive(Debug, Clone, Default)]
struct File {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that were written since, and that the system knows it has yet to write. One may be on the disk in another
    /// form and not be in here: its write failed, and the system takes it for done.
    dirty: BTreeSet<usize>,
}

impl File {
    fn durable(bytes: Vec<u8>) -> Self {
        Self {
            live: bytes.clone(),
            durable: bytes,
            dirty: BTreeSet::new(),
        }
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let from = usize::try_from(offset).unwrap();
        let end = from + bytes.len();
        if self.live.len() < end {
            self.live.resize(end, 0);
        }
        self.live[from..end].copy_from_slice(bytes);
        self.dirty.extend(from / SECTOR..end.div_ceil(SECTOR));
    }

    fn truncate(&mut self, length: usize) {
        self.live.truncate(length);
        self.durable.truncate(length);
        self.dirty.retain(|sector| sector * SECTOR < length);
    }

    fn sync(&mut self) {
        let length = self.live.len();
        for sector in std::mem::take(&mut self.dirty) {
            self.keep(sector, length);
        }
    }

    /// The disk refuses to write: some sectors got there, and the system calls all of them written.
    fn fail_sync(&mut self, rng: &mut Rng) {
        let length = self.live.len();
        for sector in std::mem::take(&mut self.dirty) {
            if rng.chance(30) {
                self.keep(sector, length);
            }
        }
    }

    /// Each sector that was not written yet survives or not, the last one perhaps in part.
    fn power_cut(&mut self, rng: &mut Rng) {
        let length = self.durable.len();
        let length = length + rng.index(self.live.len().saturating_sub(length) + 1);
        for sector in std::mem::take(&mut self.dirty) {
            if rng.chance(50) {
                self.keep(sector, length);
            }
        }
        self.live.clone_from(&self.durable);
    }

    /// Puts a sector on the disk, as far as the file is long there.
    fn keep(&mut self, sector: usize, length: usize) {
        let from = sector * SECTOR;
        let end = (from + SECTOR).min(length);
        if from < end {
            self.durable.resize(self.durable.len().max(end), 0);
            self.durable[from..end].copy_from_slice(&self.live[from..end]);
        }
    }
}

/// Segments, head file and remembered checkpoint of one agent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    segments: BTreeMap<SegmentId, File>,
    /// Deleted and not certain to be so: a power cut may bring them back.
    deleted: BTreeMap<SegmentId, File>,
    head: Option<File>,
    checkpoint: Vec<u8>,
    pub(crate) full: bool,
}

impl Disk {
    pub(crate) fn head(&self) -> Option<&[u8]> {
        self.head.as_ref().map(|file| file.live.as_slice())
    }

    pub(crate) fn checkpoint(&self) -> &[u8] {
        &self.checkpoint
    }

    pub(crate) fn segments(&self) -> impl Iterator<Item = (SegmentId, &[u8])> {
        self.segments.iter().map(|(id, file)| (*id, file.live.as_slice()))
    }

    /// An agent starts: what it is about to read of its segments is synced, and so are their names.
    pub(crate) fn sync_segments(&mut self) {
        self.deleted.clear();
        for file in self.segments.values_mut() {
            file.sync();
        }
    }

    /// Writes a stretch of the last segment as it was read, and syncs it.
    pub(crate) fn write_again(&mut self, stretch: Range<u64>) {
        if let Some(mut last) = self.segments.last_entry() {
            let file = last.get_mut();
            let bytes = file.live
                [usize::try_from(stretch.start).unwrap()..usize::try_from(stretch.end).unwrap()]
                .to_vec();
            file.write(stretch.start, &bytes);
            file.sync();
        }
    }

    pub(crate) fn read(&self, segment: SegmentId, offset: u64, length: u32) -> Option<&[u8]> {
        let from = usize::try_from(offset).ok()?;
        self.segments
            .get(&segment)?
            .live
            .get(from..from + usize::try_from(length).ok()?)
    }

    /// Replaces the checkpoint; the rename is synced.
    pub(crate) fn remember(&mut self, note: Vec<u8>) {
        self.checkpoint = note;
    }

    /// Carries out an effect.
    pub(crate) fn execute(&mut self, effect: &SpoolEffect, rng: &mut Rng) -> Result<(), DiskFault> {
        if self.full {
            match effect {
                SpoolEffect::Create { .. } => return Err(DiskFault::NoSpace),
                SpoolEffect::Write { .. } => {
                    self.apply_part(effect, rng);
                    return Err(DiskFault::NoSpace);
                }
                SpoolEffect::WriteHead { .. } if self.head.is_none() => return Err(DiskFault::NoSpace),
                _ => {}
            }
        }
        self.apply(effect);
        Ok(())
    }

    fn apply(&mut self, effect: &SpoolEffect) {
        match effect {
            SpoolEffect::Create { segment, bytes } => {
                self.segments.insert(*segment, File::durable(bytes.clone()));
            }
            SpoolEffect::Write {
                segment,
                offset,
                bytes,
            } => {
                if let Some(file) = self.segments.get_mut(segment) {
                    file.write(*offset, bytes);
                }
            }
            SpoolEffect::Sync { segment } => {
                if let Some(file) = self.segments.get_mut(segment) {
                    file.sync();
                }
            }
            SpoolEffect::Truncate { segment, length } => {
                if let Some(file) = self.segments.get_mut(segment) {
                    file.truncate(usize::try_from(*length).unwrap());
                    file.sync();
                }
            }
            SpoolEffect::Delete { segment } | SpoolEffect::SetAside { segment } => {
                if let Some(file) = self.segments.remove(segment) {
                    self.deleted.insert(*segment, file);
                }
            }
            SpoolEffect::WriteHead { offset, bytes, sync } => {
                let file = self
                    .head
                    .get_or_insert_with(|| File::durable(vec![0; HEAD_FILE_BYTES]));
                file.write(*offset, bytes);
                if *sync {
                    file.sync();
                }
            }
        }
    }

    /// The process died, or space ran out, while the effect was under way.
    pub(crate) fn apply_part(&mut self, effect: &SpoolEffect, rng: &mut Rng) {
        match effect {
            SpoolEffect::Create { segment, bytes } => {
                let mut file = File::default();
                file.write(0, &bytes[..rng.index(bytes.len() + 1)]);
                if rng.chance(70) {
                    self.segments.insert(*segment, file);
                }
            }
            SpoolEffect::Write {
                segment,
                offset,
                bytes,
            } => {
                if let Some(file) = self.segments.get_mut(segment) {
                    file.write(*offset, &bytes[..rng.index(bytes.len() + 1)]);
                }
            }
            SpoolEffect::WriteHead { offset, bytes, .. } => {
                if let Some(file) = &mut self.head {
                    file.write(*offset, &bytes[..rng.index(bytes.len() + 1)]);
                }
            }
            _ if rng.chance(50) => self.apply(effect),
            _ => {}
        }
    }

    /// The effect fails: it is done in part, and of the file the system takes for written what it could not write.
    pub(crate) fn fail(&mut self, effect: &SpoolEffect, rng: &mut Rng) {
        self.apply_part(effect, rng);
        let file = match effect {
            SpoolEffect::Create { segment, .. }
            | SpoolEffect::Write { segment, .. }
            | SpoolEffect::Sync { segment }
            | SpoolEffect::Truncate { segment, .. } => self.segments.get_mut(segment),
            SpoolEffect::WriteHead { .. } => self.head.as_mut(),
            SpoolEffect::Delete { .. } | SpoolEffect::SetAside { .. } => None,
        };
        if let Some(file) = file {
            file.fail_sync(rng);
        }
    }

    /// The machine loses power: each unsynced sector survives or not.
    pub(crate) fn power_cut(&mut self, rng: &mut Rng) {
        for (id, file) in std::mem::take(&mut self.deleted) {
            if rng.chance(30) {
                self.segments.entry(id).or_insert(file);
            }
        }
        for file in self.segments.values_mut().chain(self.head.as_mut()) {
            file.power_cut(rng);
        }
    }
}
