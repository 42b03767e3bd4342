//! The independent verifier: reads the ledger's published files and the headers' bytes with its own code
//! (no Merkle tree, no parser and no chain rule of `common`) and holds them against what agents were told.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, VerifyingKey};
use ledger::{Memory, storage::Storage};
use sha2::{Digest, Sha256};

use crate::cosigned::Cosigned;

type Digest32 = [u8; 32];

/// Everything that was promised to anybody.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// (host, sequence) → header that left the host.
    sent: BTreeMap<(Digest32, u64), Vec<u8>>,
    /// Host → first sequence not acknowledged as stored.
    stored_before: BTreeMap<Digest32, u64>,
    /// Host → first sequence that the spool still has.
    trimmed_before: BTreeMap<Digest32, u64>,
    /// Segment deletions: (host, sequence, size of the checkpoint remembered then).
    deleted: Vec<(Digest32, u64, u64)>,
    /// Every checkpoint anybody saw: size → root.
    roots: BTreeMap<u64, Digest32>,
    /// What witnesses said of them, where they are asked and demanded.
    cosigned: Option<Cosigned>,
}

/// What a clean ledger held.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) leaves: u64,
    pub(crate) statements: u64,
    pub(crate) ratchets: u64,
    pub(crate) events: u64,
    pub(crate) acknowledged: u64,
    pub(crate) trimmed: u64,
    pub(crate) checkpoints: u64,
}

impl Oracle {
    pub(crate) fn new(cosigned: Option<Cosigned>) -> Self {
        Self {
            cosigned,
            ..Self::default()
        }
    }

    /// A batch was read to be sent.
    pub(crate) fn sent(&mut self, host: Digest32, header: &[u8]) -> Result<(), String> {
        let sequence = number(header, 112);
        match self.sent.get(&(host, sequence)) {
            Some(before) if before != header => {
                Err(format!("sequence {sequence} left its host with two contents"))
            }
            _ => {
                self.sent.insert((host, sequence), header.to_vec());
                Ok(())
            }
        }
    }

    pub(crate) fn stored(&mut self, host: Digest32, through: u64) {
        let before = self.stored_before.entry(host).or_default();
        *before = (*before).max(through + 1);
    }

    pub(crate) fn trimmed(&mut self, host: Digest32, before: u64) {
        self.trimmed_before.insert(host, before);
        if let Some(cosigned) = &mut self.cosigned {
            cosigned.trimmed(host, before);
        }
    }

    pub(crate) fn deleted(&mut self, host: Digest32, sequence: u64, remembered: &[u8]) -> Result<(), String> {
        let size = if remembered.is_empty() {
            0
        } else {
            parse_checkpoint(remembered)?.0
        };
        self.deleted.push((host, sequence, size));
        Ok(())
    }

    /// Anybody saw this checkpoint: no size may ever have two roots.
    pub(crate) fn checkpoint(&mut self, note: &[u8]) -> Result<(), String> {
        let (size, root, _) = parse_checkpoint(note)?;
        if let Some(cosigned) = &mut self.cosigned {
            cosigned.shown(note, size)?;
        }
        match self.roots.insert(size, root) {
            Some(before) if before != root => Err(format!("two roots for size {size}")),
            _ => Ok(()),
        }
    }

    /// A published checkpoint must be whole on the disk at any time, above all right after a crash.
    pub(crate) fn check_image(&mut self, storage: &Memory, key: &[u8; 32]) -> Result<(), String> {
        let Some(note) = read(storage, "log/checkpoint")? else {
            return Ok(());
        };
        check_signature(&note, key)?;
        let (size, root, _) = parse_checkpoint(&note)?;
        let leaves = read_entries(storage, size)?;
        if tree_root(&leaves.iter().map(|entry| leaf(entry)).collect::<Vec<_>>()) != root {
            return Err(format!("entry bundles do not give the root of size {size}"));
        }
        check_tiles(storage, &leaves)?;
        self.checkpoint(&note)
    }

