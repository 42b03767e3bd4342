//! Lists that come in pages: all of one, then shown.

use common::answer::Page;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Exit, Failure, World,
    args::Output,
    client::{Client, Params},
    show::table,
};

/// The rows of all pages.
pub(super) fn all<R: DeserializeOwned>(
    client: &Client,
    path: &str,
    params: &Params,
) -> Result<Vec<R>, Failure> {
    let mut page: Page<R> = client.get(path, params)?;
    let mut rows = std::mem::take(&mut page.rows);
    while let Some(cursor) = page.next.take() {
        let mut params = params.clone();
        params.push(("cursor", cursor));
        page = client.get(path, &params)?;
        rows.append(&mut page.rows);
    }
    Ok(rows)
}

/// Shows rows in the form asked for; `cells` are those of a table's line.
pub(super) fn show<R: Serialize>(
    rows: &[R],
    heading: &[&str],
    cells: impl Fn(&R) -> Vec<String>,
    output: Output,
    world: &mut World<'_>,
) -> Result<Exit, Failure> {
    match output {
        Output::Json => {
            serde_json::to_writer_pretty(&mut *world.out, rows)?;
            writeln!(world.out)?;
        }
        Output::Jsonl => {
            for row in rows {
                serde_json::to_writer(&mut *world.out, row)?;
                writeln!(world.out)?;
            }
        }
        Output::Table | Output::Wide => {
            let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
            table::write(world.out, heading, &cells)?;
        }
    }
    Ok(Exit::Fine)
}
