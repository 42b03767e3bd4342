//! What is folded, kept and read back is what all statements come to; nothing else is read, and nothing else believed.

use alloc::{vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::{
    batch::{ChainHead, UnverifiedHeader, sign_header},
    ids::{WallNanos, hex},
    note::SignerKey,
    statement::{
        BatchPoint, ClockAnomaly, Divergence, Equivocation, Hold, HoldLifted, LeafRange, PruneCertificate,
        StatementChain, StatementFault,
    },
    testing::{batches, host, key},
    text::Text,
};

const LEDGER: Hash = Hash([9; 32]);

fn signer() -> SignerKey {
    SignerKey::from_seed("ledger.example/standing", &[7; 32]).unwrap()
}

fn point(sequence: u64) -> BatchPoint {
    BatchPoint {
        sequence: Sequence(sequence),
        header: Hash([3; 32]),
    }
}

fn silent(host: HostId, last: Option<u64>) -> Said {
    Said::Silent {
        host,
        last: last.map(point),
        since: WallNanos(5),
        watching_since: WallNanos(4),
        threshold_ns: 3,
    }
}

fn back(host: HostId, silence: u64) -> Said {
    Said::Back {
        host,
        silence: StatementNumber(silence),
        first: point(8),
        seen_at: WallNanos(9),
    }
}

fn anomaly(host: HostId, fault: ClockFault) -> Said {
    Said::ClockAnomaly(ClockAnomaly {
        host,
        batch: point(1),
        fault,
        shows: WallNanos(1),
        shows_error_ns: 0,
        against: WallNanos(2),
        against_error_ns: 0,
        tolerance_ns: 0,
        unstated: 0,
    })
}

fn rollback(host: HostId, held_next: u64) -> Said {
    Said::Rollback(Divergence {
        host,
        differs: true,
        agent_next: Sequence(2),
        agent_head: Hash([1; 32]),
        held_next: Sequence(held_next),
        held_head: Hash([2; 32]),
    })
}

/// Two headers of [`host`] under one sequence; each `n` makes another pair.
fn equivocation(n: u64) -> Said {
    let held = batches(&ChainHead::genesis(host()), 1, 0).remove(0).header;
    let mut fields = UnverifiedHeader::parse(held.bytes()).unwrap().claimed().clone();
    fields.from_wall = WallNanos(fields.from_wall.0 + 1 + n);
    fields.until_wall = fields.until_wall.max(fields.from_wall);
    Said::Equivocation(Equivocation {
        host: host(),
        held: held.bytes().to_vec(),
        offered: sign_header(&fields, &key()).unwrap().bytes().to_vec(),
    })
}

fn hold(host: Option<HostId>) -> Said {
    Said::Hold(Hold {
        host,
        from: WallNanos(10),
        until: WallNanos(20),
        reason: Text(b"case 7".to_vec()),
    })
}

fn lifted(hold: u64) -> Said {
    Said::HoldLifted(HoldLifted {
        hold: StatementNumber(hold),
        reason: Text(b"over".to_vec()),
    })
}

/// Each thing said as a statement of one chain, two leaves apart.
fn statements(said: &[Said]) -> Vec<(LeafIndex, UnverifiedStatement)> {
    let mut chain = StatementChain::default();
    (0..)
        .zip(said)
        .map(|(number, said)| {
            let statement = chain.write(said.clone(), WallNanos(1), 0, &signer()).unwrap();
            chain.follow(&statement).unwrap();
            let parsed = UnverifiedStatement::parse(statement.bytes()).unwrap();
            (LeafIndex(2 * number + 1), parsed)
        })
        .collect()
}

fn fold(statements: &[(LeafIndex, UnverifiedStatement)]) -> Standing {
    let mut standing = Standing::default();
    for (leaf, statement) in statements {
        standing.follow(*leaf, statement).unwrap();
    }
    standing
}

fn kept(standing: &Standing) -> Vec<u8> {
    standing.sign(&LEDGER, &signer()).unwrap().unwrap()
}

fn read(bytes: &[u8]) -> Result<Standing, BadStanding> {
    UnverifiedStanding::parse(bytes)?.verify(&LEDGER, signer().verifier())
}

/// Something of everything that is kept.
fn everything() -> Vec<Said> {
    let other = HostId([8; 32]);
    vec![
        Said::HostEnrolled {
            host: host(),
            name: Text(b"web-1".to_vec()),
            enrolled_at: WallNanos(1),
        },
        hold(None),
        hold(Some(other)),
        silent(host(), Some(6)),
        rollback(other, 4),
        equivocation(0),
        equivocation(1),
        anomaly(other, ClockFault::Ahead),
        anomaly(other, ClockFault::SetBack),
        hold(Some(other)),
        lifted(2),
        silent(other, None),
        Said::HostEnded {
            host: other,
            ended_at: WallNanos(3),
            reason: Text(b"scrapped".to_vec()),
            last: None,
        },
    ]
}

#[test]
fn golden_standing() {
    insta::assert_snapshot!(hex(&kept(&fold(&statements(&everything())))));
}

#[test]
fn nothing_stated_is_nothing_kept() {
    assert_eq!(Standing::default().sign(&LEDGER, &signer()).unwrap(), None);
}

#[test]
fn each_statement_counts_as_it_should() {
    let other = HostId([8; 32]);
    let standing = fold(&statements(&everything()));
    let first = &standing.hosts()[&host()];
    assert!(first.enrolled && !first.ended);
    let silence = first.silence.unwrap();
    assert_eq!(
        (silence.number, silence.after),
        (StatementNumber(3), Some(Sequence(6)))
    );
    assert_eq!(first.contradictions.len(), 2);
    let second = &standing.hosts()[&other];
    assert!(second.ended && !second.enrolled);
    assert_eq!(second.diverged_at, Some(Sequence(4)));
    assert_eq!(second.clocks, [true, false, true]);
    assert_eq!(second.silence.unwrap().after, None);
    let in_force: Vec<u64> = standing.holds().in_force().keys().map(|hold| hold.0).collect();
    assert_eq!(in_force, [1, 9]);

    let mut said = everything();
    said.push(back(host(), 2));
    assert!(fold(&statements(&said)).hosts()[&host()].silence.is_some());
    said.push(back(host(), 3));
    assert!(fold(&statements(&said)).hosts()[&host()].silence.is_none());
}

#[test]
fn of_many_equivocations_no_more_are_kept_than_are_stated() {
    let said: Vec<Said> = (0..20).map(equivocation).collect();
    let standing = fold(&statements(&said));
    assert_eq!(standing.hosts()[&host()].contradictions.len(), EQUIVOCATIONS_MAX);
    assert_eq!(read(&kept(&standing)).unwrap(), standing);
}

#[test]
fn a_statement_that_does_not_continue_the_chain_is_refused() {
    let chain = statements(&everything());
    let mut standing = fold(&chain[..3]);
    let before = standing.clone();
    let missing = standing.follow(chain[4].0, &chain[4].1);
    assert!(
        matches!(missing, Err(StatementFault::Number { .. })),
        "{missing:?}"
    );
    let mut altered = everything();
    altered[0] = silent(host(), None);
    let altered = statements(&altered);
    let forged = standing.follow(altered[3].0, &altered[3].1);
    assert!(
        matches!(forged, Err(StatementFault::Previous { .. })),
        "{forged:?}"
    );
    assert_eq!(standing, before);
}

#[test]
fn every_flipped_bit_is_refused_and_so_is_what_another_key_signed() {
    let standing = fold(&statements(&everything()));
    let good = kept(&standing);
    assert_eq!(read(&good).unwrap(), standing);
    for bit in 0..8 * good.len() {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&bad).is_err(), "bit {bit}");
    }
    for end in 0..good.len() {
        assert!(read(&good[..end]).is_err(), "cut at {end}");
    }
    assert!(read(&[good.as_slice(), b"x"].concat()).is_err());
    let other = SignerKey::from_seed("ledger.example/standing", &[8; 32]).unwrap();
    let parsed = UnverifiedStanding::parse(&good).unwrap();
    assert_eq!(
        parsed.clone().verify(&LEDGER, other.verifier()),
        Err(BadStanding::Signature)
    );
    assert_eq!(
        parsed.verify(&Hash([1; 32]), signer().verifier()),
        Err(BadStanding::Ledger)
    );
}