    /// The end of a run: everything promised is in the ledger, once, in order.
    pub(crate) fn check_end(
        &mut self,
        storage: &Memory,
        key: &[u8; 32],
        body_of: impl Fn(u64) -> Result<Vec<u8>, String>,
    ) -> Result<Held, String> {
        self.check_image(storage, key)?;
        let note = read(storage, "log/checkpoint")?.ok_or("no checkpoint at the end")?;
        let (size, ..) = parse_checkpoint(&note)?;
        let entries = read_entries(storage, size)?;
        let hashes: Vec<Digest32> = entries.iter().map(|entry| leaf(entry)).collect();
        for (seen, root) in &self.roots {
            let prefix = usize::try_from(*seen).ok().and_then(|seen| hashes.get(..seen));
            if prefix.map(tree_root) != Some(*root) {
                return Err(format!(
                    "the checkpoint of size {seen} is no prefix of the ledger"
                ));
            }
        }
        let leaf_of = check_chains(&entries, key, &body_of)?;
        let mut held = Held {
            leaves: size,
            statements: leaf_of.statements,
            ratchets: leaf_of.ratchets,
            events: leaf_of.events,
            checkpoints: self.roots.len() as u64,
            ..Held::default()
        };
        for (promise, promised) in [
            ("acknowledged", &self.stored_before),
            ("trimmed", &self.trimmed_before),
        ] {
            for (host, before) in promised {
                for sequence in 0..*before {
                    let leaf = leaf_of.batches.get(&(*host, sequence));
                    let entry = leaf.and_then(|leaf| entries.get(usize::try_from(*leaf).unwrap()));
                    let sent = self.sent.get(&(*host, sequence));
                    if entry.is_none() || entry != sent {
                        return Err(format!(
                            "batch {sequence} was {promise} and is not in the ledger as sent (sent: {}, there: {})",
                            sent.is_some(),
                            entry.is_some()
                        ));
                    }
                }
                match promise {
                    "acknowledged" => held.acknowledged += before,
                    _ => held.trimmed += before,
                }
            }
        }
        for (host, sequence, remembered) in &self.deleted {
            match leaf_of.batches.get(&(*host, *sequence)) {
                Some(leaf) if leaf < remembered => {}
                _ => {
                    return Err(format!(
                        "batch {sequence} was deleted while the remembered checkpoint of size {remembered} did not prove it"
                    ));
                }
            }
        }
        if let Some(cosigned) = &self.cosigned {
            cosigned.check(&leaf_of.batches)?;
        }
        Ok(held)
    }
}

struct Chains {
    batches: BTreeMap<(Digest32, u64), u64>,
    events: u64,
    statements: u64,
    ratchets: u64,
}

struct ChainState {
    next: u64,
    next_event: u64,
    previous: Digest32,
    epoch: u64,
    key: Digest32,
    announced: Digest32,
    until: u64,
    boot: Vec<u8>,
}

