//! Appends to a ledger in a directory and tells on standard output what is acknowledged and published, line by
//! line, so that whoever kills it or breaks its disk knows what must be found again.
//!
//! `ledger-worker DIR LEAVES` ends with 0 when the ledger has that many leaves under a checkpoint, 3 when the
//! disk is full, 4 when the ledger must be reopened.

use std::{error::Error, path::Path, process::ExitCode, sync::Arc};

use common::note::SignerKey;
use ledger::{AppendError, Entry, Ledger, Local, OpenError, PublishError, StorageError};

/// Leaves in one group.
const GROUP: u64 = 40;
/// The disk is full: nothing happened.
const FULL: u8 = 3;
/// The outcome of a write is unknown.
const FATAL: u8 = 4;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(dir), Some(leaves)) = (args.next(), args.next()) else {
        return Err("usage: ledger-worker DIR LEAVES".into());
    };
    work(Path::new(&dir), leaves.parse()?)
}

fn work(dir: &Path, leaves: u64) -> Result<ExitCode, Box<dyn Error>> {
    let key = SignerKey::from_seed("ledger.example/worker", &[7; 32])?;
    let storage = Arc::new(Local::open_writer(dir)?);
    let (mut ledger, recovered) = match Ledger::open(storage, key, |_| None) {
        Ok(opened) => opened,
        Err(OpenError::Storage(StorageError::NoSpace { .. })) => return Ok(ExitCode::from(FULL)),
        Err(error) => {
            println!("fatal {error}");
            return Ok(ExitCode::from(FATAL));
        }
    };
    println!("recovered {}", recovered.leaves);
    let mut next = recovered.leaves;
    while next < leaves {
        let headers: Vec<[u8; 300]> = (next..next + GROUP).map(tests::worker_header).collect();
        let entries: Vec<Entry<'_>> = headers
            .iter()
            .map(|header| Entry {
                header,
                body: &[0x5a; 2048],
            })
            .collect();
        match ledger.append_group(&entries) {
            Ok(_) => next += GROUP,
            Err(AppendError::NoSpace(_)) => return Ok(ExitCode::from(FULL)),
            Err(error) => {
                println!("fatal {error}");
                return Ok(ExitCode::from(FATAL));
            }
        }
        println!("ack {next}");
        if next % (2 * GROUP) == 0 || next >= leaves {
            match ledger.integrate_and_publish() {
                Ok(head) => println!("head {} {}", head.checkpoint.size, head.checkpoint.root),
                Err(PublishError::NoSpace(_)) => return Ok(ExitCode::from(FULL)),
                Err(error) => {
                    println!("fatal {error}");
                    return Ok(ExitCode::from(FATAL));
                }
            }
        }
    }
    let head = ledger.integrate_and_publish()?;
    println!("head {} {}", head.checkpoint.size, head.checkpoint.root);
    Ok(ExitCode::SUCCESS)
}