/// One key signs checkpoints, statements and this: none of them may pass for another.
#[test]
fn its_signature_is_of_no_statement() {
    let statement = &statements(&everything())[0].1;
    assert!(matches!(
        read(statement.bytes()),
        Err(BadStanding::Field("magic"))
    ));
    assert!(UnverifiedStatement::parse(&kept(&fold(&statements(&everything())))).is_err());
}

fn said() -> impl Strategy<Value = Said> {
    let hosts = prop::sample::select(vec![host(), HostId([1; 32]), HostId([200; 32])]);
    (0..11_u8, hosts, 0..40_u64).prop_map(|(kind, id, n)| match kind {
        0 => Said::HostEnrolled {
            host: id,
            name: Text(b"n".to_vec()),
            enrolled_at: WallNanos(n),
        },
        1 => Said::HostEnded {
            host: id,
            ended_at: WallNanos(n),
            reason: Text(Vec::new()),
            last: Some(point(n)),
        },
        2 => silent(id, Some(n)),
        3 => silent(id, None),
        4 => back(id, n),
        5 => rollback(id, n),
        6 => equivocation(n % 7),
        7 => anomaly(id, CLOCK_FAULTS[usize::try_from(n).unwrap() % 3]),
        8 => hold((n % 2 == 0).then_some(id)),
        9 => lifted(n),
        _ => Said::Prune(PruneCertificate {
            policy: Text(b"older_than=1d".to_vec()),
            bodies: 1,
            bytes: n,
            holds: Vec::new(),
            hosts_total: 0,
            hosts: Vec::new(),
            ranges: vec![LeafRange {
                first: LeafIndex(n),
                count: 1,
            }],
        }),
    })
}

