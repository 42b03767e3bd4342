//! Loss accounting: seen + lost = happened, for every kind on every CPU.
//!
//! The kernel numbers events before it asks for room in the ring, so a missing number is a lost event and
//! nothing else. This tracks the numbers that arrive, and names each gap. Pure: no clock, no kernel.

use std::collections::BTreeMap;

use common::abi::{Counter, Kind};

/// A range of events that happened and were not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// What kind of event.
    pub kind: Kind,
    /// On which CPU.
    pub cpu: u32,
    /// First missing sequence number.
    pub first: u64,
    /// Last missing sequence number.
    pub last: u64,
    /// Why.
    pub cause: LossCause,
    /// The lost events happened after this instant (`CLOCK_BOOTTIME`, ns): the last one seen before them.
    pub after_boot_ns: u64,
    /// They happened before this instant: the first one seen after them, or when the counters were read.
    pub before_boot_ns: u64,
}

impl Loss {
    /// Number of events lost.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.last - self.first + 1
    }
}

/// Why events were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossCause {
    /// The ring had no room: the agent read too slowly for the load.
    RingFull,
    /// A record came that could not be decoded: a fault of ours.
    Malformed,
}

/// A sequence number that did not follow: lower than one already seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} on cpu {cpu}: sequence {found} after {last}", kind.name())]
pub struct OutOfOrder {
    /// What kind of event.
    pub kind: Kind,
    /// On which CPU.
    pub cpu: u32,
    /// The number that came.
    pub found: u64,
    /// The highest number before it.
    pub last: u64,
}

/// Where the numbers of one kind on one CPU stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records that arrived.
    pub seen: u64,
    /// Records known to be lost.
    pub lost: u64,
    /// Those of the lost that the kernel delivered and that could not be decoded.
    pub refused: u64,
    /// Highest number accounted for, seen or lost; `seen + lost` equals it always.
    pub last: u64,
    /// Time of the last record seen.
    pub last_boot_ns: u64,
}

/// The tallies of all kinds and CPUs.
#[derive(Debug, Default)]
pub struct Accounting {
    tallies: BTreeMap<(Kind, u32), Tally>,
}

impl Accounting {
    /// Takes note of a record that arrived; yields the gap before it, if there is one.
    ///
    /// # Errors
    /// [`OutOfOrder`] if the number was already accounted for; the tally is left as it was.
    pub fn saw(
        &mut self,
        kind: Kind,
        cpu: u32,
        sequence: u64,
        time_boot_ns: u64,
    ) -> Result<Option<Loss>, OutOfOrder> {
        let tally = self.tallies.entry((kind, cpu)).or_default();
        if sequence <= tally.last {
            return Err(OutOfOrder {
                kind,
                cpu,
                found: sequence,
                last: tally.last,
            });
        }
        let missing = sequence - tally.last - 1;
        let loss = (missing > 0).then(|| Loss {
            kind,
            cpu,
            first: tally.last + 1,
            last: sequence - 1,
            cause: LossCause::RingFull,
            after_boot_ns: tally.last_boot_ns,
            before_boot_ns: time_boot_ns,
        });
        *tally = Tally {
            seen: tally.seen + 1,
            lost: tally.lost + missing,
            refused: tally.refused,
            last: sequence,
            last_boot_ns: time_boot_ns,
        };
        Ok(loss)
    }

    /// Takes note of a record that arrived and could not be decoded: it counts as lost, not as seen.
    ///
    /// # Errors
    /// As [`Self::saw`].
    pub fn refused(
        &mut self,
        kind: Kind,
        cpu: u32,
        sequence: u64,
        time_boot_ns: u64,
    ) -> Result<(Option<Loss>, Loss), OutOfOrder> {
        let before = self.saw(kind, cpu, sequence, time_boot_ns)?;
        let tally = self.tallies.entry((kind, cpu)).or_default();
        tally.seen -= 1;
        tally.lost += 1;
        tally.refused += 1;
        let refused = Loss {
            kind,
            cpu,
            first: sequence,
            last: sequence,
            cause: LossCause::Malformed,
            after_boot_ns: time_boot_ns,
            before_boot_ns: time_boot_ns,
        };
        Ok((before, refused))
    }

    /// Compares with the kernel's counters, after the ring was drained; yields the loss at the end, which no
    /// later record reveals.
    ///
    /// `counter` must have been read *before* that drain. Events numbered but not yet in the ring at that
    /// moment look missing and are not: the loss is declared only where the kernel's own count of losses
    /// explains all of what is missing. Otherwise a later call will.
    pub fn reconcile(&mut self, kind: Kind, cpu: u32, counter: Counter, now_boot_ns: u64) -> Option<Loss> {
        let tally = self.tallies.entry((kind, cpu)).or_default();
        let missing = counter.happened.checked_sub(tally.last).filter(|&m| m > 0)?;
        // Records refused here are lost to us, yet the kernel delivered them.
        if (counter.lost + tally.refused).checked_sub(tally.lost)? != missing {
            return None;
        }
        let loss = Loss {
            kind,
            cpu,
            first: tally.last + 1,
            last: counter.happened,
            cause: LossCause::RingFull,
            after_boot_ns: tally.last_boot_ns,
            before_boot_ns: now_boot_ns,
        };
        tally.lost += missing;
        tally.last = counter.happened;
        Some(loss)
    }

