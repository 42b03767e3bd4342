//! `proof`: fetch the proof of an event or of a statement, or check one with no network.

use std::{fs, path::Path};

use common::{
    answer::Moment,
    checkpoint::Checkpoint,
    event::Event,
    ledger_keys::LedgerKeys,
    proof::{self, EventProof, PROOF_BYTES_MAX, ProvenEvent},
    split::{ProvenSplit, SPLIT_BYTES_MAX, SplitProof, checkpoint_at_end},
    statement::{self, Accusation, ProvenStatement, STATEMENT_PROOF_BYTES_MAX, StatementProof},
};
use serde_json::json;

use super::{
    cosigned::{self, Cosigned},
    read_file, read_keys,
};
use crate::{
    Exit, Failure, World,
    args::{Output, ProofArgs, ProofCommand, WitnessArgs},
    client::Client,
};

/// What names a statement instead of an event; a host of that name is named by its id.
const STATEMENT: &str = "statement:";

/// Fetches or checks.
pub(crate) fn run(
    client: impl FnOnce() -> Result<Client, Failure>,
    args: &ProofArgs,
    output: Output,
    world: &mut World<'_>,
) -> Result<Exit, Failure> {
    match (&args.command, &args.event) {
        (
            Some(ProofCommand::Check {
                file,
                vkey,
                keys,
                witnesses,
            }),
            _,
        ) => check(
            file,
            &read_keys(vkey, keys.as_deref())?,
            witnesses,
            output,
            world,
        ),
        (None, Some(event)) => fetch(&client()?, event, args.file.as_deref(), world),
        (None, None) => Err(Failure::Usage {
            cause: "no event was named".into(),
            remedy: "write hostledger proof <host>:<event>, hostledger proof statement:<number>, or hostledger proof check FILE --vkey FILE"
                .into(),
        }),
    }
}

fn fetch(client: &Client, event: &str, file: Option<&Path>, world: &mut World<'_>) -> Result<Exit, Failure> {
    // What cannot be decoded would fail the check later, when the collector may be gone.
    let bytes = match event.strip_prefix(STATEMENT) {
        Some(number) => {
            let bytes = client.bytes("proof", &vec![("statement", number.to_owned())])?;
            StatementProof::decode(&bytes).map_err(|error| Failure::Answer(error.to_string()))?;
            bytes
        }
        None => {
            let bytes = client.bytes("proof", &vec![("event", event.to_owned())])?;
            EventProof::decode(&bytes).map_err(|error| Failure::Answer(error.to_string()))?;
            bytes
        }
    };
    match file {
        Some(path) if path == Path::new("-") => world.out.write_all(&bytes)?,
        file => {
            let named = event.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '.', "-");
            let default = format!("{named}.proof");
            let path = file.unwrap_or(Path::new(&default));
            fs::write(path, &bytes).map_err(|cause| Failure::File {
                verb: "write",
                path: path.display().to_string(),
                cause,
            })?;
            writeln!(world.out, "{}", path.display())?;
        }
    }
    Ok(Exit::Fine)
}

fn check(
    file: &Path,
    key: &LedgerKeys,
    witnesses: &WitnessArgs,
    output: Output,
    world: &mut World<'_>,
) -> Result<Exit, Failure> {
    let bytes = read_file(
        file,
        PROOF_BYTES_MAX
            .max(STATEMENT_PROOF_BYTES_MAX)
            .max(SPLIT_BYTES_MAX) as u64,
    )?;
    if SplitProof::begins(&bytes) {
        return match SplitProof::decode(&bytes).and_then(|proof| proof.check(key)) {
            Ok(proven) => show_split(&proven, output, world),
            Err(fault) => not_proven(&fault.to_string(), output, world),
        };
    }
    let policy = cosigned::demanded(witnesses, key)?;
    let judged = Cosigned::judge(policy.as_ref(), checkpoint_at_end(&bytes).unwrap_or_default());
    if StatementProof::begins(&bytes) {
        return match (statement::check(&bytes, key), judged) {
            (Err(fault), _) => not_proven(&fault.to_string(), output, world),
            (_, Err(fault)) => not_proven(&fault, output, world),
            (Ok(proven), Ok(cosigned)) => match cosigned.too_few() {
                Some(fault) => unwitnessed(&fault, &cosigned, output, world),
                None => show_statement(&proven, &cosigned, output, world),
            },
        };
    }
    let (proven, cosigned) = match (proof::check(&bytes, key), judged) {
        (Err(fault), _) => return not_proven(&fault.to_string(), output, world),
        (_, Err(fault)) => return not_proven(&fault, output, world),
        (Ok(proven), Ok(cosigned)) => (proven, cosigned),
    };
    if let Some(fault) = cosigned.too_few() {
        return unwitnessed(&fault, &cosigned, output, world);
    }
    let event = Event::decode(&proven.event);
    match output {
        Output::Json | Output::Jsonl => {
            let said = json!({
                "proven": true, "host": proven.host, "index": proven.index, "leaf": proven.leaf,
                "batch": proven.header.fields().sequence,
                "checkpoint": { "origin": proven.checkpoint.origin, "size": proven.checkpoint.size,
                                "root": proven.checkpoint.root },
                "witnesses": cosigned.as_json(), "event": event.ok(),
            });
            writeln!(world.out, "{said}")?;
        }
        Output::Table | Output::Wide => lines(&proven, &cosigned, event.as_ref().ok(), world)?,
    }
    Ok(Exit::Fine)
}