/// Walks the entries as an outsider would: signatures, gapless sequences and events, hashes, bodies.
fn check_chains(
    entries: &[Vec<u8>],
    ledger_key: &Digest32,
    body_of: &impl Fn(u64) -> Result<Vec<u8>, String>,
) -> Result<Chains, String> {
    let mut chains = BTreeMap::new();
    let mut out = Chains {
        batches: BTreeMap::new(),
        events: 0,
        statements: 0,
        ratchets: 0,
    };
    let mut stated = [0; 32];
    let mut events_seen = BTreeSet::new();
    for (leaf, header) in entries.iter().enumerate() {
        let at = |what: &str| format!("leaf {leaf}: {what}");
        if &header[..4] == b"HLST" {
            if number(header, 8) != out.statements || array(header, 32) != stated {
                return Err(at("statements are not gapless"));
            }
            if array(header, 64) != *ledger_key || !body_of(leaf as u64)?.is_empty() {
                return Err(at("not a statement of this ledger's key"));
            }
            check_signed(b"hostledger/statement/v1\n", header, ledger_key).map_err(at)?;
            out.statements += 1;
            stated = sha(&[header]);
            continue;
        }
        let host = array(header, 8);
        let key = array(header, 48);
        let state = chains.entry(host).or_insert_with(|| ChainState {
            next: 0,
            next_event: 0,
            previous: [0; 32],
            epoch: 0,
            key,
            announced: array(header, 80),
            until: 0,
            boot: Vec::new(),
        });
        let (epoch, next_key) = (number(header, 40), array(header, 80));
        if &header[..4] != b"HLBH" || next_key == [0; 32] || next_key == key {
            return Err(at("not a header, or one that announces no key"));
        }
        let of_host = state.next > 0 || sha(&[b"hostledger/host-id/v1\n", &key]) == host;
        let succeeds = match epoch.checked_sub(state.epoch) {
            Some(0) => key == state.key && next_key == state.announced,
            Some(1) => key == state.announced && state.next > 0,
            _ => false,
        };
        if !of_host || !succeeds {
            return Err(at("not this host's key"));
        }
        out.ratchets += epoch - state.epoch;
        if number(header, 112) != state.next {
            return Err(at("sequence is not gapless"));
        }
        if number(header, 120) != state.next_event {
            return Err(at("events are not gapless"));
        }
        if array(header, 136) != state.previous {
            return Err(at("previous hash does not fit"));
        }
        check_signed(b"hostledger/batch-header/v1\n", header, &key).map_err(at)?;
        let first_of_run = header[7] & 1 != 0;
        let (from, until) = (number(header, 248), number(header, 256));
        if !first_of_run && (from != state.until || header[232..248] != state.boot) {
            return Err(at("the watch is not continuous within a run"));
        }
        let count = check_body(header, &body_of(leaf as u64)?, &mut events_seen).map_err(|what| at(&what))?;
        out.batches.insert((host, state.next), leaf as u64);
        out.events += count;
        *state = ChainState {
            next: state.next + 1,
            next_event: state.next_event + count,
            previous: sha(&[header]),
            epoch,
            key,
            announced: next_key,
            until,
            boot: header[232..248].to_vec(),
        };
    }
    Ok(out)
}

/// The last 64 bytes are a signature over the prefix and all bytes before them.
fn check_signed(prefix: &[u8], entry: &[u8], key: &Digest32) -> Result<(), &'static str> {
    let (signed, signature) = entry.split_at(entry.len() - 64);
    VerifyingKey::from_bytes(key)
        .and_then(|key| {
            key.verify_strict(
                &[prefix, signed].concat(),
                &Signature::from_slice(signature).unwrap(),
            )
        })
        .map_err(|_| "signature does not fit")
}

/// The body is the one signed, and no event was seen before.
fn check_body(header: &[u8], body: &[u8], seen: &mut BTreeSet<Vec<u8>>) -> Result<u64, String> {
    let count = u32_at(header, 128);
    if body.len() != u32_at(header, 132) || u32_at(body, 0) != count {
        return Err("body of another length or count".into());
    }
    let mut at = 4 + 12 * count;
    let mut leaves = Vec::new();
    for index in 0..count {
        let length = u32_at(body, 4 + 4 * index);
        let event = body.get(at..at + length).ok_or("body cut short")?;
        // Batches are of different hosts and boots, so that the same bytes never occur twice by right.
        if !seen.insert([&header[8..40], event].concat()) {
            return Err("an event stands in the ledger twice".into());
        }
        leaves.push(leaf(event));
        at += length;
    }
    if at != body.len() || tree_root(&leaves) != array(header, 168) {
        return Err("body does not give the signed root".into());
    }
    Ok(count as u64)
}

/// The level-0 tiles must hold the entries' hashes.
fn check_tiles(storage: &Memory, entries: &[Vec<u8>]) -> Result<(), String> {
    for (tile, chunk) in entries.chunks(256).enumerate() {
        let bytes = read_tile(storage, "log/tile/0", tile, chunk.len(), entries.len())?;
        let expected: Vec<u8> = chunk.iter().flat_map(|entry| leaf(entry)).collect();
        if bytes.get(..expected.len()) != Some(expected.as_slice()) {
            return Err(format!("hash tile {tile} does not hold the entries' hashes"));
        }
    }
    Ok(())
}

