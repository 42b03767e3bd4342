//! `proof`: fetch the proof of an event, or check one with no network.

use std::{fs, path::Path};

use common::{
    answer::Moment,
    event::Event,
    proof::{self, EventProof, PROOF_BYTES_MAX, ProvenEvent},
};
use serde_json::json;

use super::{read_file, read_key};
use crate::{
    Exit, Failure, World,
    args::{Output, ProofArgs, ProofCommand},
    client::Client,
};

/// Fetches or checks.
pub(crate) fn run(
    client: impl FnOnce() -> Result<Client, Failure>,
    args: &ProofArgs,
    output: Output,
    world: &mut World<'_>,
) -> Result<Exit, Failure> {
    match (&args.command, &args.event) {
        (Some(ProofCommand::Check { file, vkey }), _) => check(file, vkey, output, world),
        (None, Some(event)) => fetch(&client()?, event, args.file.as_deref(), world),
        (None, None) => Err(Failure::Usage {
            cause: "no event was named".into(),
            remedy: "write hostledger proof <host>:<event>, or hostledger proof check FILE --vkey FILE"
                .into(),
        }),
    }
}

fn fetch(client: &Client, event: &str, file: Option<&Path>, world: &mut World<'_>) -> Result<Exit, Failure> {
    let bytes = client.bytes("proof", &vec![("event", event.to_owned())])?;
    // What cannot be decoded would fail the check later, when the collector may be gone.
    EventProof::decode(&bytes).map_err(|error| Failure::Answer(error.to_string()))?;
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

fn check(file: &Path, vkey: &Path, output: Output, world: &mut World<'_>) -> Result<Exit, Failure> {
    let key = read_key(vkey)?;
    let bytes = read_file(file, PROOF_BYTES_MAX as u64)?;
    let proven = match proof::check(&bytes, &key) {
        Ok(proven) => proven,
        Err(fault) => {
            match output {
                Output::Json | Output::Jsonl => {
                    let said = json!({ "proven": false, "fault": fault.to_string() });
                    writeln!(world.out, "{said}")?;
                }
                Output::Table | Output::Wide => writeln!(world.out, "NOT PROVEN: {fault}")?,
            }
            return Ok(Exit::Tampered);
        }
    };
    let event = Event::decode(&proven.event);
    match output {
        Output::Json | Output::Jsonl => {
            let said = json!({
                "proven": true, "host": proven.host, "index": proven.index, "leaf": proven.leaf,
                "batch": proven.header.fields().sequence,
                "checkpoint": { "origin": proven.checkpoint.origin, "size": proven.checkpoint.size,
                                "root": proven.checkpoint.root },
                "event": event.ok(),
            });
            writeln!(world.out, "{said}")?;
        }
        Output::Table | Output::Wide => lines(&proven, event.as_ref().ok(), world)?,
    }
    Ok(Exit::Fine)
}

fn lines(proven: &ProvenEvent, event: Option<&Event>, world: &mut World<'_>) -> Result<(), Failure> {
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
