//! `audit`: bundles written, checked with no network and no ledger, and shown unchecked.
//!
//! Everything but names and lines is library code: [`ledger::bundle`] makes a bundle, [`common::bundle`] checks it.

use std::{fs, path::Path, sync::Arc};

use common::{
    answer::Moment,
    bundle::{self, BUNDLE_BYTES_MAX, Bundle, BundleFault, Choice, Contents, Report, Selection},
    event::Kind,
    fold::EntityId,
    ids::{EventIndex, HostId, WallNanos},
    note::VerifierKey,
    statement,
};
use ledger::{Local, Reader, bundle::ExportError};
use serde_json::json;

use super::{cosigned, read_file, read_keys};
use crate::{
    Exit, Failure, World,
    args::{AuditArgs, AuditCommand, BundleArgs, ExportArgs, Output},
    client::{Client, Params},
    when,
};

/// Exports, verifies or shows.
pub(crate) fn run(
    client: impl FnOnce() -> Result<Client, Failure>,
    args: &AuditArgs,
    output: Output,
    world: &mut World<'_>,
) -> Result<Exit, Failure> {
    match &args.command {
        AuditCommand::Export(export) => match &export.ledger {
            Some(ledger) => from_directory(ledger, export, world),
            None => from_collector(&client()?, export, world),
        },
        AuditCommand::Verify(verify) => self::verify(verify, output, world),
        AuditCommand::Show { file } => show(file, world),
    }
}

fn from_collector(client: &Client, args: &ExportArgs, world: &mut World<'_>) -> Result<Exit, Failure> {
    let mut params: Params = Vec::new();
    if let Some((since, until)) = interval(args, world)? {
        params.push(("since", since.to_string()));
        params.push(("until", until.to_string()));
    }
    params.extend(args.hosts.host.iter().map(|host| ("host", host.clone())));
    params.extend(args.entity.iter().map(|entity| ("entity", entity.clone())));
    params.extend(args.event.iter().map(|event| ("event", event.clone())));
    let bytes = client.bytes("bundle", &params)?;
    // What does not hold would fail the check later, when the collector may be gone.
    let read = Bundle::decode(&bytes).map_err(|bad| Failure::Answer(bad.to_string()))?;
    let key = VerifierKey::parse(&read.verifier_key).map_err(|bad| Failure::Answer(bad.to_string()))?;
    let report = bundle::check(&bytes, &key, None).map_err(|fault| Failure::Answer(fault.to_string()))?;
    written(&bytes, &report, &args.file, world)
}

fn from_directory(path: &Path, args: &ExportArgs, world: &mut World<'_>) -> Result<Exit, Failure> {
    let no_ledger = |cause: String| Failure::Usage {
        cause,
        remedy: "give the directory that holds `groups` and `log`, e.g. COLLECTOR_DIR/ledger".into(),
    };
    let storage = Local::open_reader(path).map_err(|error| no_ledger(error.to_string()))?;
    let reader = Reader::open(Arc::new(storage), ledger::audit::describe)
        .map_err(|error| no_ledger(format!("{}: {error}", path.display())))?;
    let selection = selection(&reader, args, world)?;
    let (bytes, report) = ledger::bundle::export(&reader, &selection, BUNDLE_BYTES_MAX).map_err(|error| {
        let remedy = "ask for less; `hostledger verify` names what is wrong with a ledger".into();
        match error {
            ExportError::NoSuchEvent { .. } | ExportError::TooMuch { .. } => Failure::Usage {
                cause: error.to_string(),
                remedy,
            },
            _ => Failure::Config {
                cause: error.to_string(),
                remedy,
            },
        }
    })?;
    written(&bytes, &report, &args.file, world)
}

fn interval(args: &ExportArgs, world: &World<'_>) -> Result<Option<(Moment, Moment)>, Failure> {
    let Some(since) = &args.since else { return Ok(None) };
    let since = when::instant(since, world.now)?;
    let until = when::instant(args.until.as_deref().unwrap_or("now"), world.now)?;
    if since.0 > until.0 {
        return Err(Failure::Usage {
            cause: format!("{since} lies after {until}"),
            remedy: "swap --since and --until".into(),
        });
    }
    Ok(Some((since, until)))
}

