//! Leaves and statements: an accepted one keeps its bytes, and none is verified that nobody signed; proof files
//! have one encoding.
#![no_main]

use common::{
    entry::UnverifiedEntry,
    note::SignerKey,
    statement::{Said, StatementProof, VerifiedStatement},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(UnverifiedEntry::Statement(statement)) = UnverifiedEntry::parse(bytes) {
        assert_eq!(statement.bytes(), bytes);
        let _ = statement.claimed().said.to_string();
        if let Said::Equivocation(evidence) = &statement.claimed().said {
            let _ = evidence.check();
        }
        if let Ok(key) = SignerKey::from_seed("fuzz.example/ledger", &[0x5a; 32]) {
            assert!(
                VerifiedStatement::alone(statement, key.verifier()).is_err(),
                "nobody signed it"
            );
        }
    }
    if let Ok(proof) = StatementProof::decode(bytes) {
        assert_eq!(proof.encode(), bytes);
        if let Ok(key) = SignerKey::from_seed("fuzz.example/ledger", &[0x5a; 32]) {
            assert!(proof.check(key.verifier()).is_err(), "nobody signed it");
        }
    }
});
