//! `anchor verify`: does a ledger still begin with every checkpoint that was anchored, and since when did each exist?
//!
//! Needs no collector: [`ledger::anchor`] judges, this reads files and shows the verdicts. A time is only shown where a
//! trusted authority signed it; the collector's own clock is called just that.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use common::{
    anchor::{ANCHOR_FILE_BYTES_MAX, Damage, begins, scan},
    answer::Moment,
    checkpoint::Checkpoint,
    ids::WallNanos,
    split::checkpoint_at_end,
};
use ledger::{
    anchor::{
        HeadError, Held, Standing,
        stamp::{AUTHORITIES_BYTES_MAX, Authorities, StampFault, VerifiedStamp},
    },
    storage::Storage,
    tiles::TileError,
};
use serde_json::{Value, json};

use super::{compare::open, read_file, read_keys};
use crate::{
    Exit, Failure, World,
    args::{AnchorArgs, AnchorCommand, AnchorVerifyArgs, Output},
    remote::authorities as https_authorities,
};

/// Runs the subcommand.
pub(crate) fn run(args: &AnchorArgs, output: Output, world: &mut World<'_>) -> Result<Exit, Failure> {
    let AnchorCommand::Verify(args) = &args.command;
    verify(args, output, world)
}

/// A checkpoint that was anchored: where it was found, and what lies beside it.
struct Anchor {
    file: String,
    offset: u64,
    recorded: Option<WallNanos>,
    note: Vec<u8>,
    response: Option<Vec<u8>>,
}

/// One anchor and what came of it.
struct Judged {
    anchor: Anchor,
    checkpoint: Option<Checkpoint>,
    standing: Standing,
    stamp: Stamp,
}

/// What is known of the time.
enum Stamp {
    /// No time stamp lies beside the checkpoint.
    None,
    /// One does, and no authority was named to judge it by.
    Unjudged,
    Verified(VerifiedStamp),
    Refused(StampFault),
}

impl Judged {
    /// What is wrong with it, if anything is.
    fn fault(&self) -> Option<String> {
        let leaves = self.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.size);
        let ledger = match &self.standing {
            Standing::Prefix => None,
            Standing::Gone { leaves: found } => Some(format!(
                "GONE: the ledger has {found} leaves, {leaves} were anchored: an older copy was put in its place, or its \
                 end was cut off"
            )),
            Standing::Split(split) => Some(format!("SPLIT VIEW: {}", split.1)),
            Standing::Unreadable(cause) => Some(format!("the ledger's tiles prove nothing: {cause}")),
            Standing::NotOurs(cause) => Some(format!("not a checkpoint of this ledger: {cause}")),
        };
        let stamp = match &self.stamp {
            Stamp::Refused(fault) => Some(format!("BAD TIME STAMP: {fault}")),
            _ => None,
        };
        match (ledger, stamp) {
            (Some(ledger), Some(stamp)) => Some(format!("{ledger}; {stamp}")),
            (ledger, stamp) => ledger.or(stamp),
        }
    }
}

