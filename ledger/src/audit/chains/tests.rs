//! Chains: what breaks them, and what is only a hole that damage explains.

use common::ids::{KeyEpoch, PublicKey};

use super::*;

fn host() -> HostId {
    HostId::of_genesis_key(&PublicKey([0; 32]))
}

/// What a header of `epoch` says of keys: key `n` is that of epoch `n`.
fn claim(epoch: u8) -> KeyClaim {
    KeyClaim {
        epoch: KeyEpoch(u64::from(epoch)),
        key: PublicKey([epoch; 32]),
        next: Some(PublicKey([epoch + 1; 32])),
    }
}

fn link(leaf: u64, sequence: u64, previous: Hash) -> Link {
    Link {
        claim: claim(0),
        leaf: LeafIndex(leaf),
        host: host(),
        sequence: Sequence(sequence),
        first_event: EventIndex(sequence * 2),
        events: 2,
        previous,
        hash: Hash::of(&sequence.to_be_bytes()),
    }
}

fn check(links: &[Link]) -> (Report, BTreeMap<HostId, ChainSummary>) {
    check_with(links, &[claim(0)])
}

fn check_with(links: &[Link], made: &[KeyClaim]) -> (Report, BTreeMap<HostId, ChainSummary>) {
    let mut entries: Vec<(LeafIndex, Checked)> = Vec::new();
    for (link, at) in links.iter().zip(0..) {
        let claim = made.get(at).or(made.last()).copied().unwrap();
        entries.push((link.leaf, Checked::Batch(Link { claim, ..*link })));
    }
    // In pieces as small as they come, from which nothing may follow.
    let (mut report, mut chains) = (Report::default(), Chains::default());
    for entry in entries {
        chains.follow(&mut vec![entry], &mut report);
    }
    (report, chains.finish().0)
}

/// A whole chain of batches that make these claims.
fn chain_of(made: &[KeyClaim]) -> Report {
    let links: Vec<Link> = (0..made.len() as u64)
        .map(|at| {
            let before = at.checked_sub(1).map(|n| Hash::of(&n.to_be_bytes()));
            link(at, at, before.unwrap_or_default())
        })
        .collect();
    check_with(&links, made).0
}

#[test]
fn keys_are_followed_from_epoch_to_epoch() {
    assert!(chain_of(&[claim(0), claim(1), claim(2)]).is_sound());
    let thief = PublicKey([66; 32]);
    for (made, fault) in [
        (vec![claim(1)], "cannot follow"),
        (
            vec![KeyClaim {
                key: thief,
                ..claim(0)
            }],
            "host id was made from",
        ),
        (
            vec![
                claim(0),
                KeyClaim {
                    key: thief,
                    ..claim(1)
                },
            ],
            "announced was",
        ),
        (vec![claim(0), claim(2)], "cannot follow"),
        (
            vec![
                claim(0),
                KeyClaim {
                    next: Some(thief),
                    ..claim(0)
                },
            ],
            "before it announced",
        ),
        (
            vec![
                claim(0),
                KeyClaim {
                    next: None,
                    ..claim(1)
                },
            ],
            "announces no next key",
        ),
    ] {
        let report = chain_of(&made);
        assert_eq!(report.faults.len(), 1, "{:?}", report.faults);
        assert_eq!(report.faults[0].cause, Cause::Forgery);
        assert!(report.faults[0].what.contains(fault), "{:?}", report.faults);
    }
    // A hole that swallowed an epoch is one fault; a key that was over and comes back is another.
    let hash = |n: u64| Hash::of(&n.to_be_bytes());
    let hole = [link(0, 0, Hash::default()), link(1, 5, hash(4))];
    let skipped = check_with(&hole, &[claim(0), claim(2)]).0;
    assert_eq!(
        (skipped.faults.len(), skipped.faults[0].cause),
        (1, Cause::Missing)
    );
    let foreign = check_with(
        &hole,
        &[
            claim(0),
            KeyClaim {
                key: thief,
                ..claim(0)
            },
        ],
    )
    .0;
    assert_eq!(foreign.faults.len(), 2, "{:?}", foreign.faults);
}

#[test]
fn a_whole_chain_is_sound() {
    let hash = |n: u64| Hash::of(&n.to_be_bytes());
    let links = [
        link(0, 0, Hash::default()),
        link(3, 1, hash(0)),
        link(4, 2, hash(1)),
    ];
    let (report, hosts) = check(&links);
    assert!(report.is_sound(), "{:?}", report.faults);
    let summary = ChainSummary {
        batches: 3,
        events: 6,
    };
    assert_eq!(hosts.get(&host()), Some(&summary));
}

#[test]
fn a_gap_a_repetition_and_another_history_are_named() {
    let hash = |n: u64| Hash::of(&n.to_be_bytes());
    let gap = check(&[link(0, 0, Hash::default()), link(1, 2, hash(1))]).0;
    assert_eq!((gap.faults.len(), gap.faults[0].cause), (1, Cause::Missing));
    assert_eq!(gap.faults[0].leaf, Some(LeafIndex(1)));
    let twice = check(&[link(0, 0, Hash::default()), link(1, 0, Hash::default())]).0;
    assert_eq!(twice.faults[0].cause, Cause::Forgery);
    let fork = check(&[link(0, 0, Hash::default()), link(1, 1, hash(9))]).0;
    assert_eq!(fork.faults[0].cause, Cause::Forgery);
}

#[test]
fn damage_explains_a_hole_of_its_own_size_and_nothing_more() {
    let hash = |n: u64| Hash::of(&n.to_be_bytes());
    // Leaves 1 and 2 failed their own check.
    let explained = check(&[
        link(0, 0, Hash::default()),
        link(3, 3, hash(2)),
        link(4, 4, hash(3)),
    ])
    .0;
    assert!(explained.is_sound(), "{:?}", explained.faults);
    let larger = check(&[link(0, 0, Hash::default()), link(3, 4, hash(3))]).0;
    assert_eq!((larger.faults.len(), larger.faults[0].cause), (1, Cause::Missing));
    // What lies before the chain's last batch explains nothing after it.
    let later = check(&[
        link(0, 0, Hash::default()),
        link(3, 3, hash(2)),
        link(4, 6, hash(5)),
    ])
    .0;
    assert_eq!(
        (later.faults.len(), later.faults[0].leaf),
        (1, Some(LeafIndex(4)))
    );
    let fork = check(&[link(0, 0, Hash::default()), link(2, 1, hash(9))]).0;
    assert_eq!((fork.faults.len(), fork.faults[0].cause), (1, Cause::Forgery));
}
