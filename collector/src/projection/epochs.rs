//! The keys of each host, learnt from its chain while it is indexed: what makes a header of a later key epoch
//! believable, and what a proof carries to make others believe it.
//!
//! Owns 40 bytes for each epoch that ended. Refuses to learn from a header whose own key was not proven.

use std::{collections::BTreeMap, sync::PoisonError};

use common::{
    batch::{HostKeys, SignedHeader, UnverifiedHeader, VerifiedHeader},
    ids::{HostId, KeyEpoch, LeafIndex},
};

use super::{EntryError, Projection};

/// The keys of all hosts that are beyond their first.
pub(super) type Epochs = BTreeMap<HostId, HostEpochs>;

/// One host's.
pub(super) struct HostEpochs {
    keys: HostKeys,
    /// Where each epoch that ended has its last header, from epoch 0 on.
    last: Vec<LeafIndex>,
}

impl Projection {
    /// Where `header` begins a key epoch, learns its key from `last`, the batch before it.
    pub(super) fn learn_keys(
        &self,
        header: &UnverifiedHeader,
        last: Option<LeafIndex>,
    ) -> Result<(), EntryError> {
        let (host, epoch) = (header.claimed().host, header.claimed().key_epoch);
        let Some(last) = last.filter(|_| epoch > KeyEpoch(0)) else {
            return Ok(());
        };
        let known = self.read(|chains| {
            chains
                .epochs
                .get(&host)
                .map_or(KeyEpoch(0), |epochs| epochs.keys.latest())
        });
        if epoch <= known {
            return Ok(());
        }
        let fault = |cause: String| EntryError {
            leaf: last,
            cause,
            pruned: None,
        };
        let before =
            UnverifiedHeader::parse(&self.entries.header(last)?).map_err(|bad| fault(bad.to_string()))?;
        let before = SignedHeader::check(before).map_err(|bad| fault(bad.to_string()))?;
        let mut chains = self.chains.write().unwrap_or_else(PoisonError::into_inner);
        let epochs = chains.epochs.entry(host).or_insert_with(|| HostEpochs {
            keys: HostKeys::new(host),
            last: Vec::new(),
        });
        // Whatever does not lead on teaches nothing, and headers that would need it are not believed.
        if epochs.keys.learn(&before).is_ok() && epochs.keys.latest() > known {
            epochs.last.push(last);
        }
        Ok(())
    }

    /// Believes a signed header of `host` by the keys learnt.
    pub(super) fn believe(&self, header: SignedHeader) -> Result<VerifiedHeader, String> {
        let host = header.fields().host;
        self.read(|chains| match chains.epochs.get(&host) {
            Some(epochs) => epochs.keys.check(header),
            None => HostKeys::new(host).check(header),
        })
        .map_err(|fault| fault.to_string())
    }

    /// The last header of each key epoch before `epoch`.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn key_history(&self, host: &HostId, epoch: KeyEpoch) -> Result<Vec<Vec<u8>>, EntryError> {
        let count = usize::try_from(epoch.0).unwrap_or(usize::MAX);
        let leaves: Vec<LeafIndex> = self.read(|chains| {
            let last = chains.epochs.get(host).map(|epochs| epochs.last.as_slice());
            last.unwrap_or_default().iter().take(count).copied().collect()
        });
        leaves.into_iter().map(|leaf| self.entries.header(leaf)).collect()
    }
}
