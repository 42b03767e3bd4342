//! What of a row is shown in which column. `-` is absent, `?` unknown; wide output says why.

use common::{
    answer::{Moment, Row},
    event::{
        Connection, Fact, Field, Listener, Process, ProcessKey,
        connection::{ConnectionState, Direction, Outcome},
        listener::ListenerCause,
        process::ProcessState,
    },
    text::Text,
};

/// Headings of `ps`.
pub(crate) const PS: &[&str] = &["PID", "PPID", "UID", "START", "STATE", "EXE", "ARGV"];
/// Headings of `ps -o wide`.
pub(crate) const PS_WIDE: &[&str] = &[
    "PID", "PPID", "UID", "START", "STATE", "EVENT", "ENTITY", "CWD", "EXE", "ARGV",
];
/// Headings of `flows`.
pub(crate) const FLOWS: &[&str] = &[
    "PROTO", "LOCAL", "DIR", "REMOTE", "PID", "OWNER", "STATE", "SENT", "RECEIVED", "DURATION", "OUTCOME",
];
/// Headings of `flows -o wide`.
pub(crate) const FLOWS_WIDE: &[&str] = &[
    "PROTO", "LOCAL", "DIR", "REMOTE", "PID", "OWNER", "STATE", "SENT", "RECEIVED", "DURATION", "OUTCOME",
    "OPENED", "NETNS", "EVENT", "ENTITY",
];
/// Headings of `listeners`.
pub(crate) const LISTENERS: &[&str] = &["PROTO", "ADDRESS", "PID", "OWNER", "SINCE"];
/// Headings of `listeners -o wide`.
pub(crate) const LISTENERS_WIDE: &[&str] = &[
    "PROTO", "ADDRESS", "PID", "OWNER", "SINCE", "BACKLOG", "NETNS", "EVENT", "ENTITY",
];
/// Headings of `timeline`.
pub(crate) const TIMELINE: &[&str] = &["TIME", "EVENT", "WHAT"];

/// A field in a cell.
fn field<T>(field: &Field<T>, wide: bool, show: impl FnOnce(&T) -> String) -> String {
    match field {
        Field::Known(value) => show(value),
        Field::Absent => "-".into(),
        Field::Unknown(why) if wide => format!("? ({why})"),
        Field::Unknown(_) => "?".into(),
    }
}

/// An instant to the millisecond; wide output and JSON have all of it.
fn moment(moment: Moment, wide: bool) -> String {
    let text = moment.to_string();
    match text.get(..23) {
        Some(short) if !wide => format!("{short}Z"),
        _ => text,
    }
}

/// An argument as a shell would need it quoted; control characters are escaped by `Text` already.
fn argument(text: &Text) -> String {
    let shown = text.to_string();
    let plain = |c: char| c.is_alphanumeric() || "_-+=./:,@%\\[]{}".contains(c);
    if !shown.is_empty() && shown.chars().all(plain) {
        shown
    } else {
        format!("'{}'", shown.replace('\'', "'\\''"))
    }
}

/// The command line of a process.
pub(crate) fn command_line(record: &Process, wide: bool) -> String {
    field(&record.argv, wide, |argv| {
        let args: Vec<String> = argv.args.iter().map(argument).collect();
        let cut = if argv.cut { " [cut]" } else { "" };
        format!("{}{cut}", args.join(" "))
    })
}

/// The executable, or in brackets the name of a kernel thread.
pub(crate) fn executable(record: &Process, wide: bool) -> String {
    match &record.exe {
        Field::Absent => format!("[{}]", record.comm),
        exe => field(exe, wide, |path| {
            format!("{}{}", if path.cut { "…" } else { "" }, path.text)
        }),
    }
}

fn state(record: &Process) -> String {
    match record.state {
        ProcessState::Running => "running".into(),
        ProcessState::Exited { signal: 0, code, .. } => format!("exited {code}"),
        ProcessState::Exited {
            signal, core_dumped, ..
        } => format!("signal {signal}{}", if core_dumped { " (core)" } else { "" }),
        ProcessState::Gone(why) => format!("gone ({why})"),
    }
}

/// The cells of a process.
pub(crate) fn process(row: &Row, wide: bool) -> Option<Vec<String>> {
    let Fact::Process { key, record } = &row.fact else {
        return None;
    };
    let mut cells = vec![
        key.tgid.to_string(),
        field(&record.parent, wide, |parent: &ProcessKey| {
            parent.tgid.to_string()
        }),
        field(&record.credentials, wide, |credentials| {
            credentials.uid.to_string()
        }),
        row.began.map_or_else(|| "?".into(), |began| moment(began, wide)),
        state(record),
    ];
    if wide {
        cells.push(row.event.to_string());
        cells.push(row.entity.clone());
        cells.push(field(&record.cwd, wide, |path| path.text.to_string()));
    }
    cells.push(executable(record, wide));
    cells.push(command_line(record, wide));
    Some(cells)
}

