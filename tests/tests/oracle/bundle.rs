//! Audit bundles before two verifiers: ours and one in Python that was written from the documents.

use std::{fs, path::Path, process::Command, sync::Arc};

use common::{
    bundle::{self, Bundle, Selection},
    ids::Hash,
    note::WitnessKey,
    witness::{Policy, PolicyWitness},
};
use ledger::Local;
use serde_json::{Value, json};

use crate::{
    shapes::{ledger_key, shapes, witness, world},
    verifier::{Verifier, python, script},
};

/// Mutations of the larger bundles, half of them with the hash at the end made anew.
const MUTATIONS: u64 = 4_000;

/// Our verdict as the documents have it, without the sentence that is each verifier's own.
fn ours(bytes: &[u8], policy: Option<&Policy>) -> Value {
    match bundle::check(bytes, &ledger_key(), policy) {
        Ok(report) => serde_json::to_value(report).unwrap(),
        Err(fault) => json!({ "verdict": "refused", "reason": fault.reason() }),
    }
}

fn theirs(verifier: &mut Verifier, bytes: &[u8]) -> Value {
    let mut report = verifier.judge(bytes);
    report.as_object_mut().unwrap().remove("fault");
    report
}

fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some((covered, digest)) = bytes.split_last_chunk_mut::<32>() {
        *digest = Hash::of(covered).0;
    }
    bytes
}

#[test]
fn bundles_of_every_shape_are_judged_alike_by_both_verifiers() {
    let mut verifier = Verifier::start(&ledger_key().to_string(), &[]);
    let shapes = shapes();
    let (mut complete, mut events, mut statements) = (0, 0, 0);
    for (name, bytes) in &shapes {
        let report = ours(bytes, None);
        assert_eq!(report["verdict"], "sound", "{name}: {report}");
        assert_eq!(theirs(&mut verifier, bytes), report, "{name}");
        complete += usize::from(report["complete"] == true);
        events += report["events"].as_array().unwrap().len();
        statements += report["statements"].as_array().unwrap().len();
    }
    assert!(
        complete >= 4 && complete < shapes.len() && events > 40 && statements > 20,
        "{complete} {events} {statements}"
    );
    println!(
        "evidence: {} bundles ({complete} complete, {events} events, {statements} statements) judged alike, no false alarm",
        shapes.len()
    );
}

#[test]
fn cosignatures_are_weighed_alike_by_both_verifiers() {
    let shapes = shapes();
    let keys: Vec<WitnessKey> = [1, 2, 3].map(|seed| witness(seed).verifier().clone()).to_vec();
    let texts: Vec<String> = keys.iter().map(ToString::to_string).collect();
    for quorum in 1..=3 {
        let demanded = quorum.to_string();
        let mut args: Vec<&str> = texts.iter().flat_map(|text| ["--witness", text]).collect();
        args.extend(["--quorum", &demanded]);
        let mut verifier = Verifier::start(&ledger_key().to_string(), &args);
        let witnesses = keys.iter().map(|key| PolicyWitness {
            key: key.clone(),
            url: None,
        });
        let policy = Policy::of(witnesses.collect(), quorum).unwrap();
        for (name, bytes) in &shapes {
            let report = ours(bytes, Some(&policy));
            assert_eq!(theirs(&mut verifier, bytes), report, "{name}");
            let expected = *name == "with cosignatures" && quorum < 3;
            assert_eq!(report["verdict"] == "sound", expected, "{name}: {report}");
        }
    }
}

#[test]
fn every_flipped_byte_of_a_small_bundle_is_refused_by_both() {
    let mut verifier = Verifier::start(&ledger_key().to_string(), &[]);
    let (_, small) = shapes().remove(0);
    let good = ours(&small, None);
    let (mut plain, mut refused, mut other_question) = (0, 0, 0);
    for at in 0..small.len() {
        let mut bad = small.clone();
        bad[at] ^= 1 << (at % 8);
        let verdict = ours(&bad, None);
        assert_eq!(verdict["verdict"], "refused", "byte {at}");
        assert_eq!(theirs(&mut verifier, &bad), verdict, "byte {at}");
        plain += 1;
        // The same change by somebody who makes the hash at the end anew.
        let bad = resealed(bad);
        let verdict = ours(&bad, None);
        assert_eq!(theirs(&mut verifier, &bad), verdict, "byte {at}, resealed");
        if verdict["verdict"] == "refused" {
            refused += 1;
        } else {
            assert_eq!(
                (&verdict["events"], &verdict["ledger"]),
                (&good["events"], &good["ledger"]),
                "byte {at}"
            );
            other_question += 1;
        }
    }
    println!(
        "evidence: {plain} of {} bytes flipped: refused by both; resealed: {refused} refused by both, {other_question} prove the same to both",
        small.len()
    );
}

