//! Taking up a host's chain where the ledger holds its end.
//!
//! Owns the proof that the last header is signed with the host's key, without walking the whole chain: in the
//! first key epoch the host id proves the key; later the header before the present epoch announced it, and
//! that header stands under a checkpoint of ours, so it was judged when it came in. Finding it costs a binary
//! search over the headers, for epochs only advance. [`crate::audit`] walks everything.

use common::{
    batch::{BadHeader, ChainFault, ChainHead, HostKeys, SignedHeader, UnverifiedHeader, VerifiedHeader},
    ids::{HostId, KeyEpoch, LeafIndex, Sequence},
};

use crate::reader::{ReadError, Reader};

/// Why a host's chain cannot be taken up. The disk is at fault, or whoever altered what is on it.
#[derive(Debug, thiserror::Error)]
pub enum ChainEndError {
    /// A stored header cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A stored header is none.
    #[error("header of host {host} at leaf {leaf}: {cause}")]
    Header {
        /// Whose.
        host: HostId,
        /// Where.
        leaf: LeafIndex,
        /// What is wrong.
        cause: BadHeader,
    },
    /// A stored header does not verify: the ledger was altered.
    #[error("chain of host {host}: {cause}")]
    Chain {
        /// Whose.
        host: HostId,
        /// What is wrong.
        cause: Box<ChainFault>,
    },
    /// The index names no leaf for a batch that must be there.
    #[error("batch {sequence} of host {host} is missing; run `hostledger verify`")]
    Missing {
        /// Whose.
        host: HostId,
        /// Which.
        sequence: Sequence,
    },
}

/// The last header of `host`, verified; `None` for a host without batches. Everything durable must be
/// published.
///
/// # Errors
/// [`ChainEndError`]; nothing is taken up from bytes that do not verify.
pub fn last_header(reader: &Reader, host: &HostId) -> Result<Option<VerifiedHeader>, ChainEndError> {
    let Some(record) = reader.host_head(host)? else {
        return Ok(None);
    };
    let last = signed(reader, host, record.leaf)?;
    let epoch = last.fields().key_epoch;
    if epoch == KeyEpoch(0) {
        return HostKeys::new(*host).check(last).map(Some).map_err(chain(host));
    }
    // The first batch of the epoch lies in `over..=begun`; the one before is of the epoch before.
    let (mut over, mut begun) = (Sequence(0), record.sequence);
    while over < begun {
        let middle = Sequence(over.0 + (begun.0 - over.0) / 2);
        if parsed(reader, host, leaf_of(reader, host, middle)?)?
            .claimed()
            .key_epoch
            < epoch
        {
            over = Sequence(middle.0 + 1);
        } else {
            begun = middle;
        }
    }
    let before = begun
        .0
        .checked_sub(1)
        .map(Sequence)
        .ok_or(ChainEndError::Missing {
            host: *host,
            sequence: Sequence(0),
        })?;
    let before = signed(reader, host, leaf_of(reader, host, before)?)?;
    let first = signed(reader, host, leaf_of(reader, host, begun)?)?;
    let mut head = ChainHead::after(&VerifiedHeader::danger_admitted_before(before)).map_err(chain(host))?;
    head.follow(&first).map_err(chain(host))?;
    let fields = last.fields();
    head.keys
        .follow(host, &fields.keys())
        .map_err(|fault| ChainFault::Keys {
            host: *host,
            sequence: fields.sequence,
            fault,
        })
        .map_err(chain(host))?;
    Ok(Some(VerifiedHeader::danger_admitted_before(last)))
}

fn chain(host: &HostId) -> impl Fn(ChainFault) -> ChainEndError {
    let host = *host;
    move |cause| ChainEndError::Chain {
        host,
        cause: Box::new(cause),
    }
}

fn leaf_of(reader: &Reader, host: &HostId, sequence: Sequence) -> Result<LeafIndex, ChainEndError> {
    let record = reader.find(host, sequence)?.ok_or(ChainEndError::Missing {
        host: *host,
        sequence,
    })?;
    Ok(record.leaf)
}

fn parsed(reader: &Reader, host: &HostId, leaf: LeafIndex) -> Result<UnverifiedHeader, ChainEndError> {
    UnverifiedHeader::parse(&reader.header(leaf)?).map_err(|cause| ChainEndError::Header {
        host: *host,
        leaf,
        cause,
    })
}

fn signed(reader: &Reader, host: &HostId, leaf: LeafIndex) -> Result<SignedHeader, ChainEndError> {
    SignedHeader::check(parsed(reader, host, leaf)?).map_err(chain(host))
}
