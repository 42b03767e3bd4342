//! The bytes in which a standing is kept between two starts (`docs/format/standing.md`).
//!
//! Owns the encoding and its signature, made with the ledger's key: what vouches for the statements vouches for what
//! they come to. Refuses whatever [`Standing::sign`] would not have written.

use alloc::{collections::BTreeMap, vec::Vec};

use super::{CLOCK_FAULTS, HostStanding, LastStatement, Standing, StandingSilence};
use crate::{
    codec::{Reader, Short, Write},
    ids::{Hash, HostId, LeafIndex, Sequence, StatementNumber},
    limits::HOLDS_MAX,
    note::{SignerKey, VerifierKey},
    retention::Holds,
    statement::{BadStatement, Hold},
    watchman::EQUIVOCATIONS_MAX,
};

const MAGIC: [u8; 8] = *b"HLSTAND\n";
const VERSION: u16 = 1;
/// Domain separation: what is signed is this prefix followed by all bytes before the signature. The same key signs
/// checkpoints and statements, neither of which goes on like this.
const SIGNING_PREFIX: &[u8] = b"hostledger/standing/v1\n";
const SIGNATURE_BYTES: usize = 64;

const ENROLLED: u8 = 1;
const ENDED: u8 = 2;
const SILENT: u8 = 4;
const SILENT_AFTER: u8 = 8;
const DIVERGED: u8 = 16;

/// Why bytes are no standing of this ledger. The disk is at fault, or whoever wrote to it; the statements in the ledger
/// have the word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadStanding {
    /// They end early.
    #[error(transparent)]
    Short(#[from] Short),
    /// A field holds what it may not, or what no fold of statements gives.
    #[error("field `{0}` holds what it may not")]
    Field(&'static str),
    /// A legal hold is none.
    #[error("legal hold: {0}")]
    Hold(#[from] BadStatement),
    /// They are of another ledger.
    #[error("it is of another ledger")]
    Ledger,
    /// They were altered, or another key of the ledger was in force when they were written.
    #[error("it is not signed by the key that signs the ledger now")]
    Signature,
}

impl BadStanding {
    fn unless(what: &'static str, holds: bool) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(Self::Field(what)) }
    }
}

/// A standing that was read and that nobody vouches for yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedStanding<'a> {
    bytes: &'a [u8],
    ledger: Hash,
    standing: Standing,
}

impl Standing {
    /// The bytes, signed. `ledger` is the SHA-256 of the ledger's first verifier key as its file has it, without the
    /// newline. `None` where nothing was stated yet, and so nothing is worth keeping.
    ///
    /// # Errors
    /// More legal holds are in force than may be, or one that no statement can say.
    pub fn sign(&self, ledger: &Hash, key: &SignerKey) -> Result<Option<Vec<u8>>, BadStanding> {
        let Some(last) = &self.last else {
            return Ok(None);
        };
        let mut out = SIGNING_PREFIX.to_vec();
        out.extend_from_slice(&MAGIC);
        out.put_u16(VERSION);
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&ledger.0);
        out.put_u64(last.number.0);
        out.put_u64(last.leaf.0);
        out.extend_from_slice(&last.hash.0);
        let holds = self.holds.in_force();
        BadStanding::unless("legal holds", holds.len() <= HOLDS_MAX)?;
        out.put_u64(holds.len() as u64);
        for (number, hold) in holds {
            out.put_u64(number.0);
            hold.write(&mut out)?;
        }
        out.put_u64(self.hosts.len() as u64);
        for (id, host) in &self.hosts {
            out.extend_from_slice(&id.0);
            host.write(&mut out);
        }
        let signature = key.sign(&out);
        out.extend_from_slice(&signature);
        Ok(Some(out.split_off(SIGNING_PREFIX.len())))
    }
}

impl<'a> UnverifiedStanding<'a> {
    /// Reads the bytes.
    ///
    /// # Errors
    /// [`BadStanding`]; nothing of them counts.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BadStanding> {
        let mut reader = Reader::new(bytes);
        BadStanding::unless("magic", reader.array("magic")? == MAGIC)?;
        BadStanding::unless("version", reader.u16("version")? == VERSION)?;
        BadStanding::unless("reserved", reader.array::<6>("reserved")? == [0; 6])?;
        let ledger = Hash(reader.array("ledger")?);
        let last = LastStatement {
            number: StatementNumber(reader.u64("number of the last statement")?),
            leaf: LeafIndex(reader.u64("leaf of the last statement")?),
            hash: Hash(reader.array("last statement")?),
        };
        let holds = read_holds(&mut reader, last.number)?;
        let hosts = read_hosts(&mut reader, last.number)?;
        reader.take("signature", SIGNATURE_BYTES)?;
        BadStanding::unless("end", reader.rest().is_empty())?;
        Ok(Self {
            bytes,
            ledger,
            standing: Standing {
                last: Some(last),
                hosts,
                holds,
            },
        })
    }

    /// The standing, if it is of the `ledger` so named and `key` signed it.
    ///
    /// # Errors
    /// [`BadStanding::Ledger`], [`BadStanding::Signature`].
    pub fn verify(self, ledger: &Hash, key: &VerifierKey) -> Result<Standing, BadStanding> {
        if self.ledger != *ledger {
            return Err(BadStanding::Ledger);
        }
        let signed = self.bytes.split_last_chunk::<SIGNATURE_BYTES>();
        let (covered, signature) = signed.ok_or(BadStanding::Signature)?;
        if key.verifies(&[SIGNING_PREFIX, covered].concat(), signature) {
            Ok(self.standing)
        } else {
            Err(BadStanding::Signature)
        }
    }

    /// Ledger and standing although nobody vouches for them: for tests of what is read.
    #[must_use]
    pub fn danger_unverified(&self) -> (&Hash, &Standing) {
        (&self.ledger, &self.standing)
    }
}