#[test]
fn thousands_of_seeded_mutations_are_refused_by_both() {
    let mut verifier = Verifier::start(&ledger_key().to_string(), &[]);
    let shapes = shapes();
    let mut seed = 0x5eed_u64;
    let mut next = move |below: usize| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((seed >> 33) % below as u64).unwrap()
    };
    let (mut plain, mut refused, mut same) = (0, 0, 0);
    for round in 0..MUTATIONS {
        let (name, good) = &shapes[next(shapes.len())];
        let mut bad = good.clone();
        let at = next(bad.len());
        match next(5) {
            0 => bad[at] ^= 1 << next(8),
            1 => drop(bad.drain(at..(at + 1 + next(64)).min(good.len()))),
            2 => bad.insert(at, u8::try_from(next(256)).unwrap()),
            3 => bad.truncate(at),
            _ => {
                // Two stretches as long as a hash change places.
                let other = next(good.len());
                let length = 32.min(good.len() - at.max(other));
                for byte in 0..length {
                    bad.swap(at + byte, other + byte);
                }
            }
        }
        if bad == *good {
            continue;
        }
        if round % 2 == 0 {
            let verdict = ours(&bad, None);
            assert_eq!(verdict["verdict"], "refused", "round {round}, {name}");
            assert_eq!(theirs(&mut verifier, &bad), verdict, "round {round}, {name}");
            plain += 1;
            continue;
        }
        let bad = resealed(bad);
        let verdict = ours(&bad, None);
        assert_eq!(
            theirs(&mut verifier, &bad),
            verdict,
            "round {round}, {name}, resealed"
        );
        if verdict["verdict"] == "refused" {
            refused += 1;
        } else {
            // Signed by nobody: the question and the lines of witnesses that were not given.
            let facts = |report: &Value| {
                (
                    report["events"].clone(),
                    report["statements"].clone(),
                    report["ledger"].clone(),
                )
            };
            assert_eq!(facts(&verdict), facts(&ours(good, None)), "round {round}, {name}");
            same += 1;
        }
    }
    println!(
        "evidence: {plain} mutations refused by both; resealed: {refused} refused by both for the same reason, {same} prove the same to both"
    );
}

fn hostledger(faked: bool) -> Command {
    let bin = std::env::var_os("HOSTLEDGER_BIN_DIR");
    let default = || {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../target/debug")
            .into_os_string()
    };
    let program = Path::new(&bin.unwrap_or_else(default)).join("hostledger");
    ten_years_on(faked, &program)
}

/// A program whose clock is ten years ahead.
fn ten_years_on(faked: bool, program: &Path) -> Command {
    if !faked {
        return Command::new(program);
    }
    let mut command = Command::new("faketime");
    command.args(["-f", "+3653d"]).arg(program);
    command
}

fn said(command: &mut Command) -> String {
    let out = command.output().unwrap();
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(error.is_empty(), "{error}");
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn ten_years_on_both_verifiers_say_what_they_say_today() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (ledger, hosts) = world(Arc::new(Local::open_writer(&path("ledger")).unwrap()));
    drop(ledger);
    let vkey = path("ledger/ledger.vkey");
    let year = |faked| {
        said(ten_years_on(faked, &python()).args(["-c", "import time; print(time.gmtime().tm_year)"]))
    };
    let (now, then): (u64, u64) = (
        year(false).trim().parse().unwrap(),
        year(true).trim().parse().unwrap(),
    );
    assert!(then >= now + 9, "the clock is not faked: {now}, {then}");
    let asked_at = |faked| {
        let file = path("asked.bundle");
        let mut export = hostledger(faked);
        export
            .args(["audit", "export", "--ledger"])
            .arg(path("ledger"))
            .args(["--since", "now", "-f"])
            .arg(&file);
        said(&mut export);
        match Bundle::decode(&fs::read(&file).unwrap()).unwrap().selection {
            Selection::Interval { since, .. } => since.0,
            Selection::Events(_) => 0,
        }
    };
    let years = (asked_at(true) - asked_at(false)) / 1_000_000_000 / 86_400 / 365;
    assert_eq!(years, 10, "the program's clock is not faked");

    let mut judged = 0;
    let host = hosts[2].to_string();
    for asked in [
        vec![
            "--since",
            "2026-01-02T03:04:01Z",
            "--until",
            "2026-01-02T03:04:10Z",
            "--host",
            &host,
        ],
        vec!["--since", "2026-01-01", "--until", "2026-01-03"],
        vec!["--event", &format!("{host}:17")],
    ] {
        let file = path("audit.bundle");
        let mut export = hostledger(false);
        export
            .args(["audit", "export", "--ledger"])
            .arg(path("ledger"))
            .args(&asked)
            .arg("-f")
            .arg(&file);
        said(&mut export);
        for damaged in [false, true] {
            if damaged {
                let mut bytes = fs::read(&file).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(&file, bytes).unwrap();
            }
            let rust = |faked| {
                let mut verify = hostledger(faked);
                said(
                    verify
                        .args(["-o", "json", "audit", "verify"])
                        .arg(&file)
                        .arg("--vkey")
                        .arg(&vkey),
                )
            };
            let python = |faked| {
                said(
                    ten_years_on(faked, &python())
                        .arg(script())
                        .arg("--vkey")
                        .arg(&vkey)
                        .arg(&file),
                )
            };
            assert_eq!((rust(true), python(true)), (rust(false), python(false)));
            let read = |text: String| {
                let mut report: Value = serde_json::from_str(&text).unwrap();
                report.as_object_mut().unwrap().remove("fault");
                report
            };
            let report = read(rust(true));
            assert_eq!(read(python(true)), report);
            assert_eq!(report["verdict"] == "sound", !damaged, "{report}");
            judged += 1;
        }
    }
    println!("evidence: {judged} bundles judged alike by both in {now} and in {then}");
}
