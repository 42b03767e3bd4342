//! Every question reads back as it was asked, and nothing else is taken for one.

use common::{
    ids::{HostId, WallNanos},
    statement::{Hold, HoldLifted},
    text::Text,
};
use proptest::prelude::*;

use super::*;
use common::retention::Policy;

fn text() -> impl Strategy<Value = Text> {
    proptest::collection::vec(any::<u8>(), 0..300).prop_map(Text)
}

fn question() -> impl Strategy<Value = Question> {
    let host = || proptest::option::of(any::<[u8; 32]>().prop_map(HostId));
    // Instants are told as RFC 3339, which ends with the year 9999.
    let instant = || any::<u64>().prop_map(WallNanos);
    let number = || proptest::option::of(any::<u64>());
    let policy = (proptest::option::of(instant()), number(), number(), host());
    let policy = policy.prop_map(|(older_than, keep_batches, bytes_max, host)| Policy {
        older_than,
        keep_batches,
        bytes_max,
        host,
    });
    let hold = (host(), instant(), instant(), text());
    prop_oneof![
        (policy, any::<bool>()).prop_map(|(policy, dry_run)| Question::Prune { policy, dry_run }),
        hold.prop_map(|(host, from, until, reason)| Question::AddHold {
            hold: Hold {
                host,
                from,
                until,
                reason
            }
        }),
        (any::<u64>(), text()).prop_map(|(hold, reason)| Question::LiftHold {
            lifted: HoldLifted {
                hold: StatementNumber(hold),
                reason
            }
        }),
        Just(Question::ListHolds),
        Just(Question::Progress),
    ]
}

proptest! {
    #[test]
    fn prop_a_question_is_read_as_it_was_asked(question in question()) {
        let line = question.line().unwrap();
        prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1, "one line");
        prop_assert!((line.len() as u64) < QUESTION_BYTES_MAX);
        prop_assert_eq!(Question::read(&line).unwrap(), question);
    }

    #[test]
    fn prop_a_question_that_was_cut_is_none(question in question(), cut in any::<prop::sample::Index>()) {
        let line = question.line().unwrap();
        // Without its newline it is whole.
        let whole = line.len() - 1;
        prop_assert!(Question::read(&line[..cut.index(whole)]).is_err());
    }

    #[test]
    fn prop_garbage_is_no_question(bytes: Vec<u8>, question in question(), at in any::<prop::sample::Index>()) {
        prop_assert!(Question::read(&bytes).is_err());
        // A byte of a good one exchanged: refused, or another question that reads back as itself.
        let mut line = question.line().unwrap();
        let at = at.index(line.len());
        line[at] = bytes.first().copied().unwrap_or(b'"');
        if let Ok(read) = Question::read(&line) {
            prop_assert_eq!(Question::read(&read.line().unwrap()).unwrap(), read);
        }
    }
}