fn owner(row: &Row, owner: &Field<ProcessKey>, wide: bool) -> [String; 2] {
    let name = row.owner.as_ref().map_or_else(
        || {
            if matches!(owner, Field::Absent) {
                "-".into()
            } else {
                "?".into()
            }
        },
        ToString::to_string,
    );
    [field(owner, wide, |key| key.tgid.to_string()), name]
}

fn duration(ns: u64) -> String {
    let (seconds, rest) = (ns / 1_000_000_000, ns % 1_000_000_000);
    format!("{seconds}.{:06}s", rest / 1_000)
}

/// The cells of a connection; `until` is the instant asked about.
pub(crate) fn connection(row: &Row, until: Option<Moment>, wide: bool) -> Option<Vec<String>> {
    let Fact::Connection { record, .. } = &row.fact else {
        return None;
    };
    let Connection { local, remote, .. } = record;
    let closed = matches!(record.state, ConnectionState::Closed(_));
    let end = match row.vanished {
        Some(_) => None,
        None if closed => Some(row.changed),
        None => until,
    };
    let lasted = row
        .began
        .zip(end)
        .and_then(|(began, end)| end.0.0.checked_sub(began.0.0));
    let mut cells = vec![
        if local.is_ipv6() {
            "tcp6".into()
        } else {
            "tcp".into()
        },
        local.to_string(),
        field(&record.direction, wide, |direction| {
            match direction {
                Direction::Outgoing => "->",
                Direction::Incoming => "<-",
            }
            .into()
        }),
        remote.to_string(),
    ];
    cells.extend(owner(row, &record.owner, wide));
    let (state, outcome) = match record.state {
        _ if row.vanished.is_some() => ("vanished", "?".into()),
        ConnectionState::Connecting => ("connecting", "-".into()),
        ConnectionState::Established => ("established", "-".into()),
        ConnectionState::Closing => ("closing", "-".into()),
        ConnectionState::Closed(outcome) => ("closed", outcome_name(outcome)),
    };
    cells.push(state.into());
    cells.push(field(&record.bytes_sent, wide, ToString::to_string));
    cells.push(field(&record.bytes_received, wide, ToString::to_string));
    cells.push(lasted.map_or_else(|| "?".into(), duration));
    cells.push(outcome);
    if wide {
        cells.push(row.began.map_or_else(|| "?".into(), |began| began.to_string()));
        cells.push(record.netns.to_string());
        cells.push(row.event.to_string());
        cells.push(row.entity.clone());
    }
    Some(cells)
}

fn outcome_name(outcome: Outcome) -> String {
    match outcome {
        Outcome::Finished => "finished".into(),
        Outcome::Refused => "refused".into(),
        Outcome::Reset => "reset".into(),
        Outcome::TimedOut => "timed out".into(),
        Outcome::Abandoned => "abandoned".into(),
        Outcome::Error(errno) => format!("errno {errno}"),
        Outcome::Unknown => "?".into(),
    }
}

/// The cells of a listener.
pub(crate) fn listener(row: &Row, wide: bool) -> Option<Vec<String>> {
    let Fact::Listener { record, .. } = &row.fact else {
        return None;
    };
    let Listener { local, .. } = record;
    let mut cells = vec![
        if local.is_ipv6() {
            "tcp6".into()
        } else {
            "tcp".into()
        },
        local.to_string(),
    ];
    cells.extend(owner(row, &record.owner, wide));
    // What a baseline found had begun before.
    let before = if record.cause == ListenerCause::Baseline {
        "before "
    } else {
        ""
    };
    cells.push(format!("{before}{}", moment(row.first_seen, wide)));
    if wide {
        cells.push(field(&record.backlog, wide, ToString::to_string));
        cells.push(record.netns.to_string());
        cells.push(row.event.to_string());
        cells.push(row.entity.clone());
    }
    Some(cells)
}

/// One event of a timeline.
pub(crate) fn happened(row: &Row) -> Vec<String> {
    let what = match &row.fact {
        Fact::Process { record, .. } => {
            let cause = format!("{:?}", record.cause).to_lowercase();
            format!("{cause}: {}, {}", state(record), executable(record, false))
        }
        Fact::Connection { record, .. } => format!("{:?}: {:?}", record.cause, record.state).to_lowercase(),
        Fact::Listener { record, .. } => format!("{:?} on {}", record.cause, record.local).to_lowercase(),
        other => other.kind().name().to_owned(),
    };
    vec![row.changed.to_string(), row.event.to_string(), what]
}
