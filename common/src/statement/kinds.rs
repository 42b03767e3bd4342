//! What statements say: one variant for each kind, numbers stable for ever.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::retention::{Hold, HoldLifted, PruneCertificate};
use crate::{
    batch::{KeyHead, UnverifiedHeader},
    ids::{Hash, HostId, KeyEpoch, Sequence, StatementNumber, WallNanos},
    text::Text,
};

/// Number of a kind of statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Kind(pub u16);

impl Kind {
    /// A host was registered.
    pub const HOST_ENROLLED: Self = Self(1);
    /// An operator declared a host's end.
    pub const HOST_ENDED: Self = Self(2);
    /// A host has been silent for longer than it should.
    pub const SILENT: Self = Self(3);
    /// A silent host spoke again.
    pub const BACK: Self = Self(4);
    /// A host's chain is behind the ledger's, or another one.
    pub const ROLLBACK: Self = Self(5);
    /// A host signed two histories.
    pub const EQUIVOCATION: Self = Self(6);
    /// A host's wall clock contradicts the collector's, or itself.
    pub const CLOCK_ANOMALY: Self = Self(7);
    /// Bodies are removed.
    pub const PRUNE: Self = Self(8);
    /// The ledger's key is changed.
    pub const KEY_CHANGE: Self = Self(9);
    /// Bodies may not be removed.
    pub const HOLD: Self = Self(10);
    /// They may again.
    pub const HOLD_LIFTED: Self = Self(11);

    /// Its name in answers and on the command line; `None` for a kind unknown to this build.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        NAMES
            .iter()
            .find(|(kind, _)| *kind == self)
            .map(|(_, name)| *name)
    }

    /// The kind of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        NAMES
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(kind, _)| *kind)
    }
}

/// Every kind with its name.
const NAMES: [(Kind, &str); 11] = [
    (Kind::HOST_ENROLLED, "host_enrolled"),
    (Kind::HOST_ENDED, "host_ended"),
    (Kind::SILENT, "silent"),
    (Kind::BACK, "back"),
    (Kind::ROLLBACK, "rollback"),
    (Kind::EQUIVOCATION, "equivocation"),
    (Kind::CLOCK_ANOMALY, "clock_anomaly"),
    (Kind::PRUNE, "prune"),
    (Kind::KEY_CHANGE, "key_change"),
    (Kind::HOLD, "hold"),
    (Kind::HOLD_LIFTED, "hold_lifted"),
];

/// A batch of a host's chain, named so that no other can stand for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchPoint {
    /// Its sequence.
    pub sequence: Sequence,
    /// SHA-256 of its signed header.
    pub header: Hash,
}

/// What a statement says. Instants are the collector's wall clock unless a field says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "says", rename_all = "snake_case")]
pub enum Said {
    /// A host was registered; nothing it sends is older than this.
    HostEnrolled {
        /// Which host.
        host: HostId,
        /// What people call it.
        name: Text,
        /// When it was registered.
        #[serde(with = "super::display::instant")]
        enrolled_at: WallNanos,
    },
    /// An operator declared a host's end: no later batch of it is taken.
    HostEnded {
        /// Which host.
        host: HostId,
        /// When that was declared.
        #[serde(with = "super::display::instant")]
        ended_at: WallNanos,
        /// Why, in the operator's words.
        reason: Text,
        /// The last batch held of it.
        last: Option<BatchPoint>,
    },
    /// Nothing came from a host for longer than the threshold.
    Silent {
        /// Which host.
        host: HostId,
        /// The last batch held of it; none where it never spoke.
        last: Option<BatchPoint>,
        /// Nothing has come since: when that batch came, or when the host was enrolled if it never spoke; but no
        /// earlier than `watching_since`, since the collector vouches for nothing before that.
        #[serde(with = "super::display::instant")]
        since: WallNanos,
        /// Since when this collector has been listening without a break.
        #[serde(with = "super::display::instant")]
        watching_since: WallNanos,
        /// How long a silence may last before it is stated, nanoseconds.
        threshold_ns: u64,
    },
    /// A host that was said to be silent spoke again.
    Back {
        /// Which host.
        host: HostId,
        /// The statement that it was silent.
        silence: StatementNumber,
        /// The first batch that came.
        first: BatchPoint,
        /// When it came.
        #[serde(with = "super::display::instant")]
        seen_at: WallNanos,
    },
    /// A host's own chain is not the one that the ledger holds of it.
    Rollback(Divergence),
    /// A host signed two histories.
    Equivocation(Equivocation),
    /// A host's wall clock cannot be right.
    ClockAnomaly(ClockAnomaly),
    /// Bodies are removed.
    Prune(PruneCertificate),
    /// Bodies may not be removed.
    Hold(Hold),
    /// They may again.
    HoldLifted(HoldLifted),
    /// Another key signs for the ledger from here on.
    KeyChange {
        /// The record of the ledger's key history, byte for byte; it proves itself.
        record: Text,
    },
    /// A kind that this build does not know.
    Other {
        /// Its number.
        kind: Kind,
        /// Its payload.
        #[serde(with = "super::display::base64")]
        payload: Vec<u8>,
    },
}