/// What is asked of a ledger directory, where hosts are known by their ids only.
fn selection(reader: &Reader, args: &ExportArgs, world: &World<'_>) -> Result<Selection, Failure> {
    let known = reader.hosts();
    let Some((Moment(since), Moment(until))) = interval(args, world)? else {
        let mut events = Vec::new();
        for named in &args.event {
            let (host, index) = named.rsplit_once(':').unwrap_or((named, ""));
            let index = index.parse().map_err(|_| Failure::Usage {
                cause: format!("`{named}` names no event"),
                remedy: "write <host>:<event>, with the number that `-o wide` shows as EVENT".into(),
            })?;
            events.push((host_of(host, &known)?, EventIndex(index)));
        }
        events.sort_unstable();
        events.dedup();
        return Ok(Selection::Events(events));
    };
    let hosts = args.hosts.host.iter().map(|host| host_of(host, &known));
    let mut hosts = hosts.collect::<Result<Vec<HostId>, Failure>>()?;
    hosts.sort_unstable();
    hosts.dedup();
    let entity = args.entity.as_deref().map(str::parse::<EntityId>).transpose();
    let entity = entity.map_err(|bad| Failure::Usage {
        cause: bad.to_string(),
        remedy: "write an entity as `ps -o wide` shows it".into(),
    })?;
    Ok(Selection::Interval {
        since,
        until,
        hosts,
        entity,
    })
}

/// The host of that id, or whose id alone begins so. An id that the ledger does not know is asked for all the
/// same: that it is not there is an answer.
fn host_of(text: &str, known: &[HostId]) -> Result<HostId, Failure> {
    if let Ok(host) = text.parse() {
        return Ok(host);
    }
    let mut fitting = known
        .iter()
        .filter(|host| !text.is_empty() && host.to_string().starts_with(text));
    match (fitting.next(), fitting.next()) {
        (Some(host), None) => Ok(*host),
        (found, _) => Err(Failure::Usage {
            cause: format!(
                "`{text}` is {} of this ledger",
                if found.is_some() {
                    "several hosts"
                } else {
                    "no host"
                }
            ),
            remedy: "a ledger directory knows hosts by id: give the id, or more of it".into(),
        }),
    }
}

fn written(bytes: &[u8], report: &Report, file: &Path, world: &mut World<'_>) -> Result<Exit, Failure> {
    if file == Path::new("-") {
        world.out.write_all(bytes)?;
        return Ok(Exit::Fine);
    }
    fs::write(file, bytes).map_err(|cause| Failure::File {
        verb: "write",
        path: file.display().to_string(),
        cause,
    })?;
    writeln!(
        world.out,
        "{}: {} bytes, {} hosts, {} events, {} statements{}",
        file.display(),
        bytes.len(),
        report.hosts.len(),
        report.events.len(),
        report.statements.len(),
        if report.complete {
            ""
        } else {
            "; something asked for is not in it: see `audit verify`"
        }
    )?;
    Ok(Exit::Fine)
}

fn verify(args: &BundleArgs, output: Output, world: &mut World<'_>) -> Result<Exit, Failure> {
    let key = read_keys(&args.vkey, args.keys.as_deref())?;
    let policy = cosigned::demanded(&args.witnesses, &key)?;
    let bytes = read_file(&args.file, BUNDLE_BYTES_MAX as u64)?;
    let found = bundle::check(&bytes, &key, policy.as_ref());
    match output {
        Output::Json | Output::Jsonl => {
            let said = match &found {
                Ok(report) => serde_json::to_value(report)?,
                Err(fault) => {
                    json!({ "verdict": "refused", "reason": fault.reason(), "fault": fault.to_string() })
                }
            };
            writeln!(world.out, "{said}")?;
        }
        Output::Table | Output::Wide => match &found {
            Ok(report) => lines(report, output == Output::Wide, world)?,
            Err(fault) => writeln!(world.out, "REFUSED ({}): {fault}", fault.reason())?,
        },
    }
    Ok(exit_of(&found))
}

fn exit_of(found: &Result<Report, BundleFault>) -> Exit {
    match found {
        Ok(report) if report.complete => Exit::Fine,
        Ok(_) => Exit::Unknown,
        Err(BundleFault::Witnesses { .. }) => Exit::Unwitnessed,
        Err(_) => Exit::Tampered,
    }
}

fn at(ns: u64) -> Moment {
    Moment(WallNanos(ns))
}

