//! `statements`: what the collector says of its hosts.

use common::answer::StatementRow;

use super::{list::host_params, pages};
use crate::{
    Exit, Failure, World,
    args::{Output, StatementsArgs},
    client::Client,
    when,
};

const HEADING: &[&str] = &["NUMBER", "TIME", "KIND", "HOST", "WHAT"];
const HEADING_WIDE: &[&str] = &["NUMBER", "LEAF", "TIME", "KIND", "HOST", "ID", "WHAT"];

/// Follows the pages and shows them.
pub(crate) fn run(
    client: &Client,
    args: &StatementsArgs,
    output: Output,
    world: &mut World<'_>,
) -> Result<Exit, Failure> {
    let mut params = host_params(&args.hosts);
    params.extend(args.kind.iter().map(|kind| ("kind", kind.clone())));
    for (name, text) in [("since", &args.since), ("until", &args.until)] {
        if let Some(text) = text {
            params.push((name, when::instant(text, world.now)?.to_string()));
        }
    }
    let rows: Vec<StatementRow> = pages::all(client, "statements", &params)?;
    let wide = output == Output::Wide;
    let heading = if wide { HEADING_WIDE } else { HEADING };
    pages::show(&rows, heading, |row| cells(row, wide), output, world)
}

fn cells(row: &StatementRow, wide: bool) -> Vec<String> {
    let host = row.said.host();
    let short = host.map_or_else(|| "-".to_owned(), |host| host.short());
    let name = row.hostname.as_ref().map_or(short, ToString::to_string);
    let mut cells = vec![row.number.to_string()];
    if wide {
        cells.push(row.leaf.to_string());
    }
    cells.extend([row.at.to_string(), row.kind.clone(), name]);
    if wide {
        cells.push(host.map_or_else(|| "-".to_owned(), |host| host.to_string()));
    }
    cells.push(row.text.clone());
    cells
}
