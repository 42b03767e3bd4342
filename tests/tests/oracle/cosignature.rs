//! Cosigned checkpoints, read and written by others: `transparency-dev/formats` in Go, `signed_note` in Rust.

use common::{
    checkpoint::{self, Checkpoint},
    ids::hex,
    merkle::leaf_hash,
    note::{SignerKey, UnverifiedNote, WitnessKey, WitnessSigner},
    witness::{Policy, PolicyWitness, cosign, cosignatures, with_line},
};

use crate::tools::Oracle;

const TIME: u64 = 1_679_315_147;

fn log_key() -> SignerKey {
    SignerKey::from_seed("ledger.example/oracle", &[3; 32]).unwrap()
}

fn witness(seed: u8) -> WitnessSigner {
    WitnessSigner::from_seed(&format!("witness.example/w{seed}"), &[seed; 32]).unwrap()
}

fn head(size: u64) -> Checkpoint {
    Checkpoint {
        origin: log_key().verifier().name().to_owned(),
        size,
        root: leaf_hash(&size.to_be_bytes()),
        extensions: Vec::new(),
    }
}

#[test]
fn others_read_our_cosignatures_and_we_read_theirs() {
    let mut oracle = Oracle::start();
    let vkey = log_key().verifier().to_string();
    for seed in 1..=20 {
        let (signer, head) = (witness(seed), head(u64::from(seed) * 1000));
        let signed = head.sign(&log_key()).unwrap();
        let ours = with_line(&signed, &cosign(&signer, &head, TIME + u64::from(seed)));
        let opened = oracle.ask(&format!(
            "cosigned {vkey} {} {}",
            signer.verifier(),
            hex(ours.as_bytes())
        ));
        assert_eq!(opened, (TIME + u64::from(seed)).to_string());
        let stranger = witness(seed + 1);
        assert!(
            oracle.refuses(&format!(
                "cosigned {vkey} {} {}",
                stranger.verifier(),
                hex(ours.as_bytes())
            )),
            "an oracle that accepts everything judges nothing"
        );
        // Go knows a witness's key by the plain form of the same seed.
        let plain = SignerKey::from_seed(signer.verifier().name(), &[seed; 32]).unwrap();
        let theirs = oracle.ask(&format!(
            "cosign {} {vkey} {}",
            plain.encode_secret(),
            hex(signed.as_bytes())
        ));
        let theirs = unhex(&theirs);
        let parsed = UnverifiedNote::parse(&theirs).unwrap();
        let found = cosignatures(&parsed, &[signer.verifier()]).unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].posix_seconds > TIME);
        assert_eq!(checkpoint::open(&theirs, log_key().verifier()).unwrap(), head);
        let policy = Policy::of(vec![listed(signer.verifier())], 1).unwrap();
        assert!(policy.judge(&theirs).unwrap().satisfied);
    }
}

#[test]
fn the_crate_signed_note_accepts_our_cosigned_checkpoints() {
    let head = head(70_000);
    let note = (1..=16).fold(head.sign(&log_key()).unwrap(), |note, seed| {
        with_line(&note, &cosign(&witness(seed), &head, TIME))
    });
    let log = signed_note::StandardVerifier::new(&log_key().verifier().to_string()).unwrap();
    let list = signed_note::VerifierList::new(vec![Box::new(log)]);
    let read = signed_note::Note::from_bytes(note.as_bytes()).unwrap();
    let (verified, unknown) = read.verify(&list).unwrap();
    assert_eq!((verified.len(), unknown.len()), (1, 16));
    let theirs = tlog_tiles::Checkpoint::from_bytes(read.text()).unwrap();
    assert_eq!(
        (theirs.origin(), theirs.size()),
        (head.origin.as_str(), head.size)
    );
    assert_eq!(theirs.hash().0, head.root.0);
    assert_eq!(read.to_bytes(), note.as_bytes(), "a note has one spelling");
}

fn listed(key: &WitnessKey) -> PolicyWitness {
    PolicyWitness {
        key: key.clone(),
        url: None,
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}
