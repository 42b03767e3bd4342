//! Making audit bundles: which headers, events, statements and hashes answer a question.
//!
//! What `hostledger audit export` and the collector's API share. Reads through [`Reader`], so the disk is not
//! believed, and checks the bundle before it leaves. Bytes: `docs/format/bundle.md`; the judgement is
//! [`common::bundle::check`]'s. Refuses to resolve names.

use std::collections::{BTreeMap, BTreeSet};

use common::{
    batch::{BadHeader, BodyFault, HeaderFields, SignedHeader, UnverifiedHeader},
    bundle::{
        self, BUNDLE_BYTES_MAX, BadBundle, BatchPart, Bundle, BundleFault, Contents, HostPart, Report,
        Selection, StatementPart,
    },
    event::Envelope,
    ids::{EventIndex, Hash, HostId, KeyEpoch, LeafIndex, Sequence},
    ledger_keys::LedgerKeys,
    merkle::multi_proof,
    statement::{BadStatement, Said, UnverifiedStatement},
};

use crate::reader::{Published, ReadError, Reader};

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The ledger cannot be read. The disk.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A stored header is none. The disk, or whoever altered it.
    #[error("header at leaf {leaf}: {cause}; run `hostledger verify`")]
    Header {
        /// Where.
        leaf: LeafIndex,
        /// What is wrong.
        cause: BadHeader,
    },
    /// A stored body is not its header's.
    #[error("body at leaf {leaf}: {cause}; run `hostledger verify`")]
    Body {
        /// Where.
        leaf: LeafIndex,
        /// What is wrong.
        cause: BodyFault,
    },
    /// A stored statement is none.
    #[error("statement at leaf {leaf}: {cause}; run `hostledger verify`")]
    Statement {
        /// Where.
        leaf: LeafIndex,
        /// What is wrong.
        cause: BadStatement,
    },
    /// The index names no leaf for a batch that must be there.
    #[error("batch {sequence} of host {host} is missing; run `hostledger verify`")]
    Missing {
        /// Whose.
        host: HostId,
        /// Which.
        sequence: Sequence,
    },
    /// An event that is not in the ledger. The caller.
    #[error("host {host} has no event {index} under the ledger's checkpoint")]
    NoSuchEvent {
        /// The host.
        host: HostId,
        /// The event.
        index: EventIndex,
    },
    /// More than fits. The caller: ask for less.
    #[error(
        "the answer is longer than {bytes_max} bytes: ask for a shorter interval, fewer hosts or one entity"
    )]
    TooMuch {
        /// What fits.
        bytes_max: usize,
    },
    /// It cannot be written down.
    #[error("the answer makes no bundle: {0}")]
    Bundle(#[from] BadBundle),
    /// What was read does not hold: the ledger was altered.
    #[error("the ledger does not prove its own answer: {0}; run `hostledger verify`")]
    Unproven(#[from] Box<BundleFault>),
}

/// The bundle that answers `selection`, of at most `bytes_max` bytes, with what it proves.
///
/// Reads every header of the hosts asked for, once, since only that tells which batches watched an interval by a
/// clock that may have been set back.
///
/// # Errors
/// [`ExportError`]; no bundle leaves that its own ledger's key does not verify.
pub fn export(
    reader: &Reader,
    selection: &Selection,
    bytes_max: usize,
) -> Result<(Vec<u8>, Report), ExportError> {
    let bytes_max = bytes_max.min(BUNDLE_BYTES_MAX);
    let mut export = Export {
        reader,
        selection,
        head: reader.published(),
        bytes_left: bytes_max,
        bytes_max,
    };
    let mut hosts = Vec::new();
    match selection {
        Selection::Interval { hosts: asked, .. } => {
            let all = if asked.is_empty() {
                reader.hosts()
            } else {
                asked.clone()
            };
            for host in all {
                hosts.extend(export.interval(host)?);
            }
        }
        Selection::Events(events) => {
            let mut by_host: BTreeMap<HostId, Vec<EventIndex>> = BTreeMap::new();
            for (host, index) in events {
                by_host.entry(*host).or_default().push(*index);
            }
            for (host, events) in by_host {
                hosts.push(export.named(host, &events)?);
            }
        }
    }
    let concerned: BTreeSet<HostId> = match selection {
        Selection::Interval { hosts: asked, .. } => asked
            .iter()
            .copied()
            .chain(hosts.iter().map(|part| part.host))
            .collect(),
        Selection::Events(_) => hosts.iter().map(|part| part.host).collect(),
    };
    let leaves: Vec<LeafIndex> = hosts
        .iter()
        .flat_map(|part| part.batches.iter().map(|batch| batch.leaf))
        .collect();
    let statements = export.statements(&concerned, &leaves)?;
    let stated = statements.iter().map(|part| part.leaf);
    let mut leaves: Vec<u64> = leaves.into_iter().chain(stated).map(|leaf| leaf.0).collect();
    leaves.sort_unstable();
    let bundle = Bundle {
        verifier_key: reader.keys().first().to_string(),
        ledger_keys: changed(reader.keys()),
        checkpoint: export.head.note.to_vec(),
        selection: selection.clone(),
        path: reader.multi_proof(&leaves, &export.head)?,
        hosts,
        statements,
    };
    let bytes = bundle.encode()?;
    if bytes.len() > bytes_max {
        return Err(ExportError::TooMuch { bytes_max });
    }
    let report = bundle::check(&bytes, reader.keys(), None).map_err(Box::new)?;
    Ok((bytes, report))
}

/// The history of the ledger's keys where there is more to it than the first key.
fn changed(keys: &LedgerKeys) -> Vec<u8> {
    if keys.changes().is_empty() {
        Vec::new()
    } else {
        keys.encode()
    }
}

/// One header of a chain, and where it lies.
struct Found {
    leaf: LeafIndex,
    header: UnverifiedHeader,
}

impl Found {
    fn fields(&self) -> &HeaderFields {
        self.header.claimed()
    }
}

struct Export<'a> {
    reader: &'a Reader,
    selection: &'a Selection,
    head: Published,
    bytes_left: usize,
    bytes_max: usize,
}

