//! The statement around an answer: which host and instant, on what it rests, how complete it is.

use std::io::{self, Write};

use common::answer::{Answer, HostAnswer, Verdict};

/// Writes what is said of one host before its rows.
pub(crate) fn host<R>(out: &mut dyn Write, answer: &HostAnswer<R>) -> io::Result<()> {
    let name = answer
        .hostname
        .as_ref()
        .map_or_else(|| "?".to_owned(), ToString::to_string);
    write!(out, "# host {name} ({})", answer.host.short())?;
    if let Some(at) = answer.at {
        write!(out, " at {at}")?;
    }
    writeln!(out)?;
    if let Some(batch) = answer.batch {
        write!(out, "# batch {} at leaf {}", batch.sequence, batch.leaf)?;
        if let Some(clock) = answer.clock {
            write!(out, "; {clock}")?;
        }
        writeln!(out)?;
    }
    match &answer.verdict {
        Verdict::Unknown { why } => writeln!(out, "# unknown: {why}")?,
        Verdict::Known { .. } | Verdict::Absent { .. } => {
            if answer.completeness.complete {
                writeln!(out, "# complete")?;
            }
        }
    }
    for caveat in &answer.completeness.caveats {
        writeln!(out, "# incomplete: {caveat}")?;
    }
    Ok(())
}

/// Writes what is said of the answer as a whole after its rows.
pub(crate) fn ledger<R>(out: &mut dyn Write, answer: &Answer<R>) -> io::Result<()> {
    writeln!(
        out,
        "# ledger {} of {} leaves",
        answer.ledger.origin, answer.ledger.size
    )?;
    if answer.hosts.len() > 1 {
        writeln!(out, "# {}", answer.order)?;
    }
    Ok(())
}