/// An agent's account of its own chain against the ledger's. The account is not signed: this is the
/// collector's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Divergence {
    /// Which host.
    pub host: HostId,
    /// Whether the chains also differ where both have a batch; else the agent's is merely shorter.
    pub differs: bool,
    /// Sequence the agent would seal next.
    pub agent_next: Sequence,
    /// Hash of its last header; zeros before the first.
    pub agent_head: Hash,
    /// Sequence the ledger awaits.
    pub held_next: Sequence,
    /// Hash of the last header held; zeros before the first.
    pub held_head: Hash,
}

/// Two headers that one host signed and that cannot both be of one chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Equivocation {
    /// Which host.
    pub host: HostId,
    /// The signed header that the ledger holds.
    #[serde(with = "super::display::base64")]
    pub held: Vec<u8>,
    /// The signed header that contradicts it: of the same sequence, or of the next one and naming another
    /// predecessor.
    #[serde(with = "super::display::base64")]
    pub offered: Vec<u8>,
}

/// Why two headers prove nothing against their host. Whoever claims that they do is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EquivocationFault {
    /// One is no header.
    #[error("the {0} header does not parse")]
    Header(&'static str),
    /// One is of another host.
    #[error("the {0} header is of another host")]
    Host(&'static str),
    /// The key of the second is neither that of the first, in its epoch, nor the one that the first announces.
    #[error("the key of the offered header is neither that of the header held nor the one it announces")]
    Keys,
    /// One is not signed by the key it names.
    #[error("the signature of the {0} header does not fit")]
    Signature(&'static str),
    /// The key of epoch 0 is not the one that the host's id was made from.
    #[error("the key is not the one that the host's id was made from")]
    GenesisKey,
    /// Both may stand in one chain.
    #[error("both headers may stand in one chain")]
    NoContradiction,
}

impl Equivocation {
    /// Checks, with nobody's word but the host's, that the host signed two histories: under one key, or the second
    /// under the key that the first announces. Where the header held is of a later key epoch than 0, that its key is
    /// this host's follows from a key history ([`super::StatementProof`]) or from its chain in the ledger.
    ///
    /// # Errors
    /// Why they do not prove it.
    pub fn check(&self) -> Result<(), EquivocationFault> {
        let held = self.header("held", &self.held)?;
        let offered = self.header("offered", &self.offered)?;
        let (first, second) = (held.claimed(), offered.claimed());
        if !KeyHead::behind(&first.keys()).vouches_for(&second.keys()) {
            return Err(EquivocationFault::Keys);
        }
        if first.key_epoch.0 == 0 && HostId::of_genesis_key(&first.public_key) != self.host {
            return Err(EquivocationFault::GenesisKey);
        }
        let same_place = first.sequence == second.sequence && self.held != self.offered;
        let other_past =
            first.sequence.checked_add(1) == Some(second.sequence) && second.previous != held.hash();
        if same_place || other_past {
            Ok(())
        } else {
            Err(EquivocationFault::NoContradiction)
        }
    }

    /// The key epoch of the header held. Beyond 0 the two headers alone do not tell whose key it is.
    #[must_use]
    pub fn key_epoch(&self) -> Option<KeyEpoch> {
        let held = UnverifiedHeader::parse(&self.held).ok()?;
        Some(held.claimed().key_epoch)
    }

    fn header(&self, which: &'static str, bytes: &[u8]) -> Result<UnverifiedHeader, EquivocationFault> {
        let header = UnverifiedHeader::parse(bytes).map_err(|_| EquivocationFault::Header(which))?;
        if header.claimed().host != self.host {
            return Err(EquivocationFault::Host(which));
        }
        if header.signature_fits() {
            Ok(header)
        } else {
            Err(EquivocationFault::Signature(which))
        }
    }
}

/// In which way a clock is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockFault {
    /// The batch ends later than it arrived.
    Ahead,
    /// The batch ends before the collector gave out the nonce that the batch echoes.
    Behind,
    /// The batch begins before the one before it ends.
    SetBack,
}

/// A batch whose wall clock contradicts the collector's, or the batch before it, beyond both error bounds
/// and the tolerance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockAnomaly {
    /// Which host.
    pub host: HostId,
    /// Which batch.
    pub batch: BatchPoint,
    /// In which way.
    pub fault: ClockFault,
    /// What the batch shows, by the host's clock.
    #[serde(with = "super::display::instant")]
    pub shows: WallNanos,
    /// Its error bound, nanoseconds; `u64::MAX` where unknown, and then taken for nothing.
    pub shows_error_ns: u64,
    /// What it contradicts: when it came, or when its nonce was given out, by the collector's clock; or the
    /// end of the batch before it, by the host's.
    #[serde(with = "super::display::instant")]
    pub against: WallNanos,
    /// The error bound of that, nanoseconds, as above.
    pub against_error_ns: u64,
    /// What was tolerated beyond both bounds, nanoseconds.
    pub tolerance_ns: u64,
    /// How many anomalies of this host and kind were not stated since the last one that was.
    pub unstated: u64,
}

