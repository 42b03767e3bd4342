//! A log that others wrote (Tessera) and its witness client against our witness.
//!
//! `cargo xtask setup` builds Tessera's `posix-oneshot` into the directory that `HOSTLEDGER_TOOLS_BIN` names.

use std::{env, fs, path::PathBuf, process::Command};

use common::{
    checkpoint,
    note::{SignerKey, UnverifiedNote},
    witness::cosignatures,
};

use crate::witness_process::Witness;

fn tessera() -> PathBuf {
    let default = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/bin"));
    env::var_os("HOSTLEDGER_TOOLS_BIN")
        .map_or_else(default, PathBuf::from)
        .join("posix-oneshot")
}

#[test]
fn tesseras_witness_client_is_served_while_its_log_grows() {
    let key = SignerKey::from_seed("tessera.example/log", &[3; 32]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let witness = Witness::start("witness.example/w1", &[key.verifier().to_string()], "");
    fs::write(at("log.key"), key.encode_secret()).unwrap();
    fs::write(
        at("policy"),
        format!("witness w1 {} {}\nquorum w1\n", witness.key, witness.url()),
    )
    .unwrap();
    fs::create_dir(at("entries")).unwrap();
    let mut sizes = Vec::new();
    for (round, count) in [1, 2, 300, 5].into_iter().enumerate() {
        for n in 0..count {
            fs::write(
                at("entries").join(format!("{round}-{n}")),
                format!("entry {round} {n}"),
            )
            .unwrap();
        }
        // A fresh client each time: it must learn the witness's size from our 409.
        let done = Command::new(tessera())
            .arg("--storage_dir")
            .arg(at("log"))
            .arg("--entries")
            .arg(at("entries").join(format!("{round}-*")))
            .arg("--private_key")
            .arg(at("log.key"))
            .arg("--witness_policy_file")
            .arg(at("policy"))
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let note = fs::read(at("log").join("checkpoint")).unwrap();
        let head = checkpoint::open(&note, key.verifier()).unwrap();
        let parsed = UnverifiedNote::parse(&note).unwrap();
        assert_eq!(
            cosignatures(&parsed, &[&witness.key]).unwrap().len(),
            1,
            "size {}",
            head.size
        );
        sizes.push(head.size);
    }
    assert!(sizes.is_sorted() && sizes[3] >= 308, "{sizes:?}");
    println!("evidence: Tessera's witness client took our cosignatures of sizes {sizes:?}");
}