fn lines(report: &Report, wide: bool, world: &mut World<'_>) -> Result<(), Failure> {
    let out = &mut *world.out;
    writeln!(
        out,
        "ledger      {}, {} leaves, root {}",
        report.ledger.origin, report.ledger.size, report.ledger.root
    )?;
    for witness in &report.witnesses {
        writeln!(
            out,
            "witness     {} at {}",
            witness.name,
            cosigned::at(witness.posix_seconds)
        )?;
    }
    for host in &report.hosts {
        writeln!(
            out,
            "host        {}: batches {} to {}, {} to {}, {} events under them",
            host.host,
            host.batches[0],
            host.batches[1],
            at(host.from_ns),
            at(host.until_ns),
            host.events[1].0.saturating_sub(host.events[0].0)
        )?;
        if host.choice == Choice::Exporter {
            writeln!(
                out,
                "  that no other event is about this entity is the word of whoever made the bundle"
            )?;
        }
        for hole in &host.unwatched {
            let why = hole.why.replace('_', " ");
            writeln!(
                out,
                "  INCOMPLETE from {} to {}: {why}",
                at(hole.from_ns),
                at(hole.until_ns)
            )?;
        }
        for batch in &host.withheld {
            writeln!(
                out,
                "  INCOMPLETE batch {}: events {}",
                batch.batch,
                batch.why.replace('_', " ")
            )?;
        }
        for lost in &host.lost {
            writeln!(
                out,
                "  INCOMPLETE sensor {} lost {} events",
                lost.sensor, lost.lost
            )?;
        }
    }
    for host in &report.missing.hosts {
        writeln!(out, "INCOMPLETE  host {host}: no batch")?;
    }
    for event in &report.missing.events {
        writeln!(
            out,
            "INCOMPLETE  host {}: event {} is not here",
            event.host, event.index
        )?;
    }
    for row in &report.statements {
        let kind = row.kind.name().unwrap_or("of a newer kind");
        writeln!(
            out,
            "statement   {} at leaf {}, {}: {kind}",
            row.number,
            row.leaf,
            at(row.at_ns)
        )?;
    }
    writeln!(
        out,
        "events      {}, each signed by its host",
        report.events.len()
    )?;
    for row in report.events.iter().filter(|_| wide) {
        match &row.envelope {
            Some(said) => {
                let kind = Kind::from_number(said.kind)
                    .map_or_else(|| said.kind.to_string(), |kind| kind.name().into());
                writeln!(out, "  {} {} {kind} {}", row.index, at(said.wall_ns), said.key)?;
            }
            None => writeln!(out, "  {} of a newer format", row.index)?,
        }
    }
    writeln!(
        out,
        "{}",
        if report.complete {
            "sound and complete"
        } else {
            "sound, INCOMPLETE as named above"
        }
    )?;
    Ok(())
}

fn show(file: &Path, world: &mut World<'_>) -> Result<Exit, Failure> {
    let bytes = read_file(file, BUNDLE_BYTES_MAX as u64)?;
    let out = &mut *world.out;
    let bundle = match Bundle::decode(&bytes) {
        Ok(bundle) => bundle,
        Err(bad) => {
            writeln!(out, "REFUSED: {bad}")?;
            return Ok(Exit::Tampered);
        }
    };
    writeln!(
        out,
        "NOT VERIFIED: what the file claims; check it with `audit verify --vkey`"
    )?;
    writeln!(out, "ledger      {}", bundle.verifier_key.escape_debug())?;
    match &bundle.selection {
        Selection::Interval {
            since,
            until,
            hosts,
            entity,
        } => {
            writeln!(
                out,
                "asked for   {} to {}, {} hosts named",
                Moment(*since),
                Moment(*until),
                hosts.len()
            )?;
            if let Some(entity) = entity {
                writeln!(out, "entity      {entity}")?;
            }
        }
        Selection::Events(events) => {
            for (host, index) in events {
                writeln!(out, "asked for   event {index} of host {host}")?;
            }
        }
    }
    for part in &bundle.hosts {
        let events: usize = part
            .batches
            .iter()
            .map(|batch| match &batch.contents {
                Contents::Events { events, .. } => events.len(),
                Contents::Body(_) | Contents::Header | Contents::Gone => 0,
            })
            .sum();
        let bodies = part
            .batches
            .iter()
            .filter(|batch| matches!(batch.contents, Contents::Body(_)))
            .count();
        writeln!(
            out,
            "host        {}: {} batches, {bodies} of them whole, {events} chosen events, {} earlier keys",
            part.host,
            part.batches.len(),
            part.key_history.len()
        )?;
    }
    for part in &bundle.statements {
        match statement::UnverifiedStatement::parse(&part.statement) {
            Ok(read) => writeln!(
                out,
                "statement   {} at leaf {}: {}",
                read.claimed().number,
                part.leaf,
                read.claimed().said
            )?,
            Err(bad) => writeln!(out, "statement   at leaf {}: {bad}", part.leaf)?,
        }
    }
    Ok(Exit::Fine)
}
