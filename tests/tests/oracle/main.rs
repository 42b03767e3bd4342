//! Judges nobody here wrote: Tessera's `fsck` and a Go program over `sumdb/tlog`, `sumdb/note`,
//! `transparency-dev/merkle` and `transparency-dev/formats` (`tests/oracle`).
//!
//! `cargo xtask setup` builds both into the directory that `HOSTLEDGER_TOOLS_BIN` names.
#![cfg(feature = "oracles")]

#[cfg(test)]
mod bundle;
#[cfg(test)]
mod cosignature;
#[cfg(test)]
mod shapes;
#[cfg(test)]
mod tools;
#[cfg(test)]
mod verifier;

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, sync::Arc};

    use common::{
        checkpoint::{self, Checkpoint},
        ids::{Hash, LeafIndex, WallNanos, hex},
        merkle::{CompactRange, consistency_proof, empty_root, inclusion_proof, leaf_hash},
        note::{self, SignerKey},
        retention::Policy,
    };
    use ledger::{Entry, Ledger, Local, audit::describe};
    use tests::{large::Large, pruning};

    use crate::tools::{Oracle, list, tessera_fsck};

    /// A key whose base64 has the characters in which encodings differ, plus and slash.
    fn key() -> SignerKey {
        (0..=u8::MAX)
            .map(|seed| SignerKey::from_seed("ledger.example/oracle", &[seed; 32]).unwrap())
            .find(|key| {
                let encoded = key.verifier().to_string();
                encoded.matches('+').count() > 2 && encoded.rsplit('+').next().unwrap().contains('/')
            })
            .unwrap()
    }

    fn entry(i: u64) -> Vec<u8> {
        let mut entry = i.to_be_bytes().to_vec();
        entry.resize(430 + usize::try_from(i % 40).unwrap(), i.to_le_bytes()[0]);
        entry
    }

    #[test]
    fn roots_and_proofs_of_every_small_tree_and_some_large_ones() {
        let mut oracle = Oracle::start();
        let sizes: Vec<usize> = (0..=1025).chain([65_535, 65_536, 65_537, 70_000]).collect();
        let mut leaves: Vec<Hash> = Vec::new();
        let mut range = CompactRange::new();
        let mut checked = 0;
        for (at, size) in sizes.iter().copied().enumerate() {
            for i in leaves.len()..size {
                let entry = (i as u64).to_be_bytes();
                leaves.push(leaf_hash(&entry));
                range.push(leaves[i]);
                oracle.ask(&format!("leaf {}", hex(&entry)));
            }
            assert_eq!(
                oracle.ask(&format!("root {size}")),
                range.root().to_string(),
                "size {size}"
            );
            let indices = [
                0,
                1,
                size / 3,
                size / 2,
                size.saturating_sub(2),
                size.saturating_sub(1),
            ];
            for index in indices.into_iter().filter(|index| *index < size) {
                let proof = list(&inclusion_proof(&leaves, index).unwrap());
                oracle.ask(&format!("inclusion {index} {size} {proof}"));
                assert_eq!(oracle.ask(&format!("prove-inclusion {index} {size}")), proof);
                checked += 1;
            }
            for old in [0, 1, sizes[at / 2], sizes[at.saturating_sub(1)], size] {
                let proof = list(&consistency_proof(&leaves, old, size).unwrap_or_default());
                if old <= size {
                    oracle.ask(&format!("consistency {old} {size} {proof}"));
                    checked += 1;
                }
                if (1..size).contains(&old) {
                    assert_eq!(oracle.ask(&format!("prove-consistency {old} {size}")), proof);
                }
            }
        }
        assert!(
            oracle.refuses("inclusion 3 1000 -"),
            "an oracle that accepts everything judges nothing"
        );
        println!("{checked} proofs accepted by sumdb/tlog and transparency-dev/merkle");
    }

    #[test]
    fn tessera_accepts_a_pruned_ledger() {
        let dir = tempfile::tempdir().unwrap();
        let Large { layout, signer, .. } = Large::make(dir.path(), 4, 500);
        let storage = Local::open_writer(&layout.ledger()).unwrap();
        let (mut ledger, _) = Ledger::open(Arc::new(storage), signer.clone(), describe).unwrap();
        let policy = Policy {
            keep_batches: Some(50),
            ..Policy::default()
        };
        let report = pruning::prune(&mut ledger, &signer, &policy, WallNanos(1), &mut |_, _| true).unwrap();
        assert_eq!(report.bodies(), 4 * 450);
        let head = ledger.reader().published().checkpoint;
        drop(ledger);
        tessera_fsck(&layout.ledger(), head.size, &head.root).unwrap();
        println!(
            "Tessera's fsck accepts {} leaves after {} bodies went",
            head.size,
            report.bodies()
        );
    }

    #[test]
    fn notes_and_checkpoints_are_read_by_both_sides() {
        let mut oracle = Oracle::start();
        let key = key();
        let vkey = key.verifier().to_string();
        for text in [
            "one line\n",
            "two\n\nparagraphs\n",
            "grüße — 漢字\n",
            "\n",
            "a\n\n\n\nb\n",
        ] {
            let ours = note::sign(text, &[&key]).unwrap();
            let opened = oracle.ask(&format!("note {vkey} {}", hex(ours.as_bytes())));
            assert_eq!(opened, hex(text.as_bytes()));
            let theirs = oracle.ask(&format!("sign {} {}", key.encode_secret(), hex(text.as_bytes())));
            assert_eq!(
                theirs,
                hex(ours.as_bytes()),
                "Ed25519 is deterministic, so are notes"
            );
        }
        for size in [0, 1, 70_000, u64::from(u32::MAX) + 1] {
            let head = Checkpoint {
                origin: key.verifier().name().to_owned(),
                size,
                root: if size == 0 {
                    empty_root()
                } else {
                    leaf_hash(&size.to_be_bytes())
                },
                extensions: Vec::new(),
            };
            let signed = head.sign(&key).unwrap();
            let opened = oracle.ask(&format!("checkpoint {vkey} {}", hex(signed.as_bytes())));
            assert_eq!(opened, format!("{size} {}", head.root));
        }
        let altered = note::sign("text\n", &[&key]).unwrap().replacen("text", "Text", 1);
        assert!(oracle.refuses(&format!("note {vkey} {}", hex(altered.as_bytes()))));
    }

    /// Appends leaves up to `until` and publishes.
    fn grow(ledger: &mut Ledger, until: u64) {
        let mut next = ledger.reader().leaves();
        while next < until {
            let count = (until - next).min(4096);
            let headers: Vec<Vec<u8>> = (next..next + count).map(entry).collect();
            let entries: Vec<Entry<'_>> = headers
                .iter()
                .map(|header| Entry {
                    header,
                    body: b"beside the leaf",
                })
                .collect();
            ledger.append_group(&entries).unwrap();
            next += count;
        }
        ledger.integrate_and_publish().unwrap();
    }

    #[test]
    fn tessera_accepts_a_growing_ledger_and_go_accepts_its_receipts() {
        let dir = tempfile::tempdir().unwrap();
        let key = key();
        let vkey = key.verifier().to_string();
        let storage = Arc::new(Local::open_writer(dir.path()).unwrap());
        let (mut ledger, _) = Ledger::open(storage, key, |_| None).unwrap();
        let mut oracle = Oracle::start();
        let sizes = [1, 2, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 70_100];
        let mut sent = 0;
        for (at, size) in sizes.into_iter().enumerate() {
            grow(&mut ledger, size);
            let reader = ledger.reader();
            tessera_fsck(dir.path(), size, &reader.published().checkpoint.root)
                .unwrap_or_else(|why| panic!("{size} leaves: {why}"));
            while sent < size {
                oracle.ask(&format!("leaf {}", hex(&entry(sent))));
                sent += 1;
            }
            let published = reader.published();
            let opened = oracle.ask(&format!("checkpoint {vkey} {}", hex(&published.note)));
            assert_eq!(opened, format!("{size} {}", published.checkpoint.root));
            assert_eq!(
                oracle.ask(&format!("root {size}")),
                published.checkpoint.root.to_string()
            );
            for leaf in [0, size / 2, size - 1] {
                let receipt = reader.receipt(LeafIndex(leaf)).unwrap().encode();
                oracle.ask(&format!("receipt {vkey} {} {}", hex(&entry(leaf)), hex(&receipt)));
                assert!(oracle.refuses(&format!(
                    "receipt {vkey} {} {}",
                    hex(&entry(leaf + 1)),
                    hex(&receipt)
                )));
            }
            for old in &sizes[..at] {
                let proof = reader.consistency(*old, size).unwrap();
                oracle.ask(&format!("consistency {old} {size} {}", list(&proof)));
            }
        }
        println!(
            "Tessera's fsck accepted {} sizes up to {}",
            sizes.len(),
            sizes[sizes.len() - 1]
        );
    }

    #[test]
    fn tessera_refuses_what_we_refuse() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Arc::new(Local::open_writer(dir.path()).unwrap());
        let (mut ledger, _) = Ledger::open(storage, key(), |_| None).unwrap();
        grow(&mut ledger, 300);
        let root = ledger.reader().published().checkpoint.root;
        tessera_fsck(dir.path(), 300, &root).unwrap();
        let flip = |name: &str, at: usize| {
            let path = dir.path().join(name);
            let good = fs::read(&path).unwrap();
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            let (theirs, ours) = (tessera_fsck(dir.path(), 300, &root), our_fsck(dir.path()));
            fs::write(&path, &good).unwrap();
            assert!(theirs.is_err(), "Tessera accepted a flipped byte in {name}");
            assert_eq!(ours.len(), 1, "{ours:?}");
            assert_eq!(ours[0], name);
        };
        flip("log/tile/0/000", 77);
        flip("log/tile/1/000.p/1", 5);
        flip("log/checkpoint", 24);
        assert!(our_fsck(dir.path()).is_empty());
        let head = fs::read(dir.path().join("log/checkpoint")).unwrap();
        assert_eq!(checkpoint::open(&head, key().verifier()).unwrap().size, 300);
    }

    /// Objects that our own check finds at fault.
    fn our_fsck(dir: &Path) -> Vec<String> {
        let storage = Local::open_reader(dir).unwrap();
        let report = ledger::fsck::run(&storage, &ledger::fsck::Options::default(), &|_, _, _| Ok(()));
        report.faults.into_iter().map(|fault| fault.object).collect()
    }
}