impl Export<'_> {
    /// Batches of a host from the one before the interval to the one behind it; `None` where it has none.
    fn interval(&mut self, host: HostId) -> Result<Option<HostPart>, ExportError> {
        let Selection::Interval {
            since, until, entity, ..
        } = self.selection
        else {
            return Ok(None);
        };
        let Some(last) = self.last(host)? else {
            return Ok(None);
        };
        let (mut within, mut before): (Option<(u64, u64)>, u64) = (None, 0);
        for sequence in 0..=last {
            let found = self.find(host, sequence)?;
            let fields = found.fields();
            if fields.from_wall <= *until && fields.until_wall >= *since {
                within = Some((within.map_or(sequence, |(first, _)| first), sequence));
            } else if fields.until_wall < *since {
                before = sequence;
            }
        }
        // Where nothing watched, the batches around the gap show it.
        let (begin, end) = within.map_or((before, before + 1), |(first, end)| {
            (first.saturating_sub(1), end + 1)
        });
        let mut batches = Vec::new();
        for sequence in begin..=end.min(last) {
            let found = self.find(host, sequence)?;
            let contents = match (entity, found.fields().until_wall < *since) {
                (_, true) => Contents::Header,
                (None, false) => self.body(&found)?.map_or(Contents::Gone, Contents::Body),
                (Some(entity), false) => self.choose(&found, |_, event| {
                    Envelope::parse(event)
                        .is_ok_and(|envelope| envelope.kind == entity.kind && envelope.key == entity.key)
                })?,
            };
            batches.push(self.part(&found, contents)?);
        }
        self.host(host, begin, batches).map(Some)
    }

    /// Batches of a host from the one that holds the first of `events` to the one that holds the last.
    fn named(&mut self, host: HostId, events: &[EventIndex]) -> Result<HostPart, ExportError> {
        let last = self.last(host)?;
        let mut holding: BTreeSet<u64> = BTreeSet::new();
        for index in events {
            let none = ExportError::NoSuchEvent { host, index: *index };
            let Some(last) = last else { return Err(none) };
            let end = |found: &Found| {
                found
                    .fields()
                    .first_event
                    .0
                    .saturating_add(u64::from(found.fields().event_count))
            };
            let sequence = self.first_where(host, last + 1, |found| end(found) > index.0)?;
            if sequence > last {
                return Err(none);
            }
            holding.insert(sequence);
        }
        let (begin, end) = (
            holding.first().copied().unwrap_or(0),
            holding.last().copied().unwrap_or(0),
        );
        let mut batches = Vec::new();
        for sequence in begin..=end {
            let found = self.find(host, sequence)?;
            let contents = if holding.contains(&sequence) {
                self.choose(&found, |index, _| {
                    events.binary_search(&EventIndex(index)).is_ok()
                })?
            } else {
                Contents::Header
            };
            batches.push(self.part(&found, contents)?);
        }
        self.host(host, begin, batches)
    }

    /// The part of a host whose batches begin with `begin`, with the last header of each key epoch before.
    fn host(&mut self, host: HostId, begin: u64, batches: Vec<BatchPart>) -> Result<HostPart, ExportError> {
        let epochs = self.find(host, begin)?.fields().key_epoch.0;
        let mut key_history = Vec::new();
        for epoch in 0..epochs {
            let next = self.first_where(host, begin, |found| found.fields().key_epoch > KeyEpoch(epoch))?;
            let found = self.find(host, next.saturating_sub(1))?;
            self.spend(found.header.bytes().len())?;
            key_history.push(found.header.bytes().to_vec());
        }
        Ok(HostPart {
            host,
            key_history,
            batches,
        })
    }

    fn part(&mut self, found: &Found, contents: Contents) -> Result<BatchPart, ExportError> {
        let header = found.header.bytes().to_vec();
        let body = match &contents {
            Contents::Body(body) => body.len(),
            Contents::Events { events, path } => {
                path.len() * 32 + events.iter().map(|(_, event)| event.len() + 8).sum::<usize>()
            }
            Contents::Header | Contents::Gone => 0,
        };
        self.spend(header.len() + body)?;
        Ok(BatchPart {
            leaf: found.leaf,
            header,
            contents,
        })
    }

    fn spend(&mut self, bytes: usize) -> Result<(), ExportError> {
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or(ExportError::TooMuch {
            bytes_max: self.bytes_max,
        })?;
        Ok(())
    }

    /// A batch's body; `None` where it was pruned, as a certificate says that goes into the bundle as well.
    fn body(&self, found: &Found) -> Result<Option<Vec<u8>>, ExportError> {
        match self.reader.body(found.leaf) {
            Ok(body) => Ok(Some(body)),
            Err(ReadError::Pruned { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The events of a batch that are `wanted`, by their index in the chain, with their proof.
    fn choose(&self, found: &Found, wanted: impl Fn(u64, &[u8]) -> bool) -> Result<Contents, ExportError> {
        let leaf = found.leaf;
        let signed = SignedHeader::check(found.header.clone()).map_err(|fault| {
            ExportError::Unproven(Box::new(BundleFault::Header {
                host: found.fields().host,
                at: 0,
                cause: Box::new(bundle::HeaderFault::Signature(fault)),
            }))
        })?;
        let Some(body) = self.body(found)? else {
            return Ok(Contents::Gone);
        };
        let checked = signed
            .check_body(&body)
            .map_err(|cause| ExportError::Body { leaf, cause })?;
        let events: Vec<(u32, Vec<u8>)> = (0_u32..)
            .zip(checked.events())
            .filter(|(_, (index, event))| wanted(index.0, event))
            .map(|(position, (_, event))| (position, event.to_vec()))
            .collect();
        if events.is_empty() {
            return Ok(Contents::Header);
        }
        let positions: Vec<u64> = events.iter().map(|(position, _)| u64::from(*position)).collect();
        let path: Vec<Hash> = multi_proof(checked.leaves(), &positions).unwrap_or_default();
        Ok(Contents::Events { events, path })
    }

    /// Statements about these hosts or about bodies of these leaves, legal holds that name no host, and those that this
    /// build cannot read: they may be about them as well.
    fn statements(
        &mut self,
        hosts: &BTreeSet<HostId>,
        leaves: &[LeafIndex],
    ) -> Result<Vec<StatementPart>, ExportError> {
        let mut parts = Vec::new();
        let Some(last) = self.last(HostId::COLLECTOR)? else {
            return Ok(parts);
        };
        for number in 0..=last {
            let leaf = self.leaf(HostId::COLLECTOR, number)?;
            let bytes = self.reader.header(leaf)?;
            let statement =
                UnverifiedStatement::parse(&bytes).map_err(|cause| ExportError::Statement { leaf, cause })?;
            let said = &statement.claimed().said;
            let concerns = match said {
                Said::Prune(certificate) => leaves.iter().any(|leaf| certificate.names(*leaf)),
                Said::Other { .. } => true,
                said => said.host().is_none_or(|host| hosts.contains(&host)),
            };
            if concerns {
                self.spend(bytes.len())?;
                parts.push(StatementPart {
                    leaf,
                    statement: bytes,
                });
            }
        }
        Ok(parts)
    }

    /// The last batch under the checkpoint.
    fn last(&self, host: HostId) -> Result<Option<u64>, ExportError> {
        let Some(mut record) = self.reader.host_head(&host)? else {
            return Ok(None);
        };
        while record.leaf.0 >= self.head.checkpoint.size {
            let Some(before) = record.sequence.0.checked_sub(1) else {
                return Ok(None);
            };
            let Some(found) = self.reader.find(&host, Sequence(before))? else {
                return Ok(None);
            };
            record = found;
        }
        Ok(Some(record.sequence.0))
    }

    /// The first batch before `end` of which `holds` is true; `end` where there is none. It must be true of all
    /// that follow.
    fn first_where(
        &self,
        host: HostId,
        end: u64,
        holds: impl Fn(&Found) -> bool,
    ) -> Result<u64, ExportError> {
        let (mut begin, mut end) = (0, end);
        while begin < end {
            let middle = begin + (end - begin) / 2;
            if holds(&self.find(host, middle)?) {
                end = middle;
            } else {
                begin = middle + 1;
            }
        }
        Ok(begin)
    }

    fn leaf(&self, host: HostId, sequence: u64) -> Result<LeafIndex, ExportError> {
        let sequence = Sequence(sequence);
        let found = self.reader.find(&host, sequence)?;
        found
            .map(|record| record.leaf)
            .ok_or(ExportError::Missing { host, sequence })
    }

    fn find(&self, host: HostId, sequence: u64) -> Result<Found, ExportError> {
        let leaf = self.leaf(host, sequence)?;
        let header = UnverifiedHeader::parse(&self.reader.header(leaf)?)
            .map_err(|cause| ExportError::Header { leaf, cause })?;
        Ok(Found { leaf, header })
    }
}