/// What the file claims is proven, and those whose word was asked for besides did not give it.
fn unwitnessed(
    fault: &str,
    cosigned: &Cosigned,
    output: Output,
    world: &mut World<'_>,
) -> Result<Exit, Failure> {
    match output {
        Output::Json | Output::Jsonl => {
            let said = json!({ "proven": false, "fault": fault, "witnesses": cosigned.as_json() });
            writeln!(world.out, "{said}")?;
        }
        Output::Table | Output::Wide => {
            writeln!(world.out, "NOT WITNESSED: the proof holds, but {fault}")?;
            cosigned.lines("  ", world)?;
        }
    }
    Ok(Exit::Unwitnessed)
}

fn show_split(proven: &ProvenSplit, output: Output, world: &mut World<'_>) -> Result<Exit, Failure> {
    match output {
        Output::Json | Output::Jsonl => {
            let view = |head: &Checkpoint| json!({ "size": head.size, "root": head.root });
            let said = json!({
                "proven": true, "split_view": true, "origin": proven.smaller.origin,
                "smaller": view(&proven.smaller), "larger": view(&proven.larger),
                "root_at_smaller": proven.root,
            });
            writeln!(world.out, "{said}")?;
        }
        Output::Table | Output::Wide => writeln!(world.out, "proven: {proven}")?,
    }
    Ok(Exit::Fine)
}

fn not_proven(fault: &str, output: Output, world: &mut World<'_>) -> Result<Exit, Failure> {
    match output {
        Output::Json | Output::Jsonl => {
            let said = json!({ "proven": false, "fault": fault });
            writeln!(world.out, "{said}")?;
        }
        Output::Table | Output::Wide => writeln!(world.out, "NOT PROVEN: {fault}")?,
    }
    Ok(Exit::Tampered)
}

/// A proven statement is the collector's word; an equivocation in it was judged by what the host signed.
fn show_statement(
    proven: &ProvenStatement,
    cosigned: &Cosigned,
    output: Output,
    world: &mut World<'_>,
) -> Result<Exit, Failure> {
    let fields = proven.statement.fields();
    let checkpoint = &proven.checkpoint;
    let accusation = proven.accusation;
    match output {
        Output::Json | Output::Jsonl => {
            let said = json!({
                "proven": true, "statement": fields.number, "leaf": proven.leaf,
                "at": Moment(fields.at), "signer": fields.signer,
                "checkpoint": { "origin": checkpoint.origin, "size": checkpoint.size,
                                "root": checkpoint.root },
                "witnesses": cosigned.as_json(), "said": fields.said,
                "proven_by_host": accusation.is_some_and(|accusation| accusation.by_host),
                "key_epoch": accusation.map(|accusation| accusation.key_epoch),
            });
            writeln!(world.out, "{said}")?;
        }
        Output::Table | Output::Wide => {
            let out = &mut *world.out;
            writeln!(out, "proven: ledger {}", checkpoint.origin)?;
            writeln!(
                out,
                "  stated as number {} at {} by its own clock",
                fields.number,
                Moment(fields.at)
            )?;
            writeln!(
                out,
                "  and holds that statement as leaf {} of {}",
                proven.leaf, checkpoint.size
            )?;
            writeln!(out, "  under root {}", checkpoint.root)?;
            cosigned.lines("  which ", world)?;
            let out = &mut *world.out;
            if let Some(host) = fields.said.host() {
                writeln!(out, "host {host}:")?;
            }
            writeln!(out, "{}", fields.said)?;
            match accusation {
                None => {}
                Some(Accusation { by_host: true, .. }) => writeln!(
                    out,
                    "both headers in it are signed by that host: this needs nobody else's word"
                )?,
                Some(Accusation { key_epoch, .. }) => writeln!(
                    out,
                    "the first header in it is signed by a key of key epoch {key_epoch}, the second by that key or the \
                     one it announces: that it is this host's follows from the host's own headers in the ledger, which \
                     this file does not hold"
                )?,
            }
        }
    }
    Ok(Exit::Fine)
}

fn lines(
    proven: &ProvenEvent,
    cosigned: &Cosigned,
    event: Option<&Event>,
    world: &mut World<'_>,
) -> Result<(), Failure> {
    let out = &mut *world.out;
    let checkpoint = &proven.checkpoint;
    writeln!(out, "proven: host {}", proven.host)?;
    writeln!(
        out,
        "  signed event {} in batch {}",
        proven.index,
        proven.header.fields().sequence
    )?;
    writeln!(
        out,
        "  and ledger {} holds that batch as leaf {} of {}",
        checkpoint.origin, proven.leaf, checkpoint.size
    )?;
    writeln!(out, "  under root {}", checkpoint.root)?;
    cosigned.lines("  which ", world)?;
    let out = &mut *world.out;
    match event {
        Some(event) => {
            writeln!(out, "event at {} on the host's clock:", Moment(event.wall_ns))?;
            serde_json::to_writer_pretty(&mut *out, &event.fact)?;
            writeln!(out)?;
        }
        None => writeln!(
            out,
            "event of a newer format, {} bytes: upgrade to read it",
            proven.event.len()
        )?,
    }
    Ok(())
}
