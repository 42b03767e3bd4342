//! The keys of each host, learnt from its chain: what makes a header of a later key epoch believable, and what a
//! proof carries to make others believe it.
//!
//! Keys are proven from the host's id when a question first needs them, one signed header an epoch, and are never read
//! from the index. Owns 40 bytes for each epoch that ended, of so many epochs at most; what goes is proven again.
//! Refuses to learn from a header whose own key was not proven.

use std::{collections::BTreeMap, sync::PoisonError};

use common::{
    batch::{HostKeys, SignedHeader, UnverifiedHeader, VerifiedHeader},
    ids::{HostId, KeyEpoch, LeafIndex},
    projection::Slot,
};

use super::{Chain, EntryError, Projection, StateError};

/// Most epochs whose keys are kept in memory: forty years of one host.
const EPOCHS_KEPT_MAX: usize = 65_536;

/// The keys of the hosts that were asked about.
#[derive(Default)]
pub(super) struct Epochs {
    hosts: BTreeMap<HostId, HostEpochs>,
}

/// One host's.
struct HostEpochs {
    keys: HostKeys,
    /// Where each epoch that ended has its last header, from epoch 0 on.
    last: Vec<LeafIndex>,
    /// The first batch of the newest epoch looked at.
    upto: Option<Slot>,
}

impl Epochs {
    fn kept(&self) -> usize {
        self.hosts.values().map(|epochs| epochs.last.len()).sum()
    }
}

impl Projection {
    /// Looks at the keys of a host, whose newest epoch begins at `newest`.
    fn epochs<T>(
        &self,
        chain: &Chain<'_>,
        newest: Slot,
        host: &HostId,
        look: impl FnOnce(&HostEpochs) -> T,
    ) -> Result<T, StateError> {
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = epochs.hosts.remove(host).unwrap_or_else(|| HostEpochs {
            keys: HostKeys::new(*host),
            last: Vec::new(),
            upto: None,
        });
        let (mut ends, mut start) = (Vec::new(), newest);
        while known.upto != Some(start) {
            let Some((last, before)) = chain.epoch_before(start)? else {
                break;
            };
            ends.push(chain.held(last)?.leaf);
            start = before;
        }
        for leaf in ends.into_iter().rev() {
            self.learn(&mut known, leaf)?;
        }
        known.upto = Some(newest);
        if epochs.kept().saturating_add(known.last.len()) > EPOCHS_KEPT_MAX {
            epochs.hosts.clear();
        }
        let seen = look(&known);
        epochs.hosts.insert(*host, known);
        Ok(seen)
    }

    /// Learns the key that the last header of an epoch announces.
    fn learn(&self, epochs: &mut HostEpochs, last: LeafIndex) -> Result<(), StateError> {
        let fault = |cause: String| StateError::Header { leaf: last, cause };
        let before =
            UnverifiedHeader::parse(&self.entries.header(last)?).map_err(|bad| fault(bad.to_string()))?;
        let before = SignedHeader::check(before).map_err(|bad| fault(bad.to_string()))?;
        let known = epochs.keys.latest();
        // Whatever does not lead on teaches nothing, and headers that would need it are not believed.
        if epochs.keys.learn(&before).is_ok() && epochs.keys.latest() > known {
            epochs.last.push(last);
        }
        Ok(())
    }

    /// Believes a signed header that stands at `leaf` by the keys of its host.
    pub(super) fn believe(
        &self,
        leaf: LeafIndex,
        header: SignedHeader,
    ) -> Result<VerifiedHeader, StateError> {
        let (host, epoch) = (header.fields().host, header.fields().key_epoch);
        let chain = self.chain(&host).filter(|_| epoch > KeyEpoch(0));
        let judged = match chain
            .as_ref()
            .and_then(|chain| Some((chain, chain.newest_epoch()?)))
        {
            Some((chain, newest)) => self.epochs(chain, newest, &host, |epochs| epochs.keys.check(header))?,
            None => HostKeys::new(host).check(header),
        };
        judged.map_err(|refused| StateError::Header {
            leaf,
            cause: refused.to_string(),
        })
    }

    /// The last header of each key epoch before `epoch`.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn key_history(&self, host: &HostId, epoch: KeyEpoch) -> Result<Vec<Vec<u8>>, StateError> {
        let count = usize::try_from(epoch.0).unwrap_or(usize::MAX);
        let Some(chain) = self.chain(host).filter(|_| count > 0) else {
            return Ok(Vec::new());
        };
        let Some(newest) = chain.newest_epoch() else {
            return Ok(Vec::new());
        };
        let leaves: Vec<LeafIndex> = self.epochs(&chain, newest, host, |epochs| {
            epochs.last.iter().take(count).copied().collect()
        })?;
        let headers: Result<Vec<_>, EntryError> =
            leaves.into_iter().map(|leaf| self.entries.header(leaf)).collect();
        Ok(headers?)
    }
}
