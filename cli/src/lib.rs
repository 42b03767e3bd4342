//! `hostledger`: questions to a collector, and checks that need nobody's word.
//!
//! Parses, asks, shows. Every answer is the API's, every check is library code of `common` and `ledger`; what
//! is here turns them into lines and exit codes. Names from outside are shown escaped, always.

pub mod args;
mod client;
mod command;
mod failure;
mod remote;
mod show;
mod when;

use std::{ffi::OsString, io::Write};

use clap::Parser;

use self::args::{Args, Command};
pub use self::failure::{Exit, Failure};

/// What commands need of the world.
pub(crate) struct World<'a> {
    /// The present instant.
    pub(crate) now: jiff::Timestamp,
    /// Where answers go.
    pub(crate) out: &'a mut dyn Write,
    /// Where progress and remarks go.
    pub(crate) err: &'a mut (dyn Write + Send),
}

/// Runs the command line and returns the exit code.
pub fn run(
    args: impl IntoIterator<Item = OsString>,
    now: jiff::Timestamp,
    out: &mut dyn Write,
    err: &mut (dyn Write + Send),
) -> u8 {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            let text = error.render();
            // A closed pipe leaves nobody to tell.
            let _ = if error.use_stderr() {
                write!(err, "{text}")
            } else {
                write!(out, "{text}")
            };
            return if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Fine
            }
            .code();
        }
    };
    let mut world = World { now, out, err };
    match dispatch(&args, &mut world) {
        Ok(exit) => exit.code(),
        Err(Failure::ClosedPipe) => Exit::Fine.code(),
        Err(failure) => {
            let _ = writeln!(world.err, "hostledger: {failure}");
            if let Some(remedy) = failure.remedy() {
                let _ = writeln!(world.err, "  {remedy}");
            }
            failure.exit().code()
        }
    }
}

fn dispatch(args: &Args, world: &mut World<'_>) -> Result<Exit, Failure> {
    let client = || client::Client::new(&args.collector);
    match &args.command {
        Command::Status(status) => command::status::run(&client()?, status, args.output, world),
        Command::Ps(ps) => command::list::ps(&client()?, ps, args.output, world),
        Command::Flows(flows) => command::list::flows(&client()?, flows, args.output, world),
        Command::Listeners(listeners) => command::list::listeners(&client()?, listeners, args.output, world),
        Command::Get(get) => command::get::run(&client()?, get, args.output, world),
        Command::Timeline(timeline) => command::list::timeline(&client()?, timeline, args.output, world),
        Command::Statements(statements) => {
            command::statements::run(&client()?, statements, args.output, world)
        }
        Command::Verify(verify) => command::verify::run(verify, args.output, world),
        Command::Proof(proof) => command::proof::run(client, proof, args.output, world),
        Command::Audit(audit) => command::audit::run(client, audit, args.output, world),
        Command::Compare(compare) => command::compare::run(compare, args.output, world),
        Command::Anchor(anchor) => command::anchor::run(anchor, args.output, world),
        Command::Doctor => command::doctor::run(&args.collector, args.output, world),
    }
}
