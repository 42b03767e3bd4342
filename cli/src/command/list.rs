//! `ps`, `flows`, `listeners`, `timeline`: follow the pages, then show them.

use common::answer::{Answer, HostAnswer, Moment, Row, Verdict};

use super::pages;
use crate::{
    Exit, Failure, World,
    args::{FlowsArgs, HostArgs, ListArgs, Output, PsArgs, TimelineArgs},
    client::{Client, Params},
    show::{columns, statement, table, tree},
    when,
};

type Rows = Answer<Vec<Row>>;

/// How the rows of a command are shown.
struct View {
    heading: &'static [&'static str],
    heading_wide: &'static [&'static str],
    cells: fn(&Row, Option<Moment>, bool) -> Option<Vec<String>>,
    tree: bool,
}

/// The processes at an instant.
pub(crate) fn ps(
    client: &Client,
    args: &PsArgs,
    output: Output,
    world: &mut World<'_>,
) -> Result<Exit, Failure> {
    let mut params = host_params(&args.hosts);
    push_at(&mut params, args.at.as_deref(), world)?;
    params.extend(args.pid.iter().map(|pid| ("pid", pid.to_string())));
    params.extend(args.exe.iter().map(|exe| ("exe", exe.clone())));
    let view = View {
        heading: columns::PS,
        heading_wide: columns::PS_WIDE,
        cells: |row, _, wide| columns::process(row, wide),
        tree: args.tree,
    };
    show(fetch(client, "processes", params)?, &view, output, world)
}

/// The connections at an instant or during an interval.
pub(crate) fn flows(
    client: &Client,
    args: &FlowsArgs,
    output: Output,
    world: &mut World<'_>,
) -> Result<Exit, Failure> {
    let mut params = list_params(&args.list, world)?;
    if let Some(since) = &args.since {
        let until = args.until.as_deref().unwrap_or("now");
        params.push(("since", when::instant(since, world.now)?.to_string()));
        params.push(("until", when::instant(until, world.now)?.to_string()));
    }
    let view = View {
        heading: columns::FLOWS,
        heading_wide: columns::FLOWS_WIDE,
        cells: columns::connection,
        tree: false,
    };
    show(fetch(client, "flows", params)?, &view, output, world)
}

/// The listeners at an instant.
pub(crate) fn listeners(
    client: &Client,
    args: &ListArgs,
    output: Output,
    world: &mut World<'_>,
) -> Result<Exit, Failure> {
    let params = list_params(args, world)?;
    let view = View {
        heading: columns::LISTENERS,
        heading_wide: columns::LISTENERS_WIDE,
        cells: |row, _, wide| columns::listener(row, wide),
        tree: false,
    };
    show(fetch(client, "listeners", params)?, &view, output, world)
}

/// Every event about an entity.
pub(crate) fn timeline(
    client: &Client,
    args: &TimelineArgs,
    output: Output,
    world: &mut World<'_>,
) -> Result<Exit, Failure> {
    let params: Params = vec![("id", args.entity.clone()), ("host", args.host.clone())];
    let rows: Vec<Row> = pages::all(client, "timeline", &params)?;
    pages::show(&rows, columns::TIMELINE, columns::happened, output, world)
}

pub(super) fn host_params(hosts: &HostArgs) -> Params {
    hosts.host.iter().map(|host| ("host", host.clone())).collect()
}

pub(super) fn push_at(params: &mut Params, at: Option<&str>, world: &World<'_>) -> Result<(), Failure> {
    if let Some(at) = at {
        params.push(("at", when::instant(at, world.now)?.to_string()));
    }
    Ok(())
}

fn list_params(args: &ListArgs, world: &World<'_>) -> Result<Params, Failure> {
    let mut params = host_params(&args.hosts);
    push_at(&mut params, args.at.as_deref(), world)?;
    params.extend(args.pid.iter().map(|pid| ("pid", pid.to_string())));
    params.extend(args.exe.iter().map(|exe| ("exe", exe.clone())));
    params.extend(args.port.iter().map(|port| ("port", port.to_string())));
    Ok(params)
}

/// Follows the pages and joins what they say of one host.
fn fetch(client: &Client, path: &str, params: Params) -> Result<Rows, Failure> {
    let mut answer: Rows = client.get(path, &params)?;
    while let Some(cursor) = answer.next.take() {
        let mut params = params.clone();
        params.push(("cursor", cursor));
        let page: Rows = client.get(path, &params)?;
        answer.next = page.next;
        for host in page.hosts {
            join(&mut answer.hosts, host);
        }
    }
    Ok(answer)
}

fn join(hosts: &mut Vec<HostAnswer<Vec<Row>>>, mut more: HostAnswer<Vec<Row>>) {
    if let Some(last) = hosts.last_mut().filter(|last| last.host == more.host)
        && let (Verdict::Known { value }, Verdict::Known { value: rows }) =
            (&mut last.verdict, &mut more.verdict)
    {
        value.append(rows);
        return;
    }
    hosts.push(more);
}

fn show(answer: Rows, view: &View, output: Output, world: &mut World<'_>) -> Result<Exit, Failure> {
    let unknown = answer
        .hosts
        .iter()
        .any(|host| matches!(host.verdict, Verdict::Unknown { .. }));
    match output {
        Output::Json => {
            serde_json::to_writer_pretty(&mut *world.out, &answer)?;
            writeln!(world.out)?;
        }
        Output::Jsonl => jsonl(&answer, world)?,
        Output::Table | Output::Wide => lines(&answer, view, output == Output::Wide, world)?,
    }
    Ok(if unknown { Exit::Unknown } else { Exit::Fine })
}

/// A line for what is said of each host, then one for each row.
fn jsonl(answer: &Rows, world: &mut World<'_>) -> Result<(), Failure> {
    for host in &answer.hosts {
        let mut said = serde_json::to_value(host)?;
        let rows = match &host.verdict {
            Verdict::Known { value } => value.as_slice(),
            Verdict::Absent { .. } | Verdict::Unknown { .. } => &[],
        };
        if let Some(verdict) = said
            .get_mut("verdict")
            .and_then(|verdict| verdict.as_object_mut())
        {
            verdict.remove("value");
        }
        serde_json::to_writer(&mut *world.out, &said)?;
        writeln!(world.out)?;
        for row in rows {
            serde_json::to_writer(&mut *world.out, row)?;
            writeln!(world.out)?;
        }
    }
    Ok(())
}

fn lines(answer: &Rows, view: &View, wide: bool, world: &mut World<'_>) -> Result<(), Failure> {
    for host in &answer.hosts {
        statement::host(world.out, host)?;
        if let Verdict::Known { value } = &host.verdict {
            if view.tree {
                tree::write(world.out, value)?;
            } else {
                let cells: Vec<Vec<String>> = value
                    .iter()
                    .filter_map(|row| (view.cells)(row, host.at, wide))
                    .collect();
                let heading = if wide { view.heading_wide } else { view.heading };
                table::write(world.out, heading, &cells)?;
            }
        }
    }
    if answer.hosts.is_empty() {
        writeln!(world.out, "# no host has a batch in the ledger yet")?;
    }
    statement::ledger(world.out, answer)?;
    Ok(())
}
