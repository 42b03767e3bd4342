//! `get`: one entity at an instant.

use std::io::{self, Write};

use common::answer::{Answer, Row, Verdict};
use serde_json::Value;

use super::list::{host_params, push_at};
use crate::{
    Exit, Failure, World,
    args::{GetArgs, Output},
    client::Client,
    show::statement,
};

/// Asks and shows.
pub(crate) fn run(
    client: &Client,
    args: &GetArgs,
    output: Output,
    world: &mut World<'_>,
) -> Result<Exit, Failure> {
    let mut params = host_params(&args.hosts);
    params.push(("id", args.entity.clone()));
    push_at(&mut params, args.at.as_deref(), world)?;
    let answer: Answer<Row> = client.get("entity", &params)?;
    match output {
        Output::Json => {
            serde_json::to_writer_pretty(&mut *world.out, &answer)?;
            writeln!(world.out)?;
        }
        Output::Jsonl => {
            for host in &answer.hosts {
                serde_json::to_writer(&mut *world.out, host)?;
                writeln!(world.out)?;
            }
        }
        Output::Table | Output::Wide => {
            for host in &answer.hosts {
                statement::host(world.out, host)?;
                match &host.verdict {
                    Verdict::Known { value } => fields(world.out, "", &serde_json::to_value(value)?)?,
                    Verdict::Absent { why, last } => {
                        writeln!(world.out, "absent: {why}")?;
                        if let Some(last) = last {
                            fields(world.out, "last known: ", &serde_json::to_value(last)?)?;
                        }
                    }
                    Verdict::Unknown { .. } => {}
                }
            }
            statement::ledger(world.out, &answer)?;
        }
    }
    let unknown = |host: &common::answer::HostAnswer<Row>| matches!(host.verdict, Verdict::Unknown { .. });
    Ok(if answer.hosts.iter().any(unknown) {
        Exit::Unknown
    } else {
        Exit::Fine
    })
}

/// One line for each field, named by its path. Text is escaped already where it was read.
fn fields(out: &mut dyn Write, path: &str, value: &Value) -> io::Result<()> {
    let below = |name: &str| {
        if path.is_empty() || path.ends_with(' ') {
            format!("{path}{name}")
        } else {
            format!("{path}.{name}")
        }
    };
    match value {
        Value::Object(members) => members
            .iter()
            .try_for_each(|(name, value)| fields(out, &below(name), value)),
        Value::Array(items) if !items.is_empty() => items
            .iter()
            .enumerate()
            .try_for_each(|(at, value)| fields(out, &below(&at.to_string()), value)),
        Value::Null => Ok(()),
        Value::String(text) => writeln!(out, "{path}: {text}"),
        other => writeln!(out, "{path}: {other}"),
    }
}
