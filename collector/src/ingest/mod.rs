//! Ingest: the QUIC socket, and one task for each agent's connection.
//!
//! Owns sockets, bounds and the certificate's identity. What a session means is `common::session`'s to say;
//! what is stored, the pipeline's.

mod connection;
mod outbox;
mod prove;
mod queue;
mod refuse;
mod server;
mod socket;
pub mod tls;

pub use self::{
    queue::pool,
    refuse::close,
    server::{BindError, Context, Server},
};
