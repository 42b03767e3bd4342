//! `hostledger-agent`: parses the command line, builds, runs. Logic lives in the library.

fn main() {
    eprintln!("hostledger-agent {}: nothing runs yet", env!("CARGO_PKG_VERSION"));
}