impl HostStanding {
    fn write(&self, out: &mut Vec<u8>) {
        let mark = |holds: bool, mark: u8| if holds { mark } else { 0 };
        let after = self.silence.and_then(|silence| silence.after);
        out.put_u8(
            mark(self.enrolled, ENROLLED)
                | mark(self.ended, ENDED)
                | mark(self.silence.is_some(), SILENT)
                | mark(after.is_some(), SILENT_AFTER)
                | mark(self.diverged_at.is_some(), DIVERGED),
        );
        let clocks = CLOCK_FAULTS.map(|fault| mark(self.clocks[fault as usize], 1 << fault as u8));
        out.put_u8(clocks.into_iter().fold(0, |all, one| all | one));
        out.put_u8(0);
        out.put_u8(u8::try_from(self.contradictions.len()).unwrap_or(u8::MAX));
        out.put_u64(self.silence.map_or(0, |silence| silence.number.0));
        out.put_u64(after.map_or(0, |after| after.0));
        out.put_u64(self.diverged_at.map_or(0, |awaited| awaited.0));
        for (held, offered) in &self.contradictions {
            out.extend_from_slice(&held.0);
            out.extend_from_slice(&offered.0);
        }
    }

    fn read(reader: &mut Reader<'_>, last: StatementNumber) -> Result<Self, BadStanding> {
        let marks = reader.u8("marks")?;
        let known = ENROLLED | ENDED | SILENT | SILENT_AFTER | DIVERGED;
        BadStanding::unless("marks", marks & !known == 0)?;
        let faults = reader.u8("faults of the clock")?;
        BadStanding::unless("faults of the clock", faults < 1 << CLOCK_FAULTS.len())?;
        BadStanding::unless("reserved", reader.u8("reserved")? == 0)?;
        let count = reader.u8("equivocations")?;
        BadStanding::unless("equivocations", usize::from(count) <= EQUIVOCATIONS_MAX)?;
        let mut field = |what: &'static str, mark: u8| -> Result<Option<u64>, BadStanding> {
            let value = reader.u64(what)?;
            let marked = marks & mark != 0;
            BadStanding::unless(what, marked || value == 0)?;
            Ok(marked.then_some(value))
        };
        let silent = field("silence", SILENT)?.map(StatementNumber);
        let after = field("last batch before the silence", SILENT_AFTER)?.map(Sequence);
        let diverged_at = field("batch awaited", DIVERGED)?.map(Sequence);
        BadStanding::unless("silence", silent.is_none_or(|number| number <= last))?;
        BadStanding::unless(
            "last batch before the silence",
            silent.is_some() || after.is_none(),
        )?;
        let mut contradictions = Vec::new();
        for _ in 0..count {
            let pair = (
                Hash(reader.array("header held")?),
                Hash(reader.array("header offered")?),
            );
            BadStanding::unless("equivocations", !contradictions.contains(&pair))?;
            contradictions.push(pair);
        }
        Ok(Self {
            enrolled: marks & ENROLLED != 0,
            ended: marks & ENDED != 0,
            silence: silent.map(|number| StandingSilence { number, after }),
            diverged_at,
            clocks: CLOCK_FAULTS.map(|fault| faults & (1 << fault as u8) != 0),
            contradictions,
        })
    }
}

fn read_holds(reader: &mut Reader<'_>, last: StatementNumber) -> Result<Holds, BadStanding> {
    let count = reader.u64("legal holds")?;
    BadStanding::unless("legal holds", count <= HOLDS_MAX as u64)?;
    let mut holds = BTreeMap::new();
    for _ in 0..count {
        let number = StatementNumber(reader.u64("number of a hold")?);
        let rises = holds.last_key_value().is_none_or(|(before, _)| *before < number);
        BadStanding::unless("number of a hold", rises && number <= last)?;
        holds.insert(number, Hold::read(reader)?);
    }
    Ok(Holds::of(holds))
}

fn read_hosts(
    reader: &mut Reader<'_>,
    last: StatementNumber,
) -> Result<BTreeMap<HostId, HostStanding>, BadStanding> {
    let count = reader.u64("hosts")?;
    let mut hosts = BTreeMap::new();
    // A count that lies ends with the bytes, before anything is kept for it.
    for _ in 0..count {
        let id = HostId(reader.array("host")?);
        let rises = hosts.last_key_value().is_none_or(|(before, _)| *before < id);
        BadStanding::unless("order of hosts", rises)?;
        hosts.insert(id, HostStanding::read(reader, last)?);
    }
    Ok(hosts)
}