    /// Every tally, ordered by kind and CPU.
    pub fn tallies(&self) -> impl Iterator<Item = (Kind, u32, Tally)> {
        self.tallies
            .iter()
            .map(|(&(kind, cpu), &tally)| (kind, cpu, tally))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind::ProcessExec;

    #[test]
    fn a_gap_is_named_with_its_range_and_times() {
        let mut accounting = Accounting::default();
        assert_eq!(accounting.saw(KIND, 1, 1, 100), Ok(None));
        let loss = accounting.saw(KIND, 1, 5, 200).unwrap().unwrap();
        assert_eq!((loss.first, loss.last, loss.count()), (2, 4, 3));
        assert_eq!((loss.after_boot_ns, loss.before_boot_ns), (100, 200));
        let (_, _, tally) = accounting.tallies().next().unwrap();
        assert_eq!((tally.seen, tally.lost, tally.last), (2, 3, 5));
    }

    #[test]
    fn kinds_and_cpus_are_counted_apart() {
        let mut accounting = Accounting::default();
        assert_eq!(accounting.saw(KIND, 0, 1, 1), Ok(None));
        assert_eq!(accounting.saw(KIND, 1, 1, 1), Ok(None));
        assert_eq!(accounting.saw(Kind::ProcessFork, 0, 1, 1), Ok(None));
        assert_eq!(accounting.tallies().count(), 3);
    }

    #[test]
    fn a_repeated_number_is_refused_and_changes_nothing() {
        let mut accounting = Accounting::default();
        accounting.saw(KIND, 0, 3, 1).unwrap();
        let before: Vec<_> = accounting.tallies().collect();
        assert!(accounting.saw(KIND, 0, 3, 2).is_err());
        assert!(accounting.saw(KIND, 0, 2, 2).is_err());
        assert_eq!(accounting.tallies().collect::<Vec<_>>(), before);
    }

    #[test]
    fn a_record_that_cannot_be_decoded_is_lost_by_its_number() {
        let mut accounting = Accounting::default();
        let (gap, refused) = accounting.refused(KIND, 0, 3, 10).unwrap();
        assert_eq!(gap.map(|g| (g.first, g.last)), Some((1, 2)));
        assert_eq!(
            (refused.first, refused.last, refused.cause),
            (3, 3, LossCause::Malformed)
        );
        let (_, _, tally) = accounting.tallies().next().unwrap();
        assert_eq!((tally.seen, tally.lost, tally.last), (0, 3, 3));
    }

    #[test]
    fn loss_at_the_end_shows_only_in_the_counters() {
        let mut accounting = Accounting::default();
        accounting.saw(KIND, 0, 1, 10).unwrap();
        let counter = Counter { happened: 4, lost: 3 };
        let loss = accounting.reconcile(KIND, 0, counter, 50).unwrap();
        assert_eq!((loss.first, loss.last, loss.before_boot_ns), (2, 4, 50));
        assert_eq!(accounting.reconcile(KIND, 0, counter, 60), None);
        assert_eq!(accounting.saw(KIND, 0, 5, 70), Ok(None));
    }

    #[test]
    fn an_event_still_on_its_way_is_not_called_lost() {
        let mut accounting = Accounting::default();
        accounting.saw(KIND, 0, 1, 10).unwrap();
        // Two more were numbered, one of them lost, the other about to be committed.
        assert_eq!(
            accounting.reconcile(KIND, 0, Counter { happened: 3, lost: 1 }, 50),
            None
        );
        let loss = accounting.saw(KIND, 0, 3, 60).unwrap().unwrap();
        assert_eq!((loss.first, loss.last), (2, 2));
    }

    proptest::proptest! {
        #[test]
        fn seen_and_lost_add_up_whatever_is_lost(lost in proptest::collection::vec(proptest::bool::ANY, 1..200)) {
            let mut accounting = Accounting::default();
            let mut counter = Counter::default();
            let mut reported = 0;
            for &is_lost in &lost {
                counter.happened += 1;
                if is_lost {
                    counter.lost += 1;
                } else if let Some(loss) = accounting.saw(KIND, 0, counter.happened, counter.happened).unwrap() {
                    reported += loss.count();
                }
            }
            reported += accounting.reconcile(KIND, 0, counter, 1000).map_or(0, |l| l.count());
            let (_, _, tally) = accounting.tallies().next().unwrap();
            proptest::prop_assert_eq!(tally.seen + tally.lost, counter.happened);
            proptest::prop_assert_eq!(tally.lost, counter.lost);
            proptest::prop_assert_eq!(reported, counter.lost);
        }
    }
}
