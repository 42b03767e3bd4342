//! An agent's disk: what a running process sees and what a power cut leaves, apart.

use std::collections::BTreeMap;

use common::spool::{DiskFault, HEAD_FILE_BYTES, SegmentId, SpoolEffect};

use crate::rng::Rng;

/// A power cut keeps or loses a file's unsynced bytes in these units.
const SECTOR: usize = 512;

#[derive(Debug, Clone, Default)]
struct File {
    live: Vec<u8>,
    durable: Vec<u8>,
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

    /// An agent starts: what it is about to read of its segments becomes durable, and so do their names.
    pub(crate) fn sync_segments(&mut self) {
        self.deleted.clear();
        for file in self.segments.values_mut() {
            file.durable.clone_from(&file.live);
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
                let file = File {
                    live: bytes.clone(),
                    durable: bytes.clone(),
                };
                self.segments.insert(*segment, file);
            }
            SpoolEffect::Write {
                segment,
                offset,
                bytes,
            } => {
                if let Some(file) = self.segments.get_mut(segment) {
                    put(&mut file.live, *offset, bytes);
                }
            }
            SpoolEffect::Sync { segment } => {
                if let Some(file) = self.segments.get_mut(segment) {
                    file.durable.clone_from(&file.live);
                }
            }
            SpoolEffect::Truncate { segment, length } => {
                if let Some(file) = self.segments.get_mut(segment) {
                    file.live.truncate(usize::try_from(*length).unwrap());
                    file.durable.clone_from(&file.live);
                }
            }
            SpoolEffect::Delete { segment } | SpoolEffect::SetAside { segment } => {
                if let Some(file) = self.segments.remove(segment) {
                    self.deleted.insert(*segment, file);
                }
            }
            SpoolEffect::SyncHead => {
                if let Some(file) = &mut self.head {
                    file.durable.clone_from(&file.live);
                }
            }
            SpoolEffect::WriteHead { offset, bytes, sync } => {
                let file = self.head.get_or_insert_with(|| File {
                    live: vec![0; HEAD_FILE_BYTES],
                    durable: vec![0; HEAD_FILE_BYTES],
                });
                put(&mut file.live, *offset, bytes);
                if *sync {
                    file.durable.clone_from(&file.live);
                }
            }
        }
    }

    /// The process died, or space ran out, while the effect was under way.
    pub(crate) fn apply_part(&mut self, effect: &SpoolEffect, rng: &mut Rng) {
        match effect {
            SpoolEffect::Create { segment, bytes } => {
                let part = bytes[..rng.index(bytes.len() + 1)].to_vec();
                let file = File {
                    live: part,
                    durable: Vec::new(),
                };
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
                    put(&mut file.live, *offset, &bytes[..rng.index(bytes.len() + 1)]);
                }
            }
            SpoolEffect::WriteHead { offset, bytes, .. } => {
                if let Some(file) = &mut self.head {
                    put(&mut file.live, *offset, &bytes[..rng.index(bytes.len() + 1)]);
                }
            }
            _ if rng.chance(50) => self.apply(effect),
            _ => {}
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
            tear(file, rng);
        }
    }
}

fn put(file: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let from = usize::try_from(offset).unwrap();
    if file.len() < from + bytes.len() {
        file.resize(from + bytes.len(), 0);
    }
    file[from..from + bytes.len()].copy_from_slice(bytes);
}

fn tear(file: &mut File, rng: &mut Rng) {
    if file.live == file.durable {
        return;
    }
    let longest = file.live.len().max(file.durable.len());
    let shortest = file.live.len().min(file.durable.len());
    let mut left = file.durable.clone();
    left.resize(shortest + rng.index(longest - shortest + 1), 0);
    for at in (0..left.len()).step_by(SECTOR) {
        let end = (at + SECTOR).min(left.len());
        if rng.chance(50) && end <= file.live.len() {
            left[at..end].copy_from_slice(&file.live[at..end]);
        }
    }
    file.live.clone_from(&left);
    file.durable = left;
}
