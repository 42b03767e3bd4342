//! What a whole collector takes in memory over a long ledger.
//!
//! `cargo bench -p tests --bench whole -- make COLLECTOR DIR BATCHES [STATEMENTS]` makes its directory: real batches, signed
//! by two hundred hosts, one event each, with index and snapshots; behind them, statements that hosts were silent.
//! `-- run COLLECTOR DIR` starts that program over it and prints its memory once it listens and after each kind of work:
//! batches shipped over QUIC, proofs, questions and tiles over HTTP. `-- start COLLECTOR DIR` starts it five times and prints
//! the CPU until it listens, the first time over what `make` left, then over what the start before left. `-- settle COLLECTOR DIR` starts it and waits until it
//! has nothing left to do in the background. `-- verify COLLECTOR DIR` has it verify the ledger and prints the most that
//! took. All print `name value` lines. Judges nothing.

mod ask;
mod make;
mod run;

use std::{
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tests::{measure::memory_of, program::Failed};

/// Hosts.
const HOSTS: u8 = 200;

type Outcome<T = ()> = Result<T, Failed>;

fn main() -> Outcome {
    let words = tests::measure::words();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["make", program, folder, batches] => {
            make::make(Path::new(program), Path::new(folder), batches.parse()?, 0)
        }
        ["make", program, folder, batches, statements] => make::make(
            Path::new(program),
            Path::new(folder),
            batches.parse()?,
            statements.parse()?,
        ),
        ["run", program, folder] => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(run::run(Path::new(program), Path::new(folder))),
        ["start", program, folder] => run::start(Path::new(program), Path::new(folder)),
        ["settle", program, folder] => run::settle(Path::new(program), Path::new(folder)),
        ["verify", program, folder] => verify(Path::new(program), folder),
        _ => {
            println!(
                "usage: cargo bench -p tests --bench whole -- make COLLECTOR DIR BATCHES [STATEMENTS] | run \
                 COLLECTOR DIR | start COLLECTOR DIR | settle COLLECTOR DIR | verify COLLECTOR DIR"
            );
            Ok(())
        }
    }
}

/// Has the program verify the ledger; what it takes is looked at as it goes.
fn verify(program: &Path, folder: &str) -> Outcome {
    let begun = Instant::now();
    let mut child = Command::new(program)
        .args(["verify", "--dir", folder])
        .stdout(Stdio::null())
        .spawn()?;
    let mut seen = 0;
    let ended = loop {
        seen = seen.max(memory_of(child.id(), "VmHWM").unwrap_or_default());
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        thread::sleep(Duration::from_millis(20));
    };
    println!("verify_ms {}", begun.elapsed().as_millis());
    println!("verify_resident_max_kib {seen}");
    if ended.success() {
        Ok(())
    } else {
        Err(format!("verify ended with {ended}").into())
    }
}
