//! `verify`: every byte of a ledger directory, every signature, every body, every chain.
//!
//! Needs no collector: [`ledger::audit`] does all of it, this shows the report.

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
};

use common::{
    ledger_keys::{LedgerKeys, LedgerTrust},
    limits::NOTE_BYTES_MAX,
    proof::{EventProof, PROOF_BYTES_MAX},
    receipt::Receipt,
    statement::{STATEMENT_PROOF_BYTES_MAX, StatementProof},
};
use ledger::{
    Local,
    audit::{self, Audit},
    fsck::{self, Fault, Options, Progress, Seen},
    keys::VERIFIER_KEY,
    tiles::LOG,
};
use serde_json::json;

use super::{
    await_stored,
    cosigned::{self, Cosigned},
    read_file, read_keys,
};
use crate::{
    Exit, Failure, World,
    args::{Output, VerifyArgs},
};

/// Checks and reports.
pub(crate) fn run(args: &VerifyArgs, output: Output, world: &mut World<'_>) -> Result<Exit, Failure> {
    let history = args.keys.as_deref();
    let key = args
        .vkey
        .as_deref()
        .map(|path| read_keys(path, history))
        .transpose()?;
    let storage = open(&args.ledger)?;
    let quiet = output == Output::Jsonl;
    let shown = Mutex::new((0_u64, &mut *world.err));
    let progress = |progress: Progress| {
        // One line for each hundredth, so that a log of it stays short.
        let Ok(mut shown) = shown.lock() else { return };
        let percent = progress.groups * 100 / progress.groups_total.max(1);
        if !quiet && percent > shown.0 && percent.is_multiple_of(10) {
            shown.0 = percent;
            let megabytes = progress.bytes / 1_000_000;
            let _ = writeln!(shown.1, "checked {percent} % of the groups, {megabytes} MB");
        }
    };
    let trusting = Options {
        key: key.as_ref(),
        ..Options::default()
    };
    // With what the history beside the ledger adds.
    let known = fsck::key_of(&storage, &trusting);
    let seen = seen(args, known.as_ref())?;
    let options = Options {
        key: key.as_ref(),
        seen: &seen,
        progress: Some(&progress),
        wait: Some(&await_stored),
    };
    let cosigned = cosigned(args, known.as_ref())?;
    let found = audit::run(&storage, &options);
    let sound = found.report.is_sound();
    match output {
        Output::Json | Output::Jsonl => as_json(&found, sound, &cosigned, output, world)?,
        Output::Table | Output::Wide => as_lines(&found, sound, key.is_some(), &cosigned, world)?,
    }
    Ok(match &cosigned {
        _ if !sound => Exit::Tampered,
        Err(_) => Exit::Tampered,
        Ok(cosigned) if cosigned.too_few().is_some() => Exit::Unwitnessed,
        Ok(_) => Exit::Fine,
    })
}

/// Who cosigned the checkpoint that lies there now, where that is demanded; the inner error is a cosignature that is
/// false. That the ledger's key signed it is checked with all the rest.
fn cosigned(args: &VerifyArgs, key: Option<&LedgerKeys>) -> Result<Result<Cosigned, String>, Failure> {
    if args.witnesses.is_empty() {
        return Ok(Cosigned::judge(None, &[]));
    }
    let policy = match key {
        Some(key) => cosigned::demanded(&args.witnesses, key)?,
        None => {
            let beside = read_keys(&args.ledger.join(VERIFIER_KEY), None)?;
            cosigned::demanded(&args.witnesses, &beside)?
        }
    };
    let note = read_file(&args.ledger.join(LOG).join("checkpoint"), NOTE_BYTES_MAX as u64)?;
    Ok(Cosigned::judge(policy.as_ref(), &note))
}

/// The checkpoints in the files given, each under the signature of the key that the check goes by.
fn seen(args: &VerifyArgs, key: Option<&LedgerKeys>) -> Result<Vec<Seen>, Failure> {
    let Some(key) = key else {
        // No key to judge them by: the report says so of the checkpoint.
        return Ok(Vec::new());
    };
    let open = |path: &PathBuf| {
        let at = path.display().to_string();
        let bytes = read_file(path, PROOF_BYTES_MAX.max(STATEMENT_PROOF_BYTES_MAX) as u64)?;
        match key.open_checkpoint(&note_in(bytes)) {
            Ok(head) => Ok(Seen { at, head }),
            Err(fault) => Err(Failure::Config {
                cause: format!("{at} holds no checkpoint of this ledger: {fault}"),
                remedy:
                    "give a checkpoint, a receipt or a proof that was signed by the key you trust (--vkey)"
                        .into(),
            }),
        }
    };
    args.seen.iter().map(open).collect()
}

