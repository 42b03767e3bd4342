//! What the writer sequenced last: which batch of which host stands at the newest leaves.
//!
//! Receipts are asked for just after that. What the index finds for them is held against this instead of a header
//! read from its group again. Bounded; refuses to answer for anything older, which is read.

use std::collections::VecDeque;

use common::ids::LeafIndex;

use crate::index::EntryFacts;

/// Leaves kept, 48 bytes each.
const LEAVES_MAX: usize = 8192;

/// The facts of the newest leaves.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    /// The first leaf kept.
    first: u64,
    facts: VecDeque<Option<EntryFacts>>,
}

impl Recent {
    /// Takes the entries of the group that begins at `first`.
    pub(crate) fn sequenced(&mut self, first: LeafIndex, facts: &[Option<EntryFacts>]) {
        if first.0 != self.first + self.facts.len() as u64 {
            self.facts.clear();
            self.first = first.0;
        }
        self.facts.extend(facts);
        let over = self.facts.len().saturating_sub(LEAVES_MAX);
        self.facts.drain(..over);
        self.first += over as u64;
    }

    /// The facts at `leaf`: `None` where they are not kept, `Some(None)` where there are none.
    pub(crate) fn at(&self, leaf: LeafIndex) -> Option<Option<EntryFacts>> {
        let at = usize::try_from(leaf.0.checked_sub(self.first)?).ok()?;
        self.facts.get(at).copied()
    }
}

#[cfg(test)]
mod tests {
    use common::ids::{HostId, Sequence};

    use super::*;

    #[test]
    fn the_newest_leaves_are_kept_and_no_others_answered_for() {
        let facts = |sequence| {
            Some(EntryFacts {
                host: HostId([7; 32]),
                sequence: Sequence(sequence),
            })
        };
        let mut recent = Recent::default();
        recent.sequenced(LeafIndex(10), &[facts(0), None]);
        assert_eq!(recent.at(LeafIndex(9)), None);
        assert_eq!(recent.at(LeafIndex(10)), Some(facts(0)));
        assert_eq!(recent.at(LeafIndex(11)), Some(None));
        assert_eq!(recent.at(LeafIndex(12)), None);
        let many: Vec<_> = (1..=LEAVES_MAX as u64).map(facts).collect();
        recent.sequenced(LeafIndex(12), &many);
        assert_eq!(recent.at(LeafIndex(11)), None, "it is bounded");
        assert_eq!(recent.at(LeafIndex(12)), Some(facts(1)));
        recent.sequenced(LeafIndex(20_000), &[None]);
        assert_eq!(recent.at(LeafIndex(12)), None, "no hole is answered for");
        assert_eq!(recent.at(LeafIndex(20_000)), Some(None));
    }
}