proptest! {
    /// Wherever a fold was kept, read back and gone on with, it comes to the same.
    #[test]
    fn prop_a_standing_kept_anywhere_and_continued_is_that_of_all(
        said in prop::collection::vec(said(), 1..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let chain = statements(&said);
        let cut = 1 + cut.index(chain.len());
        let half = fold(&chain[..cut]);
        let bytes = kept(&half);
        let mut standing = read(&bytes).unwrap();
        prop_assert_eq!(&standing, &half);
        prop_assert_eq!(standing.last().unwrap().leaf, chain[cut - 1].0);
        for (leaf, statement) in &chain[cut..] {
            standing.follow(*leaf, statement).unwrap();
        }
        prop_assert_eq!(standing, fold(&chain));
    }

    #[test]
    fn prop_other_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(UnverifiedStanding::parse(&bytes).is_err());
    }

    /// What is read is what would be written: no two files say the same.
    #[test]
    fn prop_what_is_read_is_spelt_in_one_way(said in prop::collection::vec(said(), 1..12), at in any::<prop::sample::Index>(), value in any::<u8>()) {
        let mut bytes = kept(&fold(&statements(&said)));
        let end = bytes.len() - 64;
        let at = at.index(end);
        bytes[at] = value;
        if let Ok(read) = UnverifiedStanding::parse(&bytes) {
            let (ledger, standing) = read.danger_unverified();
            let again = standing.sign(ledger, &signer()).unwrap().unwrap();
            prop_assert_eq!(&again[..end], &bytes[..end]);
        }
    }
}
