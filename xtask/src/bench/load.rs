//! The load: short processes and short connections, at a fixed rate or as fast as the machine goes.
//!
//! Owns the pacing. A fixed rate that the machine does not reach is visible in the time a run took.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What is done again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// fork, exec of `true`, exit, wait.
    Process,
    /// connect over loopback, a small request and answer, close.
    Connection,
}

impl Kind {
    /// For the report.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Process => "short process",
            Self::Connection => "connection",
        }
    }
}

/// A number of repetitions at a pace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// What.
    pub(super) kind: Kind,
    /// How often a second; as fast as possible where there is none.
    pub(super) rate: Option<u32>,
    /// How often in all.
    pub(super) count: u32,
}

impl Load {
    /// Applies it and returns how long that took.
    pub(super) fn apply(&self) -> Result<Duration> {
        match self.kind {
            Kind::Process => self.paced(|| {
                let status = Command::new("/bin/true")
                    .status()
                    .context("/bin/true cannot be started")?;
                if !status.success() {
                    bail!("/bin/true ended with {status}");
                }
                Ok(())
            }),
            Kind::Connection => {
                let listener = TcpListener::bind("127.0.0.1:0")?;
                let address = listener.local_addr()?;
                let count = self.count;
                let server = thread::spawn(move || serve(&listener, count));
                let taken = self.paced(|| {
                    let mut connection = TcpStream::connect(address)?;
                    connection.write_all(b"request")?;
                    let mut answer = Vec::new();
                    connection.read_to_end(&mut answer)?;
                    Ok(())
                })?;
                match server.join() {
                    Ok(outcome) => outcome?,
                    Err(_) => bail!("the load's server panicked"),
                }
                Ok(taken)
            }
        }
    }

    fn paced(&self, mut once: impl FnMut() -> Result<()>) -> Result<Duration> {
        let started = Instant::now();
        for number in 0..self.count {
            if let Some(rate) = self.rate {
                let due = Duration::from_secs(1) / rate * number;
                thread::sleep(due.saturating_sub(started.elapsed()));
            }
            once()?;
        }
        Ok(started.elapsed())
    }
}

/// The server closes first, so that the load's many ports wait on its side, under one port.
fn serve(listener: &TcpListener, count: u32) -> std::io::Result<()> {
    let mut request = [0; 7];
    for _ in 0..count {
        let (mut connection, _) = listener.accept()?;
        connection.read_exact(&mut request)?;
        connection.write_all(b"answer")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_load_run_to_their_end() {
        for kind in [Kind::Process, Kind::Connection] {
            Load {
                kind,
                rate: None,
                count: 5,
            }
            .apply()
            .unwrap();
        }
    }
}
