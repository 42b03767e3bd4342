//! The bytes of kept losses: golden, round trip, every altered byte refused.

use proptest::prelude::*;

use super::*;
use crate::{
    event::{SensorId, loss::LossCause},
    ids::{BootId, BootNanos, WallNanos},
};

fn loss(first: u64, count: u64) -> Vec<u8> {
    let event = Event {
        boot_ns: BootNanos(50 + first),
        wall_ns: WallNanos(1_000 + first),
        fact: Fact::Loss {
            key: LossKey {
                boot: BootId([7; 16]),
                sensor: SensorId::EXEC,
                cpu: 1,
                first,
            },
            record: Loss {
                last: first + count - 1,
                count,
                cause: LossCause::RingFull,
                not_before: BootNanos(first),
                not_after: BootNanos(40 + first),
            },
        },
    };
    event.encode().unwrap()
}

fn kept(losses: &[(u64, u64)]) -> KeptLosses {
    let mut kept = KeptLosses::new(HostId([3; 32]));
    for (index, first) in losses {
        kept.keep(EventIndex(*index), &loss(*first, 2)).unwrap();
    }
    kept
}

#[test]
fn golden_kept_losses() {
    let bytes = kept(&[(9, 100), (4, 20)]).encode();
    insta::assert_snapshot!(crate::ids::hex(&bytes));
}

#[test]
fn they_read_back_and_every_altered_byte_is_refused() {
    let losses = kept(&[(4, 20), (9, 100), (9, 100)]);
    assert_eq!(losses.iter().count(), 2);
    let bytes = losses.encode();
    assert_eq!(KeptLosses::decode(&bytes).as_ref(), Ok(&losses));
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 1 << (at % 8);
        assert!(KeptLosses::decode(&altered).is_err(), "byte {at}");
        assert!(KeptLosses::decode(&bytes[..at]).is_err(), "cut at {at}");
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert_eq!(KeptLosses::decode(&longer), Err(BadKeptLosses::Field("end")));
}

#[test]
fn nothing_but_losses_is_kept() {
    let mut kept = KeptLosses::new(HostId([3; 32]));
    kept.keep(EventIndex(1), b"no event").unwrap();
    assert!(kept.is_empty());
    kept.events.insert(EventIndex(1), b"no event".to_vec());
    assert_eq!(
        KeptLosses::decode(&kept.encode()),
        Err(BadKeptLosses::NoLoss(EventIndex(1)))
    );
}

proptest! {
    #[test]
    fn prop_kept_losses_round_trip(losses in prop::collection::btree_map(any::<u64>(), 0_u64..1 << 40, 0..20)) {
        let losses: Vec<(u64, u64)> = losses.into_iter().collect();
        let kept = kept(&losses);
        prop_assert_eq!(kept.iter().count(), losses.len());
        prop_assert_eq!(KeptLosses::decode(&kept.encode()), Ok(kept));
    }

    #[test]
    fn prop_garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(KeptLosses::decode(&bytes).is_err());
    }
}
