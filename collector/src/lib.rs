//! The collector: ingest, merge into the ledger, projections, queries.
//!
//! Owns sockets and threads around the pure machines of `common` and the storage of `ledger`. Refuses to
//! decide anything about batches itself: what is accepted, in which order and what is acknowledged is said by
//! [`common`]'s machines, which the simulation drives without any of this.

pub mod anchor;
pub mod api;
pub mod command;
pub mod config;
pub mod control;
pub mod cosign;
pub mod enrolment;
pub mod evidence;
pub mod files;
pub mod findings;
pub mod http;
pub mod https;
pub mod ingest;
pub mod keys;
pub mod layout;
pub mod mailbox;
pub mod metrics;
pub mod pipeline;
pub mod pki;
pub mod projection;
pub mod query;
pub mod reasons;
pub mod register;
pub mod registry;
pub mod retention;
pub mod service;
pub mod stop;
pub mod witness;
