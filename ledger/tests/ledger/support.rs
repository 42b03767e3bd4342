//! What the ledger's tests share: a key, entries whose bytes follow from their number, and checks.

use std::sync::Arc;

use common::{
    ids::{HostId, LeafIndex, Sequence},
    merkle::verify_consistency,
    note::SignerKey,
};
use ledger::{
    Entry, EntryFacts, Ledger, OpenError, Published, Reader, Recovered,
    fsck::{self, Options, Report},
    storage::Storage,
};

/// The key of every test ledger.
pub(crate) fn key() -> SignerKey {
    SignerKey::from_seed("ledger.example/test", &[7; 32]).unwrap()
}

/// Header of leaf `i`: host, sequence, padding of varying length.
pub(crate) fn header(i: u64) -> Vec<u8> {
    let mut header = vec![(i % 3) as u8];
    header.extend_from_slice(&(i / 3).to_be_bytes());
    header.resize(9 + (i * 7 % 60) as usize, 0xa5);
    header
}

/// Body of leaf `i`: empty for some.
pub(crate) fn body(i: u64) -> Vec<u8> {
    vec![i.to_le_bytes()[0]; (i * 13 % 200) as usize]
}

/// Reads [`header`].
pub(crate) fn describe(header: &[u8]) -> Option<EntryFacts> {
    let (host, rest) = header.split_first()?;
    let sequence = u64::from_be_bytes(rest.first_chunk().copied()?);
    Some(EntryFacts {
        host: HostId([*host; 32]),
        sequence: Sequence(sequence),
    })
}

/// Opens the ledger in `storage`.
pub(crate) fn open(storage: impl Storage + 'static) -> Result<(Ledger, Recovered), OpenError> {
    Ledger::open(Arc::new(storage), key(), describe)
}

/// Appends leaves `from..from + count` as one group.
pub(crate) fn append(ledger: &mut Ledger, from: u64, count: u64) -> Result<LeafIndex, ledger::AppendError> {
    let entries: Vec<(Vec<u8>, Vec<u8>)> = (from..from + count).map(|i| (header(i), body(i))).collect();
    let entries: Vec<Entry<'_>> = entries
        .iter()
        .map(|(header, body)| Entry { header, body })
        .collect();
    ledger.append_group(&entries)
}

/// Every leaf reads back as appended, is found by host and sequence, and has a receipt that verifies.
pub(crate) fn check_all(reader: &Reader, leaves: u64) {
    assert_eq!(reader.leaves(), leaves);
    for i in 0..leaves {
        let leaf = LeafIndex(i);
        assert_eq!(reader.header(leaf).unwrap(), header(i));
        assert_eq!(reader.body(leaf).unwrap(), body(i));
        assert_eq!(
            reader
                .find(&HostId([(i % 3) as u8; 32]), Sequence(i / 3))
                .unwrap()
                .unwrap()
                .leaf,
            leaf
        );
        let receipt = reader.receipt(leaf).unwrap();
        receipt.verify(&header(i), key().verifier()).unwrap();
    }
}

/// The later checkpoint extends the earlier one.
pub(crate) fn check_extends(reader: &Reader, old: &Published, new: &Published) {
    let (old, new) = (&old.checkpoint, &new.checkpoint);
    let proof = reader.consistency(old.size, new.size).unwrap();
    verify_consistency(old.size, &old.root, new.size, &new.root, &proof).unwrap();
}

/// Checks the whole ledger; entries must be those of [`header`] and [`body`].
pub(crate) fn check_ledger(storage: &dyn Storage) -> Report {
    let check_entry = |leaf: LeafIndex, found_header: &[u8], found_body: &[u8]| {
        if found_header != header(leaf.0) {
            return Err("header is not as made".to_owned());
        }
        if found_body != body(leaf.0) {
            return Err("body is not as made".to_owned());
        }
        Ok(())
    };
    fsck::run(storage, &Options::default(), &check_entry)
}