fn verify(args: &AnchorVerifyArgs, output: Output, world: &mut World<'_>) -> Result<Exit, Failure> {
    let key = read_keys(&args.vkey, args.keys.as_deref())?;
    let authorities = args.tsa_ca.as_deref().map(read_authorities).transpose()?;
    let storage: Arc<dyn Storage> = open(&args.ledger, &https_authorities(args.ca.as_deref())?)?;
    let (mut anchors, mut damage) = (Vec::new(), Vec::new());
    for path in &args.anchors {
        read_anchors(path, &mut anchors, &mut damage)?;
    }
    if let Some(directory) = &args.extract {
        extract(directory, &anchors)?;
    }
    let held = match Held::open(storage, &key) {
        Ok(held) => held,
        // Nobody is accused because a disk or a server could not be read.
        Err(error @ (HeadError::Storage(_) | HeadError::Tile(TileError::Storage(_)))) => {
            return Err(Failure::Remote {
                url: args.ledger.clone(),
                cause: error.to_string(),
            });
        }
        Err(error) => {
            let lines = format!("FAULT {error}");
            let value = json!({ "sound": false, "ledger_fault": error.to_string() });
            show(output, world, &value, &[lines, "TAMPERED OR DAMAGED".to_owned()])?;
            return Ok(Exit::Tampered);
        }
    };
    let judge = |anchor: Anchor| {
        let (checkpoint, standing) = held.judge(&anchor.note);
        let stamp = match (&anchor.response, &authorities) {
            (None, _) => Stamp::None,
            (Some(_), None) => Stamp::Unjudged,
            (Some(response), Some(authorities)) => match authorities.verify(response, &anchor.note, None) {
                Ok(stamp) => Stamp::Verified(stamp),
                Err(fault) => Stamp::Refused(fault),
            },
        };
        Judged {
            anchor,
            checkpoint,
            standing,
            stamp,
        }
    };
    let judged: Vec<Judged> = anchors.into_iter().map(judge).collect();
    let proof = write_split(args, &judged)?;
    let altered = damage
        .iter()
        .any(|(_, damage)| !matches!(damage, Damage::Torn { .. }));
    let sound = !altered && judged.iter().all(|judged| judged.fault().is_none());
    let value = as_json(&held.head, &judged, &damage, proof.as_deref(), sound);
    show(
        output,
        world,
        &value,
        &as_lines(&held.head, &judged, &damage, proof.as_deref(), sound),
    )?;
    Ok(if sound { Exit::Fine } else { Exit::Tampered })
}

fn read_authorities(path: &Path) -> Result<Authorities, Failure> {
    let pem = read_file(path, AUTHORITIES_BYTES_MAX)?;
    Authorities::from_pem(&pem).map_err(|error| Failure::Config {
        cause: format!("{}: {error}", path.display()),
        remedy: "give a PEM file with the certificates of the authorities whose time stamps you trust".into(),
    })
}

/// An anchor file, or any other file that ends in a checkpoint: what a sink was sent.
fn read_anchors(
    path: &Path,
    anchors: &mut Vec<Anchor>,
    damage: &mut Vec<(String, Damage)>,
) -> Result<(), Failure> {
    let bytes = read_file(path, ANCHOR_FILE_BYTES_MAX)?;
    let file = path.display().to_string();
    if !begins(&bytes)
        && let Some(note) = checkpoint_at_end(&bytes)
    {
        anchors.push(Anchor {
            file,
            offset: (bytes.len() - note.len()) as u64,
            recorded: None,
            note: note.to_vec(),
            response: None,
        });
        return Ok(());
    }
    let found = scan(&bytes);
    damage.extend(found.damage.into_iter().map(|damage| (file.clone(), damage)));
    anchors.extend(found.records.into_iter().map(|found| Anchor {
        file: file.clone(),
        offset: found.offset,
        recorded: Some(found.record.at),
        note: found.record.note,
        response: found.record.response,
    }));
    Ok(())
}

/// Checkpoints and stamps as files of their own, for other programs.
fn extract(directory: &Path, anchors: &[Anchor]) -> Result<(), Failure> {
    let write = |path: PathBuf, bytes: &[u8]| {
        fs::write(&path, bytes).map_err(|cause| Failure::File {
            verb: "write",
            path: path.display().to_string(),
            cause,
        })
    };
    for (number, anchor) in anchors.iter().enumerate() {
        write(directory.join(format!("{number}.checkpoint")), &anchor.note)?;
        if let Some(response) = &anchor.response {
            write(directory.join(format!("{number}.tsr")), response)?;
        }
    }
    Ok(())
}

/// The proof of the first split view, for everybody.
fn write_split(args: &AnchorVerifyArgs, judged: &[Judged]) -> Result<Option<PathBuf>, Failure> {
    let split = judged.iter().find_map(|judged| match &judged.standing {
        Standing::Split(split) => Some(split),
        _ => None,
    });
    let Some(split) = split else { return Ok(None) };
    let path = args
        .file
        .clone()
        .unwrap_or_else(|| PathBuf::from("split-view.proof"));
    fs::write(&path, split.0.encode()).map_err(|cause| Failure::File {
        verb: "write",
        path: path.display().to_string(),
        cause,
    })?;
    Ok(Some(path))
}

fn show(output: Output, world: &mut World<'_>, value: &Value, lines: &[String]) -> Result<(), Failure> {
    match output {
        Output::Json => writeln!(world.out, "{value:#}")?,
        Output::Jsonl => writeln!(world.out, "{value}")?,
        Output::Table | Output::Wide => {
            for line in lines {
                writeln!(world.out, "{line}")?;
            }
        }
    }
    Ok(())
}

