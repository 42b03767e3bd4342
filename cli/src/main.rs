//! The `hostledger` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    let now = jiff::Timestamp::now();
    let code = cli::run(
        std::env::args_os(),
        now,
        &mut std::io::stdout().lock(),
        &mut std::io::stderr(),
    );
    ExitCode::from(code)
}