/// Entries of the bundles (C2SP tlog-tiles), in order.
fn read_entries(storage: &Memory, size: u64) -> Result<Vec<Vec<u8>>, String> {
    let size = usize::try_from(size).unwrap();
    let mut entries = Vec::new();
    for tile in 0..size.div_ceil(256) {
        let width = (size - tile * 256).min(256);
        let bundle = read_tile(storage, "log/tile/entries", tile, width, size)?;
        let mut rest = bundle.as_slice();
        for _ in 0..width {
            let (length, tail) = rest.split_first_chunk::<2>().ok_or("entry bundle cut short")?;
            let length = usize::from(u16::from_be_bytes(*length));
            let (entry, tail) = tail.split_at_checked(length).ok_or("entry cut short")?;
            entries.push(entry.to_vec());
            rest = tail;
        }
    }
    Ok(entries)
}

fn read_tile(
    storage: &Memory,
    below: &str,
    tile: usize,
    width: usize,
    size: usize,
) -> Result<Vec<u8>, String> {
    assert!(tile < 1000, "simulated ledgers are small");
    let path = if width == 256 {
        format!("{below}/{tile:03}")
    } else {
        format!("{below}/{tile:03}.p/{width}")
    };
    read(storage, &path)?.ok_or_else(|| format!("{path} is missing under a checkpoint of {size} leaves"))
}

fn read(storage: &Memory, path: &str) -> Result<Option<Vec<u8>>, String> {
    storage.read(path, 1 << 30).map_err(|error| error.to_string())
}

/// Size, root and the text that is signed.
fn parse_checkpoint(note: &[u8]) -> Result<(u64, Digest32, String), String> {
    let text = std::str::from_utf8(note).map_err(|_| "checkpoint is not UTF-8")?;
    let (body, _) = text.split_once("\n\n").ok_or("checkpoint without signatures")?;
    let mut lines = body.split('\n').skip(1);
    let size = lines.next().and_then(|line| line.parse().ok()).ok_or("no size")?;
    let root = lines
        .next()
        .and_then(|line| STANDARD.decode(line).ok())
        .ok_or("no root")?;
    Ok((
        size,
        root.try_into().map_err(|_| "root of wrong length")?,
        format!("{body}\n"),
    ))
}

fn check_signature(note: &[u8], key: &[u8; 32]) -> Result<(), String> {
    let (.., body) = parse_checkpoint(note)?;
    let text = std::str::from_utf8(note).map_err(|_| "not UTF-8")?;
    // The ledger's own comes first.
    let (_, signatures) = text.split_once("\n\n").ok_or("no signature")?;
    let line = signatures.lines().next().ok_or("no signature")?;
    let blob = line
        .rsplit(' ')
        .next()
        .and_then(|blob| STANDARD.decode(blob).ok())
        .ok_or("bad signature")?;
    let signature = Signature::from_slice(&blob[4..]).map_err(|_| "bad signature")?;
    VerifyingKey::from_bytes(key)
        .and_then(|key| key.verify_strict(body.as_bytes(), &signature))
        .map_err(|_| "the checkpoint's signature does not fit".into())
}

fn tree_root(leaves: &[Digest32]) -> Digest32 {
    match leaves {
        [] => sha(&[]),
        [one] => *one,
        _ => {
            let mut left = 1;
            while left * 2 < leaves.len() {
                left *= 2;
            }
            sha(&[&[1], &tree_root(&leaves[..left]), &tree_root(&leaves[left..])])
        }
    }
}

fn leaf(entry: &[u8]) -> Digest32 {
    sha(&[&[0], entry])
}

fn sha(parts: &[&[u8]]) -> Digest32 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

fn array(bytes: &[u8], at: usize) -> Digest32 {
    bytes[at..at + 32].try_into().unwrap()
}