fn as_lines(
    head: &Checkpoint,
    judged: &[Judged],
    damage: &[(String, Damage)],
    proof: Option<&Path>,
    sound: bool,
) -> Vec<String> {
    let mut lines = Vec::new();
    for (file, damage) in damage {
        let word = if matches!(damage, Damage::Torn { .. }) {
            "note "
        } else {
            "FAULT"
        };
        lines.push(format!("{word} {file}: {damage}"));
    }
    for judged in judged {
        let Anchor {
            file,
            offset,
            recorded,
            ..
        } = &judged.anchor;
        let place = format!("{file} at {offset}");
        let by = recorded.map_or_else(String::new, |at| {
            format!(", by the collector's clock {}", Moment(at))
        });
        match (judged.fault(), &judged.checkpoint) {
            (Some(fault), _) => lines.push(format!("FAULT {place}{by}: {fault}")),
            (None, checkpoint) => {
                let leaves = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.size);
                lines.push(format!(
                    "fine  {place}{by}: {leaves} leaves, the ledger begins with them"
                ));
            }
        }
        match &judged.stamp {
            Stamp::Verified(stamp) => {
                let accuracy = match stamp.accuracy_ns {
                    Some(ns) => format!("its accuracy of {} ms added", ns.div_ceil(1_000_000)),
                    None => "it states no accuracy".to_owned(),
                };
                lines.push(format!(
                    "      existed before {} by the authority's stamp {} ({accuracy})",
                    Moment(stamp.existed_before()),
                    stamp.serial
                ));
            }
            Stamp::Unjudged => lines.push("      has a time stamp, not judged: give --tsa-ca".to_owned()),
            Stamp::None | Stamp::Refused(_) => {}
        }
    }
    if let Some(path) = proof {
        let path = path.display();
        lines.push(format!(
            "proof written to {path}; anybody checks it with hostledger proof check"
        ));
    }
    lines.push(format!(
        "ledger  {} leaves, root {}, {}",
        head.size, head.root, head.origin
    ));
    lines.push(format!("anchors {}", judged.len()));
    lines.push(if sound { "sound" } else { "TAMPERED OR DAMAGED" }.to_owned());
    lines
}

fn as_json(
    head: &Checkpoint,
    judged: &[Judged],
    damage: &[(String, Damage)],
    proof: Option<&Path>,
    sound: bool,
) -> Value {
    let anchor = |judged: &Judged| {
        let standing = match &judged.standing {
            Standing::Prefix => "prefix",
            Standing::Gone { .. } => "gone",
            Standing::Split(_) => "split",
            Standing::Unreadable(_) => "unreadable",
            Standing::NotOurs(_) => "not_ours",
        };
        let stamp = match &judged.stamp {
            Stamp::None => Value::Null,
            Stamp::Unjudged => json!({ "verdict": "not_judged" }),
            Stamp::Refused(fault) => json!({ "verdict": "refused", "fault": fault.to_string() }),
            Stamp::Verified(stamp) => json!({
                "verdict": "verified",
                "existed_before": Moment(stamp.existed_before()),
                "generated": Moment(stamp.generated),
                "accuracy_ns": stamp.accuracy_ns,
                "serial": stamp.serial,
            }),
        };
        json!({
            "file": judged.anchor.file,
            "offset": judged.anchor.offset,
            "collector_clock": judged.anchor.recorded.map(Moment),
            "size": judged.checkpoint.as_ref().map(|checkpoint| checkpoint.size),
            "root": judged.checkpoint.as_ref().map(|checkpoint| checkpoint.root),
            "standing": standing,
            "fault": judged.fault(),
            "stamp": stamp,
        })
    };
    json!({
        "sound": sound,
        "ledger": { "origin": head.origin, "size": head.size, "root": head.root },
        "anchors": judged.iter().map(anchor).collect::<Vec<_>>(),
        "damage": damage.iter().map(|(file, damage)| json!({
            "file": file,
            "what": damage.to_string(),
            "torn": matches!(damage, Damage::Torn { .. }),
        })).collect::<Vec<_>>(),
        "split_view_proof": proof,
    })
}
