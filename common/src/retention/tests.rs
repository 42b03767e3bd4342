//! Plans against what a policy and holds say, leaf by leaf.

use alloc::{vec, vec::Vec};

use proptest::prelude::*;

use super::*;

fn host(n: u8) -> HostId {
    HostId([n; 32])
}

/// Batch `leaf` of three hosts in turn: it watched the ten nanoseconds from `10 * leaf` on.
fn batch(leaf: u64) -> Batch {
    Batch {
        leaf: LeafIndex(leaf),
        host: host((leaf % 3) as u8 + 1),
        sequence: Sequence(leaf / 3),
        from: WallNanos(leaf * 10),
        until: WallNanos(leaf * 10 + 9),
        bytes: 100,
    }
}

fn plan(policy: &Policy, holds: &Holds, leaves: impl Iterator<Item = u64> + Clone) -> Plan {
    let mut totals = Totals::default();
    leaves.clone().for_each(|leaf| totals.count(&batch(leaf)));
    let mut planner = Planner::new(policy.clone(), holds.clone(), totals);
    leaves.for_each(|leaf| planner.push(&batch(leaf)));
    planner.finish()
}

fn gone(plan: &Plan, leaves: u64) -> Vec<u64> {
    (0..leaves).filter(|leaf| plan.names(LeafIndex(*leaf))).collect()
}

fn held(host: Option<HostId>, from: u64, until: u64) -> Holds {
    let mut holds = Holds::default();
    let hold = Hold {
        host,
        from: WallNanos(from),
        until: WallNanos(until),
        reason: Text(b"case 7".to_vec()),
    };
    holds.follow(StatementNumber(4), &Said::Hold(hold));
    holds
}

#[test]
fn each_criterion_lets_go_what_it_says_and_all_of_them_together_less() {
    let none = Holds::default();
    let all = |policy: Policy| gone(&plan(&policy, &none, 0..12), 12);
    let policy = Policy::default;
    assert!(all(policy()).is_empty(), "no criterion lets nothing go");
    assert_eq!(
        all(Policy {
            older_than: Some(WallNanos(30)),
            ..policy()
        }),
        [0, 1, 2]
    );
    assert_eq!(
        all(Policy {
            keep_batches: Some(3),
            ..policy()
        }),
        [0, 1, 2]
    );
    assert_eq!(
        all(Policy {
            keep_batches: Some(0),
            ..policy()
        })
        .len(),
        9,
        "the newest of each host stays"
    );
    assert_eq!(
        all(Policy {
            bytes_max: Some(1150),
            ..policy()
        }),
        [0]
    );
    assert_eq!(
        all(Policy {
            bytes_max: Some(1100),
            ..policy()
        }),
        [0]
    );
    assert_eq!(
        all(Policy {
            host: Some(host(2)),
            ..policy()
        }),
        [1, 4, 7]
    );
    let both = Policy {
        host: Some(host(2)),
        older_than: Some(WallNanos(50)),
        ..policy()
    };
    assert_eq!(all(both.clone()), [1, 4]);
    assert_eq!(
        both.text().0,
        alloc::format!("older_than=1970-01-01T00:00:00.000000050Z host={}", host(2)).into_bytes()
    );
}

#[test]
fn a_hold_wins_until_it_is_lifted() {
    let policy = Policy {
        older_than: Some(WallNanos(1000)),
        ..Policy::default()
    };
    let mut holds = held(Some(host(1)), 35, 60);
    let with_hold = plan(&policy, &holds, 0..12);
    // Leaves 3 and 6 are of host 1 and watched something of 35 to 60; 9, 10 and 11 are the newest.
    assert_eq!(gone(&with_hold, 12), [0, 1, 2, 4, 5, 7, 8]);
    assert_eq!(with_hold.held, 2);
    assert_eq!(with_hold.certificates[0].holds, [StatementNumber(4)]);
    assert_eq!(
        holds.may_lift(StatementNumber(5)),
        Err(HoldRefused::NotInForce(StatementNumber(5)))
    );
    holds.may_lift(StatementNumber(4)).unwrap();
    let lifted = crate::statement::HoldLifted {
        hold: StatementNumber(4),
        reason: Text(b"closed".to_vec()),
    };
    holds.follow(StatementNumber(6), &Said::HoldLifted(lifted));
    assert_eq!(gone(&plan(&policy, &holds, 0..12), 12).len(), 9);
}

#[test]
fn ranges_run_on_over_leaves_without_a_body_and_stop_at_one_that_stays() {
    let policy = Policy {
        older_than: Some(WallNanos(200)),
        ..Policy::default()
    };
    let range = |first, count| LeafRange {
        first: LeafIndex(first),
        count,
    };
    let ranges = |holds: &Holds| {
        let sparse = [0, 3, 4, 9, 30, 31, 32].into_iter();
        plan(&policy, holds, sparse).certificates[0].ranges.clone()
    };
    assert_eq!(ranges(&Holds::default()), [range(0, 10)]);
    assert_eq!(ranges(&held(None, 40, 40)), [range(0, 4), range(9, 1)]);
}

#[test]
fn what_does_not_fit_one_certificate_becomes_several() {
    let policy = Policy {
        host: Some(host(1)),
        ..Policy::default()
    };
    let leaves = 3 * (PRUNE_RANGES_MAX as u64 + 11);
    let plan = plan(&policy, &Holds::default(), 0..leaves);
    let counts: Vec<usize> = plan.certificates.iter().map(|one| one.ranges.len()).collect();
    assert_eq!(counts, vec![PRUNE_RANGES_MAX, 10]);
    assert_eq!(plan.bodies(), PRUNE_RANGES_MAX as u64 + 10);
}

proptest! {
    /// Whatever the policy and the holds: exactly the leaves named go, none that a hold keeps is among them, and
    /// counts and bytes are those of the leaves named.
    #[test]
    fn prop_a_plan_names_what_goes_and_nothing_else(
        leaves in prop::collection::btree_set(0_u64..400, 0..200),
        older in prop::option::of(0_u64..4000),
        keep in prop::option::of(0_u64..100),
        bytes in prop::option::of(0_u64..20_000),
        hold in (0_u64..4000, 0_u64..500),
    ) {
        let policy = Policy {
            older_than: older.map(WallNanos),
            keep_batches: keep,
            bytes_max: bytes,
            host: None,
        };
        let holds = held(None, hold.0, hold.0 + hold.1);
        let plan = plan(&policy, &holds, leaves.iter().copied());
        let named: Vec<u64> = leaves.iter().copied().filter(|leaf| plan.names(LeafIndex(*leaf))).collect();
        prop_assert_eq!(plan.bodies(), named.len() as u64);
        prop_assert_eq!(plan.bytes(), named.len() as u64 * 100);
        for leaf in named {
            prop_assert!(!holds.keep(&batch(leaf)));
            prop_assert!(older.is_none_or(|older| leaf * 10 + 9 < older));
        }
        if let Some(bytes) = bytes.filter(|_| older.is_none() && keep.is_none() && plan.held == 0) {
            let left = leaves.len() as u64 * 100 - plan.bytes();
            prop_assert!(left <= bytes || left <= 3 * 100, "the newest of three hosts stay");
        }
    }
}
