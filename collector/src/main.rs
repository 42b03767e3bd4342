//! The `hostledger-collector` command.
fn main() {}