/// The checkpoint that a proof or a receipt ends with; anything else is taken for a checkpoint itself.
fn note_in(bytes: Vec<u8>) -> Vec<u8> {
    EventProof::decode(&bytes)
        .map(|proof| proof.receipt)
        .or_else(|_| StatementProof::decode(&bytes).map(|proof| proof.receipt))
        .or_else(|_| Receipt::decode(&bytes))
        .map_or(bytes, |receipt| receipt.checkpoint)
}

fn open(path: &Path) -> Result<Local, Failure> {
    let usage = |cause: String| Failure::Usage {
        cause,
        remedy: "give the directory that holds `groups` and `log`, e.g. COLLECTOR_DIR/ledger".into(),
    };
    if !path.join("log").is_dir() {
        return Err(usage(format!("{} is no ledger", path.display())));
    }
    Local::open_reader(path).map_err(|error| usage(error.to_string()))
}

fn as_lines(
    found: &Audit,
    sound: bool,
    key_given: bool,
    cosigned: &Result<Cosigned, String>,
    world: &mut World<'_>,
) -> Result<(), Failure> {
    let (out, report) = (&mut *world.out, &found.report);
    for fault in &report.faults {
        writeln!(out, "FAULT {fault}")?;
    }
    if report.faults_dropped > 0 {
        writeln!(out, "FAULT and {} more", report.faults_dropped)?;
    }
    for note in &report.notes {
        writeln!(out, "note  {note}")?;
    }
    if let Some(head) = &report.checkpoint {
        writeln!(
            out,
            "checkpoint  {} leaves, root {}, {}",
            head.size, head.root, head.origin
        )?;
    }
    match cosigned {
        Ok(cosigned) => cosigned.lines("witness     ", world)?,
        Err(fault) => writeln!(out, "FAULT {fault}")?,
    }
    let out = &mut *world.out;
    writeln!(
        out,
        "checked     {} leaves in {} groups, {} tiles and bundles, {} bytes",
        report.counts.leaves, report.counts.groups, report.counts.resources, report.counts.bytes
    )?;
    writeln!(
        out,
        "chains      {} hosts, {} batches, {} events",
        found.hosts.len(),
        found.hosts.values().map(|chain| chain.batches).sum::<u64>(),
        found.hosts.values().map(|chain| chain.events).sum::<u64>()
    )?;
    writeln!(out, "statements  {} of the collector", found.statements)?;
    if found.pruned > 0 {
        writeln!(out, "pruned      {} bodies, by certificates", found.pruned)?;
    }
    if !key_given {
        writeln!(
            out,
            "note  the verifier key beside the ledger was believed; give --vkey to trust your own"
        )?;
    }
    let too_few = cosigned.as_ref().ok().and_then(Cosigned::too_few);
    let verdict = match (sound && cosigned.is_ok(), too_few) {
        (false, _) => "TAMPERED OR DAMAGED".to_owned(),
        (true, Some(fault)) => format!("NOT WITNESSED: sound, but {fault}"),
        (true, None) => "sound".to_owned(),
    };
    writeln!(out, "{verdict}")?;
    Ok(())
}

fn as_json(
    found: &Audit,
    sound: bool,
    cosigned: &Result<Cosigned, String>,
    output: Output,
    world: &mut World<'_>,
) -> Result<(), Failure> {
    let report = &found.report;
    let fault = |fault: &Fault| {
        json!({
            "object": fault.object, "offset": fault.offset, "leaf": fault.leaf,
            "cause": fault.cause.to_string(), "what": fault.what,
        })
    };
    let faults: Vec<_> = report.faults.iter().map(fault).collect();
    let whole = json!({
        "sound": sound,
        "faults": faults,
        "faults_dropped": report.faults_dropped,
        "notes": report.notes,
        "witnesses": cosigned.as_ref().map(Cosigned::as_json).unwrap_or_default(),
        "witnesses_fault": match cosigned {
            Ok(cosigned) => cosigned.too_few(),
            Err(fault) => Some(fault.clone()),
        },
        "checkpoint": report.checkpoint.as_ref().map(|head| json!({
            "origin": head.origin, "size": head.size, "root": head.root,
        })),
        "checked": {
            "leaves": report.counts.leaves, "groups": report.counts.groups,
            "resources": report.counts.resources, "bytes": report.counts.bytes,
            "statements": found.statements,
            "pruned": found.pruned,
            "hosts": found.hosts.iter().map(|(host, chain)| json!({
                "host": host, "batches": chain.batches, "events": chain.events,
            })).collect::<Vec<_>>(),
        },
    });
    if output == Output::Json {
        serde_json::to_writer_pretty(&mut *world.out, &whole)?;
    } else {
        serde_json::to_writer(&mut *world.out, &whole)?;
    }
    writeln!(world.out)?;
    Ok(())
}
