//! Witness messages and policies: a request has one spelling, and no answer is a cosignature without the key.
#![no_main]

use common::note::{UnverifiedNote, WitnessSigner};
use common::witness::{AddCheckpoint, Exchange, Next, Policy, Recorded, TrustedLog, cosignatures, judge};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let signer = WitnessSigner::from_seed("witness.example/fuzz", &[5; 32]).expect("a valid name");
    let key = signer.verifier();
    if let Ok(request) = AddCheckpoint::decode(bytes) {
        assert_eq!(request.encode(), bytes, "a request has one spelling");
        let origin = request.claimed().expect("decoded, so it claims something").origin;
        let log = TrustedLog { origin, keys: Vec::new() };
        assert!(judge(&request, &log, None).is_err(), "believed without a key");
    }
    if let Ok(note) = UnverifiedNote::parse(bytes) {
        assert!(cosignatures(&note, &[key]).map_or(true, |found| found.is_empty()));
    }
    assert!(Recorded::open(bytes, "origin", key).is_err());
    if let Ok(policy) = Policy::parse(bytes) {
        // What nobody signed satisfies only a policy that asks for nobody.
        let judged = policy.judge("o\n0\nAAAA\n\n\u{2014} o AAAAAAA=\n".as_bytes()).expect("a note");
        assert!(judged.signed.is_empty() && judged.missing.len() == policy.witnesses().len());
    }
    if let Some((first, rest)) = bytes.split_first() {
        let status = [200, 409, 422, 500][usize::from(first % 4)];
        let mut exchange = Exchange::new(key, "o\n0\nAAAA\n\n\u{2014} o AAAAAAA=\n", 9, 3);
        assert!(!matches!(exchange.handle(status, rest), Ok(Next::Cosigned { .. })));
        assert!(exchange.old() <= 9);
    }
});