impl Said {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::HostEnrolled { .. } => Kind::HOST_ENROLLED,
            Self::HostEnded { .. } => Kind::HOST_ENDED,
            Self::Silent { .. } => Kind::SILENT,
            Self::Back { .. } => Kind::BACK,
            Self::Rollback(_) => Kind::ROLLBACK,
            Self::Equivocation(_) => Kind::EQUIVOCATION,
            Self::ClockAnomaly(_) => Kind::CLOCK_ANOMALY,
            Self::Prune(_) => Kind::PRUNE,
            Self::Hold(_) => Kind::HOLD,
            Self::HoldLifted(_) => Kind::HOLD_LIFTED,
            Self::KeyChange { .. } => Kind::KEY_CHANGE,
            Self::Other { kind, .. } => *kind,
        }
    }

    /// The host it is about, where it is about one and this build knows.
    #[must_use]
    pub fn host(&self) -> Option<HostId> {
        match self {
            Self::HostEnrolled { host, .. }
            | Self::HostEnded { host, .. }
            | Self::Silent { host, .. }
            | Self::Back { host, .. } => Some(*host),
            Self::Rollback(divergence) => Some(divergence.host),
            Self::Equivocation(equivocation) => Some(equivocation.host),
            Self::ClockAnomaly(anomaly) => Some(anomaly.host),
            Self::Hold(hold) => hold.host,
            Self::Prune(_) | Self::HoldLifted(_) | Self::KeyChange { .. } | Self::Other { .. } => None,
        }
    }
}
